"""Jobs, their states and their leases."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sql

from steppe.batch.job import ExportMark, Job, JobState, JobTotals, RowCounts, When
from steppe.batch.store.part import StorePart, number_of
from steppe.batch.store.tables import (
    BODIES,
    EXPORTS,
    IS_RUNNING,
    JOBS,
    RESULTS,
    ROWS,
    TOTALS,
)
from steppe.errors import JobBusyError, UsageError

_DELETED_AT_ONCE = 10_000
_COLUMNS = ("id", "tenant", "state", "created_epoch_s", "deadline_epoch_s")
_DOCUMENT = tuple(field.name for field in fields(Job) if field.name not in _COLUMNS)


class JobPart(StorePart):
    """Adds jobs and moves them from state to state."""

    def add_job(self, job: Job) -> None:
        """Add a job without rows.

        Raises:
            UsageError: There is one of this id.
        """
        with self._database.write() as connection:
            if _read(connection, job.id) is not None:
                raise UsageError(f"asked to add job {job.id}, found it already")
            added = connection.execute(sql.insert(JOBS), _columns(job))
            number = added.inserted_primary_key
            assert number is not None
            connection.execute(sql.insert(TOTALS), {"job": number[0]})

    def job(self, job_id: str) -> Job | None:
        """Return a job; None if there is none of this id."""
        with self._database.read() as connection:
            return _read(connection, job_id)

    def jobs(
        self,
        tenant: str | None = None,
        *,
        after: str | None = None,
        limit: int | None = None,
        states: Collection[JobState] | None = None,
    ) -> list[Job]:
        """Return jobs, the newest first.

        Args:
            tenant: Whose; None for those of all.
            after: Id of the job after which they begin.
            limit: Most that are returned.
            states: Only those in one of these states.

        Raises:
            UsageError: There is no job of the id `after`.
        """
        found = sql.select(JOBS).order_by(JOBS.c.number.desc()).limit(limit)
        if tenant is not None:
            found = found.where(JOBS.c.tenant == tenant)
        if states is not None:
            found = found.where(JOBS.c.state.in_([str(state) for state in states]))
        with self._database.read() as connection:
            if after is not None:
                found = found.where(JOBS.c.number < number_of(connection, after))
            return [_job(row) for row in connection.execute(found).mappings()]

    def update_job(self, job_id: str, **changes: Any) -> Job:
        """Replace fields of a job, not its id, tenant or state; return it as it is then.

        Raises:
            UsageError: There is no such job.
        """
        assert not {"id", "tenant", "state", "created_epoch_s"} & changes.keys()
        with self._database.write() as connection:
            return _change(connection, job_id, changes)

    def change_state(
        self,
        job_id: str,
        state: JobState,
        at_epoch_s: float,
        from_states: Collection[JobState],
        **changes: Any,
    ) -> bool:
        """Move a job to a state, if it is in one of some states.

        Args:
            job_id: The job.
            state: The new state.
            at_epoch_s: The time, s.
            from_states: States from which it may go there.
            changes: Other fields of the job to replace in the same transaction.

        Returns:
            Whether it has moved.

        Raises:
            UsageError: There is no such job.
        """
        with self._database.write() as connection:
            job = _read(connection, job_id, locked=True)
            if job is None:
                raise UsageError(f"asked for job {job_id}, found none of this id")
            if job.state not in from_states:
                return False
            entered = {**job.entered, state: at_epoch_s}
            _change(connection, job_id, {**changes, "state": state, "entered": entered})
            return True

    def delete_job(self, job_id: str) -> bool:
        """Delete a job with its rows and results, in several transactions, the job last.

        Returns:
            Whether there was one.
        """
        if self.job(job_id) is None:
            return False
        for table in (BODIES, RESULTS, ROWS):
            while self._delete_some(job_id, table):
                pass
        with self._database.write() as connection:
            number = number_of(connection, job_id)
            for table in (EXPORTS, TOTALS):
                connection.execute(sql.delete(table).where(table.c.job == number))
            connection.execute(sql.delete(JOBS).where(JOBS.c.number == number))
        return True

    def _delete_some(self, job_id: str, table: sql.Table) -> int:
        with self._database.write() as connection:
            job = number_of(connection, job_id)
            first = sql.select(sql.func.min(table.c.number)).where(table.c.job == job)
            begin = connection.scalar(first)
            if begin is None:
                return 0
            rows = sql.delete(table).where(table.c.job == job)
            some = rows.where(table.c.number < begin + _DELETED_AT_ONCE)
            return connection.execute(some).rowcount

    def counts(self, job_id: str) -> RowCounts:
        """Return how many rows of a job are where.

        Raises:
            UsageError: There is no such job.
        """
        with self._database.read() as connection:
            number = number_of(connection, job_id)
            running = connection.scalar(
                sql.select(sql.func.count()).where(ROWS.c.job == number, IS_RUNNING)
            )
            kept = connection.execute(sql.select(TOTALS).where(TOTALS.c.job == number)).one()
        waiting = kept.total - kept.completed - kept.failed - (running or 0)
        return RowCounts(kept.total, waiting, running or 0, kept.completed, kept.failed)

    def totals(self, job_id: str) -> JobTotals:
        """Return tokens and joules of the finished rows of a job.

        Raises:
            UsageError: There is no such job.
        """
        with self._database.read() as connection:
            number = number_of(connection, job_id)
            found = sql.select(*(TOTALS.c[field.name] for field in fields(JobTotals)))
            return JobTotals(*connection.execute(found.where(TOTALS.c.job == number)).one())

    def lease(self, job_id: str, owner: str, now_epoch_s: float, ttl_s: float) -> None:
        """Take or renew the right to run a job.

        Args:
            job_id: The job.
            owner: A name of this runner that no other has.
            now_epoch_s: The time, s.
            ttl_s: How long the right lasts, s.

        Raises:
            JobBusyError: Another runner has it.
            UsageError: There is no such job.
        """
        lease = JOBS.c
        free = lease.lease_owner.is_(None) | (lease.lease_owner == owner)
        mine = sql.update(JOBS).where(
            lease.id == job_id, free | (lease.lease_until_epoch_s <= now_epoch_s)
        )
        until_epoch_s = now_epoch_s + ttl_s
        with self._database.write() as connection:
            number_of(connection, job_id)
            taken = {"lease_owner": owner, "lease_until_epoch_s": until_epoch_s}
            if connection.execute(mine, taken).rowcount:
                return
            found = sql.select(lease.lease_owner, lease.lease_until_epoch_s)
            other, other_until_s = connection.execute(found.where(lease.id == job_id)).one()
        until = datetime.fromtimestamp(other_until_s, UTC).isoformat(timespec="seconds")
        raise JobBusyError(f"asked to run job {job_id}, found it run by {other} until {until}")

    def end_lease(self, job_id: str, owner: str) -> bool:
        """Give the right to run a job back; return whether this owner had it."""
        mine = sql.update(JOBS).where(JOBS.c.id == job_id, JOBS.c.lease_owner == owner)
        with self._database.write() as connection:
            ended = connection.execute(mine, {"lease_owner": None, "lease_until_epoch_s": None})
            return bool(ended.rowcount)

    def lease_owner(self, job_id: str, now_epoch_s: float) -> str | None:
        """Return the runner of a job; None if its lease is free or has ended."""
        found = sql.select(JOBS.c.lease_owner).where(
            JOBS.c.id == job_id, JOBS.c.lease_until_epoch_s > now_epoch_s
        )
        with self._database.read() as connection:
            return connection.scalar(found)

    def export_mark(self, job_id: str, name: str) -> ExportMark:
        """Return how far an output file has got; at its beginning if it was never begun.

        Raises:
            UsageError: There is no such job.
        """
        columns = (EXPORTS.c[field.name] for field in fields(ExportMark))
        with self._database.read() as connection:
            number = number_of(connection, job_id)
            found = sql.select(*columns).where(EXPORTS.c.job == number, EXPORTS.c.name == name)
            row = connection.execute(found).one_or_none()
        return ExportMark() if row is None else ExportMark(*row)

    def mark_exports(self, job_id: str, marks: Mapping[str, ExportMark]) -> None:
        """Record how far output files have got, all in one transaction.

        Raises:
            UsageError: There is no such job.
        """
        with self._database.write() as connection:
            number = number_of(connection, job_id)
            of_job = sql.delete(EXPORTS).where(EXPORTS.c.job == number)
            connection.execute(of_job.where(EXPORTS.c.name.in_(list(marks))))
            rows = [
                {
                    "job": number,
                    "name": name,
                    "position": mark.position,
                    "offset": mark.offset,
                    "rows": mark.rows,
                }
                for name, mark in marks.items()
            ]
            connection.execute(sql.insert(EXPORTS), rows)


def _read(connection: sql.Connection, job_id: str, *, locked: bool = False) -> Job | None:
    found = sql.select(JOBS).where(JOBS.c.id == job_id)
    if locked:
        found = found.with_for_update()
    row = connection.execute(found).mappings().one_or_none()
    return None if row is None else _job(row)


def _change(connection: sql.Connection, job_id: str, changes: Mapping[str, Any]) -> Job:
    job = _read(connection, job_id, locked=True)
    if job is None:
        raise UsageError(f"asked for job {job_id}, found none of this id")
    values = {field.name: getattr(job, field.name) for field in fields(Job)}
    changed = Job(**{**values, **changes})
    connection.execute(sql.update(JOBS).where(JOBS.c.id == job_id), _columns(changed))
    return changed


def _columns(job: Job) -> dict[str, Any]:
    document = {name: getattr(job, name) for name in _DOCUMENT}
    return {
        **{name: getattr(job, name) for name in _COLUMNS},
        "state": str(job.state),
        "document": json.dumps(document),
    }


def _job(row: Mapping[Any, Any]) -> Job:
    document = json.loads(row["document"])
    known = {name: document[name] for name in _DOCUMENT if name in document}
    entered = {JobState(name): at_s for name, at_s in known.pop("entered", {}).items()}
    columns = {name: row[name] for name in _COLUMNS if name != "state"}
    return Job(
        **columns,
        **{**known, "when": When(known["when"])},
        state=JobState(row["state"]),
        entered=entered,
    )
