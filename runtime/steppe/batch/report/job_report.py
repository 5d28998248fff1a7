"""The report of a job: what it did, when it ran, and what its joules bought."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from steppe.batch.job import Job, JobState, RowCounts
from steppe.batch.report.power_series import PowerSeries, series_of
from steppe.batch.report.row_spans import RowSpans, spans_of
from steppe.batch.report.supply_shares import AtOnce, SupplyShares, at_once, supply_shares
from steppe.batch.report.timeline import TimelinePoint
from steppe.batch.row import RowResult, StoredResult
from steppe.energy.window import Quality, worst
from steppe.errors import UsageError

MOST_REASONS = 8
"""Most reasons of failed rows that a report lists."""


class JobRecords(Protocol):
    """Where a job and its results are read: the store."""

    def job(self, job_id: str) -> Job | None:
        """Return the job; None if there is none of this id."""

    def counts(self, job_id: str) -> RowCounts:
        """Return how many rows are where."""

    def results(self, job_id: str) -> Iterable[StoredResult]:
        """Return the results so far, in any order."""


@dataclass(slots=True)
class RowSums:
    """Sums over the results of a job.

    Attributes:
        prompt_tokens: Prompt tokens.
        cached_tokens: Those of them that a prefix cache held.
        output_tokens: Output tokens.
        energy_j: Energy of the attempts that gave the results, J.
        wasted_j: Energy of the other attempts, J.
        retried: Rows with more than one attempt.
        metered: Results with a known energy.
        sources: Sources of the energy.
        boundaries: What the energy encloses.
        reasons: How many rows failed for each reason.
    """

    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    energy_j: float = 0.0
    wasted_j: float = 0.0
    retried: int = 0
    metered: int = 0
    sources: set[str] = field(default_factory=set)
    boundaries: set[str] = field(default_factory=set)
    reasons: Counter[str] = field(default_factory=Counter)

    def add(self, result: RowResult) -> None:
        """Count a result."""
        self.prompt_tokens += result.prompt_tokens
        self.cached_tokens += result.cached_tokens
        self.output_tokens += result.output_tokens
        self.energy_j += result.energy_j
        self.wasted_j += result.wasted_j
        self.retried += result.attempts > 1
        if result.energy_source:
            self.metered += 1
            self.sources.add(result.energy_source)
            self.boundaries.add(result.boundary)
        if result.failed:
            self.reasons[result.error_code or f"HTTP {result.status}"] += 1

    @property
    def energy_source(self) -> str:
        """The worst source of the joules; empty without any."""
        known = [source for source in self.sources if source in list(Quality)]
        others = sorted(self.sources.difference(known))
        return others[0] if others else str(worst(known)) if known else ""

    @property
    def boundary(self) -> str:
        """What the joules enclose; empty without any."""
        return "+".join(sorted(self.boundaries))


@dataclass(frozen=True, slots=True)
class JobTimes:
    """When a job ran.

    Attributes:
        created_epoch_s: When it was made, s since the Unix epoch.
        begun_epoch_s: When its first row began; None before.
        ended_epoch_s: When it ended, or when the report was made.
        deadline_epoch_s: When it is due; None without a deadline.
        busy_s: Time in which at least one row ran, s.
    """

    created_epoch_s: float
    begun_epoch_s: float | None
    ended_epoch_s: float
    deadline_epoch_s: float | None
    busy_s: float

    @property
    def lasted_s(self) -> float:
        """Time from its making to its end, s."""
        return max(0.0, self.ended_epoch_s - self.created_epoch_s)

    @property
    def waited_s(self) -> float:
        """Time in which no row ran, s."""
        return max(0.0, self.lasted_s - self.busy_s)


@dataclass(frozen=True, slots=True, eq=False)
class JobReport:
    """The report of a job.

    Attributes:
        job: The job.
        counts: How many rows are where.
        sums: Sums over its results.
        times: When it ran.
        shares: Where its energy came from; None if unknown.
        at_once: What running without waiting would have done; None if unknown.
        series: Supply, budget and draw over its life.
    """

    job: Job
    counts: RowCounts
    sums: RowSums
    times: JobTimes
    shares: SupplyShares | None
    at_once: AtOnce | None
    series: PowerSeries

    @property
    def output_tokens_per_joule(self) -> float | None:
        """Output tokens for each joule of the attempts that gave them; None without joules."""
        return self.sums.output_tokens / self.sums.energy_j if self.sums.energy_j > 0 else None

    @property
    def joules_per_row(self) -> float | None:
        """Mean energy of a row with a known energy, without wasted energy, J; None without any."""
        return self.sums.energy_j / self.sums.metered if self.sums.metered else None

    @property
    def wasted_share(self) -> float | None:
        """Share of all joules that bought nothing; None without joules."""
        total_j = self.sums.energy_j + self.sums.wasted_j
        return self.sums.wasted_j / total_j if total_j > 0 else None

    @property
    def top_reasons(self) -> tuple[tuple[str, int], ...]:
        """The most frequent reasons of failed rows, and how many rows each has."""
        return tuple(self.sums.reasons.most_common(MOST_REASONS))


def report_of(
    records: JobRecords, job_id: str, timeline: Sequence[TimelinePoint], now_epoch_s: float
) -> JobReport:
    """Return the report of a job, which may still run.

    Args:
        records: The store of the job.
        job_id: The job.
        timeline: What its runners noted, in the order of time.
        now_epoch_s: Now, s since the Unix epoch.

    Raises:
        UsageError: There is no such job.
    """
    job, sums = records.job(job_id), RowSums()
    if job is None:
        raise UsageError(f"asked for the report of job {job_id}, found no such job")
    rows = spans_of(_added(sums, records.results(job_id)))
    end_s = _end_epoch_s(job, rows, now_epoch_s)
    series = series_of(rows, timeline, job.created_epoch_s, end_s)
    boundary = sums.boundary
    before_s, busy_s = rows.busy_until_s(np.array([job.created_epoch_s, end_s]))
    times = JobTimes(
        created_epoch_s=job.created_epoch_s,
        begun_epoch_s=_first_s(rows, job.created_epoch_s),
        ended_epoch_s=end_s,
        deadline_epoch_s=job.deadline_epoch_s,
        busy_s=float(busy_s - before_s),
    )
    return JobReport(
        job=job,
        counts=records.counts(job_id),
        sums=sums,
        times=times,
        shares=supply_shares(series, boundary),
        at_once=at_once(series, boundary),
        series=series,
    )


def _added(sums: RowSums, results: Iterable[StoredResult]) -> Iterator[RowResult]:
    for stored in results:
        sums.add(stored.result)
        yield stored.result


def _first_s(rows: RowSpans, created_s: float) -> float | None:
    """Return when the first row began; results of an earlier job that were taken over are older."""
    own_s = rows.begun_s[rows.begun_s >= created_s]
    return float(own_s.min()) if len(own_s) else None


def _end_epoch_s(job: Job, rows: RowSpans, now_epoch_s: float) -> float:
    """Return when a job ended; now while it has not."""
    last_s = float(rows.ended_s.max()) if len(rows.ended_s) else job.created_epoch_s
    entered_s = [at_s for state, at_s in job.entered.items() if JobState(state).ended]
    if job.state.ended:
        return max(last_s, *entered_s) if entered_s else last_s
    return max(last_s, now_epoch_s)
