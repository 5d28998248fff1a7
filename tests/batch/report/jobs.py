"""Jobs that have run, as a store and a timeline show them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest

from steppe.batch.job import Job, JobState, RowCounts, When
from steppe.batch.report.timeline import JobProgress, TimelinePoint
from steppe.batch.row import RowResult, StoredResult

MADE_S = 1_700_000_000.0
"""When the jobs were made, s since the Unix epoch."""
NOTHING = JobProgress(0, 0, 0, 0, 0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class FakeRecords:
    """A store with one job."""

    only: Job
    rows: Sequence[RowResult]

    def job(self, job_id: str) -> Job | None:
        return self.only if job_id == self.only.id else None

    def counts(self, _job_id: str) -> RowCounts:
        failed = sum(row.failed for row in self.rows)
        return RowCounts(len(self.rows), 0, 0, len(self.rows) - failed, failed)

    def results(self, _job_id: str) -> Iterator[StoredResult]:
        return (StoredResult(place, row) for place, row in enumerate(self.rows, start=1))


def job(**changes: Any) -> Job:
    ended = {JobState.COMPLETED: MADE_S + 1000.0}
    whole = Job(
        "batch_1",
        "lab",
        "m",
        "/v1/chat/completions",
        When.SURPLUS,
        MADE_S,
        state=JobState.COMPLETED,
        entered=ended,
    )
    return replace(whole, **changes)


def row(number: int, begun_s: float, ended_s: float, energy_j: float, **changes: Any) -> RowResult:
    """Return a row that ran from and until some seconds after its job was made."""
    whole = RowResult(
        number,
        f"row-{number}",
        200,
        prompt_tokens=10,
        output_tokens=20,
        energy_j=energy_j,
        energy_source="emulated",
        boundary="gpu",
        started_epoch_s=MADE_S + begun_s,
        ended_epoch_s=MADE_S + ended_s,
        attempts=1,
    )
    return replace(whole, **changes)


def points(
    *, supply_w: dict[float, float], draw_w: float, firm_w: float = 0.0, step_s: float = 10.0
) -> list[TimelinePoint]:
    """Return a timeline; the supply changes at some seconds after the job was made."""
    times_s = [number * step_s for number in range(int(1000.0 / step_s) + 1)]
    watts = [
        [offered_w for from_s, offered_w in supply_w.items() if from_s < max(at_s, 1e-9)][-1]
        for at_s in times_s
    ]
    return [
        TimelinePoint(
            MADE_S + at_s,
            "a",
            NOTHING,
            supply_w=offered_w,
            firm_w=firm_w,
            surplus_w=offered_w - firm_w,
            site_draw_w=draw_w,
            budget_w=900.0,
            draw_w=draw_w,
            energy_source="emulated",
            boundary="gpu",
        )
        for at_s, offered_w in zip(times_s, watts, strict=True)
    ]


def about(value: float) -> Any:
    """Return what compares equal to a value within one part in a thousand."""
    return pytest.approx(value, rel=1e-3, abs=1e-6)
