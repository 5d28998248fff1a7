"""The rows of a job: read once, then claimed by a runner, or put back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sql

from steppe.batch.row import DUPLICATE, BadRow, Claim, Row, RowResult
from steppe.batch.store.chunks import chunks
from steppe.batch.store.part import StorePart
from steppe.batch.store.results import add_results, lock_job
from steppe.batch.store.tables import (
    BODIES,
    FAILED,
    IS_RUNNING,
    IS_WAITING,
    ROWS,
    RUNNING,
    TOTALS,
    WAITING,
)
from steppe.errors import InputChangedError

_UPDATE_ROW = sql.update(ROWS).where(
    ROWS.c.job == sql.bindparam("of_job"), ROWS.c.number == sql.bindparam("of_number")
)


class RowPart(StorePart):
    """Adds rows, gives them to runners and takes them back."""

    def add_rows(self, job_id: str, rows: Iterable[Row | BadRow], at_epoch_s: float = 0.0) -> int:
        """Add rows, in chunks; those that are there already stay as they are.

        A bad row is finished at once, as failed. So is a row whose custom id another row of the
        job has: the first one counts. A load that was cut short is repeated from its beginning.

        Args:
            job_id: The job.
            rows: Its rows; their numbers have no gap.
            at_epoch_s: The time, s, for the results of bad rows.

        Returns:
            How many were added.

        Raises:
            InputChangedError: A row of this number is there already and is another one.
            UsageError: There is no such job.
        """
        added = 0
        for chunk in chunks(rows):
            with self._database.write() as connection:
                number = lock_job(connection, job_id)
                added += _add_chunk(connection, number, chunk, at_epoch_s)
        return added

    def claim(self, job_id: str, count: int, owner: str) -> list[Claim]:
        """Take waiting rows in run order; they are running from now on.

        Args:
            job_id: The job.
            count: Most rows to take.
            owner: The runner's name.

        Raises:
            UsageError: There is no such job.
        """
        with self._database.write() as connection:
            number = lock_job(connection, job_id)
            same = (BODIES.c.job == ROWS.c.job) & (BODIES.c.number == ROWS.c.number)
            found = (
                sql.select(ROWS, BODIES.c.endpoint, BODIES.c.body)
                .join(BODIES, same)
                .where(ROWS.c.job == number, IS_WAITING)
                .order_by(ROWS.c.run_order, ROWS.c.number)
                .limit(count)
            )
            rows = connection.execute(found).mappings().all()
            if rows:
                taken = [{"of_job": number, "of_number": row["number"]} for row in rows]
                connection.execute(_UPDATE_ROW.values(state=RUNNING, owner=owner), taken)
        return [_claim(row) for row in rows]

    def put_back(
        self,
        job_id: str,
        numbers: Sequence[int],
        replica: str | None = None,
        *,
        counts_as_attempt: bool,
        wasted_j: float = 0.0,
    ) -> int:
        """Let running rows wait again.

        Args:
            job_id: The job.
            numbers: The rows; those that do not run stay as they are.
            replica: The replica at which they failed, to be remembered.
            counts_as_attempt: Whether an attempt is used up.
            wasted_j: Energy that each of them has taken for nothing, J.

        Returns:
            How many wait again.

        Raises:
            UsageError: There is no such job.
        """
        with self._database.write() as connection:
            number = lock_job(connection, job_id)
            found = sql.select(ROWS.c.number, ROWS.c.failed_replicas).where(
                ROWS.c.job == number, IS_RUNNING, ROWS.c.number.in_(list(numbers))
            )
            changes = [
                {
                    "of_job": number,
                    "of_number": row.number,
                    "replicas": _with_replica(row.failed_replicas, replica),
                }
                for row in connection.execute(found)
            ]
            if changes:
                change = _UPDATE_ROW.values(
                    state=WAITING,
                    owner=None,
                    attempts=ROWS.c.attempts + int(counts_as_attempt),
                    wasted_j=ROWS.c.wasted_j + wasted_j,
                    failed_replicas=sql.bindparam("replicas"),
                )
                connection.execute(change, changes)
            return len(changes)

    def release(
        self, job_id: str, owner: str | None = None, *, counts_as_attempt: bool = False
    ) -> int:
        """Let the running rows of a runner that is gone wait again.

        Args:
            job_id: The job.
            owner: The runner's name; None for the rows of all runners.
            counts_as_attempt: Whether an attempt of each is used up.

        Returns:
            How many wait again.

        Raises:
            UsageError: There is no such job.
        """
        attempts = ROWS.c.attempts + int(counts_as_attempt)
        with self._database.write() as connection:
            change = sql.update(ROWS).where(ROWS.c.job == lock_job(connection, job_id), IS_RUNNING)
            if owner is not None:
                change = change.where(ROWS.c.owner == owner)
            change = change.values(state=WAITING, owner=None, attempts=attempts)
            return connection.execute(change).rowcount


def _add_chunk(
    connection: sql.Connection, job: int, chunk: Sequence[Row | BadRow], at_epoch_s: float
) -> int:
    new = _without_known(connection, job, chunk)
    if not new:
        return 0
    known_ids = _known_ids(connection, job, new)
    rows, bodies, failed = [], [], []
    for row in new:
        bad = row if isinstance(row, BadRow) else None
        if isinstance(row, Row):
            if row.custom_id in known_ids:
                reason = f"asked for unique custom ids, found {row.custom_id!r} a second time"
                bad = BadRow(row.number, row.custom_id, reason, DUPLICATE)
            else:
                known_ids.add(row.custom_id)
                bodies.append(_body(job, row))
        if bad is not None:
            failed.append(_failed(bad, at_epoch_s))
        rows.append(_row(job, row, WAITING if bad is None else FAILED))
    connection.execute(sql.insert(ROWS), rows)
    if bodies:
        connection.execute(sql.insert(BODIES), bodies)
    grown = sql.update(TOTALS).where(TOTALS.c.job == job)
    connection.execute(grown.values(total=TOTALS.c.total + len(new)))
    add_results(connection, job, failed)
    return len(new)


def _without_known(
    connection: sql.Connection, job: int, chunk: Sequence[Row | BadRow]
) -> list[Row | BadRow]:
    numbers = [row.number for row in chunk]
    found = sql.select(ROWS.c.number, ROWS.c.key).where(
        ROWS.c.job == job, ROWS.c.number.between(min(numbers), max(numbers))
    )
    keys = {row.number: row.key for row in connection.execute(found)}
    for row in chunk:
        if keys.get(row.number, _key(row)) != _key(row):
            message = f"found row {row.number + 1} ({row.custom_id!r}) changed"
            raise InputChangedError(f"asked to go on with the same input, {message}")
    return [row for row in chunk if row.number not in keys]


def _known_ids(connection: sql.Connection, job: int, new: Sequence[Row | BadRow]) -> set[str]:
    """Return which custom ids other rows have; a bad line may have any."""
    ids = [row.custom_id for row in new if isinstance(row, Row)]
    found = sql.select(ROWS.c.custom_id).where(
        ROWS.c.job == job, ROWS.c.custom_id.in_(ids), ROWS.c.key != ""
    )
    return set(connection.scalars(found))


def _key(row: Row | BadRow) -> str:
    return row.key if isinstance(row, Row) else ""


def _row(job: int, row: Row | BadRow, state: int) -> dict[str, Any]:
    return {
        "job": job,
        "number": row.number,
        "custom_id": row.custom_id,
        "key": _key(row),
        "run_order": row.run_order if isinstance(row, Row) else "",
        "state": state,
    }


def _body(job: int, row: Row) -> dict[str, Any]:
    return {"job": job, "number": row.number, "endpoint": row.endpoint, "body": row.body}


def _failed(row: BadRow, at_epoch_s: float) -> RowResult:
    return RowResult(
        row.number,
        row.custom_id,
        error_code=row.code,
        error=row.reason,
        started_epoch_s=at_epoch_s,
        ended_epoch_s=at_epoch_s,
    )


def _claim(row: Mapping[Any, Any]) -> Claim:
    names = ("number", "custom_id", "endpoint", "body", "key", "run_order")
    return Claim(
        Row(**{name: row[name] for name in names}),
        row["attempts"],
        tuple(json.loads(row["failed_replicas"])),
        row["wasted_j"],
    )


def _with_replica(kept: str, replica: str | None) -> str:
    replicas = json.loads(kept)
    if replica is not None and replica not in replicas:
        replicas.append(replica)
    return json.dumps(replicas)
