"""The results of a job: each row has at most one, and the first one counts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from typing import Any

import sqlalchemy as sql

from steppe.batch.row import RowResult, StoredResult
from steppe.batch.store.part import StorePart, number_of
from steppe.batch.store.tables import (
    COMPLETED,
    FAILED,
    IS_RUNNING,
    IS_WAITING,
    RESULTS,
    ROWS,
    RUNNING,
    TOTALS,
    WAITING,
)

_FIELDS = tuple(field.name for field in fields(RowResult))
_TEXTS = ("custom_id", "request_id", "error_code", "error", "replica", "model")
_SUMS = ("prompt_tokens", "cached_tokens", "output_tokens", "energy_j", "wasted_j")
_PAGE = 200
"""Results that are read at once; each may have a long body."""
_CHUNK = 1_000
"""Rows that are ended in one transaction."""


class ResultPart(StorePart):
    """Finishes rows and reads what became of them."""

    def finish(self, job_id: str, results: Sequence[RowResult]) -> int:
        """Record what became of rows, in one transaction: all of it is on disk, or nothing.

        A row that is finished already keeps its first result; the new one is dropped. A row that
        waits or that another runner has may be finished too: the first result counts.

        Args:
            job_id: The job.
            results: At most some thousand results.

        Returns:
            How many rows were finished.

        Raises:
            DiskFullError: No space is left; nothing was recorded.
            UsageError: There is no such job.
        """
        first = {result.number: result for result in reversed(results)}
        with self._database.write() as connection:
            job = lock_job(connection, job_id)
            found = sql.select(ROWS.c.number).where(
                ROWS.c.job == job,
                ROWS.c.number.in_(list(first)),
                ROWS.c.state.in_([WAITING, RUNNING]),
            )
            open_numbers = set(connection.scalars(found))
            new = [first[number] for number in first if number in open_numbers]
            new.reverse()  # in the order of `results`
            _end_rows(connection, job, new)
            return len(new)

    def fail_rest(self, job_id: str, error_code: str, error: str, at_epoch_s: float) -> int:
        """Finish all rows that are not finished, as failed, in several transactions.

        Args:
            job_id: The job.
            error_code: Why, such as `batch_expired`.
            error: The same in words, one line.
            at_epoch_s: The time, s.

        Returns:
            How many there were.

        Raises:
            DiskFullError: No space is left; those before it are finished.
            UsageError: There is no such job.
        """
        ended = 0
        like = RowResult(
            0,
            "",
            error_code=error_code,
            error=error,
            started_epoch_s=at_epoch_s,
            ended_epoch_s=at_epoch_s,
        )
        for state in (IS_WAITING, IS_RUNNING):
            while count := self._fail_some(job_id, state, like):
                ended += count
        return ended

    def _fail_some(self, job_id: str, state: sql.TextClause, like: RowResult) -> int:
        columns = (ROWS.c.number, ROWS.c.custom_id, ROWS.c.attempts, ROWS.c.wasted_j)
        with self._database.write() as connection:
            job = lock_job(connection, job_id)
            found = sql.select(*columns).where(ROWS.c.job == job, state).limit(_CHUNK)
            results = [
                replace(like, number=number, custom_id=name, attempts=attempts, wasted_j=wasted_j)
                for number, name, attempts, wasted_j in connection.execute(found)
            ]
            _end_rows(connection, job, results)
            return len(results)

    def adopt(self, job_id: str, from_job_id: str) -> int:
        """Take over answers of another job: those of rows with the same custom id and key.

        Their tokens and joules count for this job too.

        Returns:
            How many rows were finished so.

        Raises:
            UsageError: There is no such job.
        """
        adopted, after = 0, -1
        while True:
            with self._database.write() as connection:
                job, other = lock_job(connection, job_id), number_of(connection, from_job_id)
                results = _matching(connection, job, other, after)
                _end_rows(connection, job, results)
            if not results:
                return adopted
            adopted, after = adopted + len(results), results[-1].number

    def results(
        self, job_id: str, *, in_order: bool = False, after: int = 0
    ) -> Iterator[StoredResult]:
        """Yield results, with little memory; rows may be finished meanwhile.

        Args:
            job_id: The job.
            in_order: In the order of the input, up to the first row that is not finished; else in
                the order in which rows finished.
            after: Sequence of the last result that is known; in the order of the input the number
                of the first row to yield.

        Raises:
            UsageError: There is no such job.
        """
        place = RESULTS.c.number if in_order else RESULTS.c.sequence
        first = after if in_order else after + 1
        columns = (RESULTS.c.sequence, *(RESULTS.c[name] for name in _FIELDS))
        while True:
            with self._database.read() as connection:
                job = number_of(connection, job_id)
                found = sql.select(*columns).where(RESULTS.c.job == job, place >= first)
                page = connection.execute(found.order_by(place).limit(_PAGE)).all()
            for sequence, *values in page:
                result = RowResult(*values)
                if in_order and result.number != first:
                    return
                yield StoredResult(sequence, result)
                first = (result.number if in_order else sequence) + 1
            if len(page) < _PAGE:
                return


def lock_job(connection: sql.Connection, job_id: str) -> int:
    """Return the number of a job; until the transaction ends no other changes the job's rows.

    Raises:
        UsageError: There is no such job.
    """
    number = number_of(connection, job_id)
    connection.execute(sql.select(TOTALS.c.job).where(TOTALS.c.job == number).with_for_update())
    return number


def add_results(connection: sql.Connection, job: int, results: Sequence[RowResult]) -> None:
    """Add results of rows that have none, and count them; the job is locked."""
    if not results:
        return
    kept = sql.select(TOTALS.c.completed + TOTALS.c.failed).where(TOTALS.c.job == job)
    last = connection.scalar(kept) or 0
    rows = [
        {"job": job, "sequence": last + place, **_columns(result)}
        for place, result in enumerate(results, 1)
    ]
    connection.execute(sql.insert(RESULTS), rows)
    failed = sum(result.failed for result in results)
    counts = {"completed": len(results) - failed, "failed": failed}
    sums = {name: sum(getattr(result, name) for result in results) for name in _SUMS}
    grown = {name: TOTALS.c[name] + more for name, more in {**counts, **sums}.items()}
    times = _times(connection, job, results)
    connection.execute(sql.update(TOTALS).where(TOTALS.c.job == job).values(**grown, **times))


def _times(connection: sql.Connection, job: int, results: Sequence[RowResult]) -> dict[str, float]:
    """Return when the first row began and the last one ended, of those that ran."""
    ran = [result for result in results if result.attempts]
    if not ran:
        return {}
    columns = (TOTALS.c.first_started_epoch_s, TOTALS.c.last_ended_epoch_s)
    first_s, last_s = connection.execute(sql.select(*columns).where(TOTALS.c.job == job)).one()
    starts = [result.started_epoch_s for result in ran]
    ends = [result.ended_epoch_s for result in ran]
    return {
        "first_started_epoch_s": min(starts if first_s is None else [first_s, *starts]),
        "last_ended_epoch_s": max(ends if last_s is None else [last_s, *ends]),
    }


def _end_rows(connection: sql.Connection, job: int, results: Sequence[RowResult]) -> None:
    """Finish rows that are not finished; the job is locked."""
    if not results:
        return
    add_results(connection, job, results)
    change = sql.update(ROWS).where(
        ROWS.c.job == sql.bindparam("of_job"), ROWS.c.number == sql.bindparam("of_number")
    )
    ended = [
        {
            "of_job": job,
            "of_number": result.number,
            "state": FAILED if result.failed else COMPLETED,
            "owner": None,
        }
        for result in results
    ]
    connection.execute(change, ended)


def _matching(connection: sql.Connection, job: int, other: int, after: int) -> list[RowResult]:
    """Return answers of another job that fit rows of this job which wait."""
    old = ROWS.alias("old")
    same = (old.c.custom_id == ROWS.c.custom_id) & (old.c.key == ROWS.c.key)
    of_old = (RESULTS.c.job == old.c.job) & (RESULTS.c.number == old.c.number)
    found = (
        sql.select(ROWS.c.number, *(RESULTS.c[name] for name in _FIELDS if name != "number"))
        .select_from(ROWS)
        .join(old, (old.c.job == other) & same & (old.c.state == COMPLETED))
        .join(RESULTS, of_old)
        .where(ROWS.c.job == job, ROWS.c.number > after, ROWS.c.state == WAITING)
        .order_by(ROWS.c.number)
        .limit(_PAGE)
    )
    return [RowResult(*values) for values in connection.execute(found)]


def _columns(result: RowResult) -> dict[str, Any]:
    columns = {name: getattr(result, name) for name in _FIELDS}
    # PostgreSQL has no text with a NUL.
    return {**columns, **{name: columns[name].replace("\0", "\ufffd") for name in _TEXTS}}
