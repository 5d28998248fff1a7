"""What gateway and nodes have measured, in the form that plans use."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace

from steppe.control.measurements import ClockWork, LatencyCounts
from steppe.fleet.controller.replica_handle import ReplicaHandle
from steppe.fleet.messages import ReplicaReport


def engine_queue(handles: Iterable[ReplicaHandle]) -> int:
    """Return the requests that engines have not admitted; prompts in progress do not wait."""
    return sum(handle.waiting for handle in handles)


def work_by_clock(reports: Iterable[ReplicaReport]) -> tuple[ClockWork, ...]:
    """Return the work of steps, summed by clock, the lowest first."""
    found: defaultdict[int, list[ClockWork]] = defaultdict(list)
    for report in reports:
        if report.work is not None:
            found[report.work.clock_mhz].append(report.work)
    return tuple(_sum(clock_mhz, found[clock_mhz]) for clock_mhz in sorted(found))


def _sum(clock_mhz: int, works: list[ClockWork]) -> ClockWork:
    return ClockWork(
        clock_mhz=clock_mhz,
        steps=sum(work.steps for work in works),
        prefill_steps=sum(work.prefill_steps for work in works),
        sequences=sum(work.sequences for work in works),
        prompt_tokens=sum(work.prompt_tokens for work in works),
        context_tokens=sum(work.context_tokens for work in works),
        busy_s=sum(work.busy_s for work in works),
        energy_j=sum(work.energy_j for work in works),
    )


class LatencyTotals:
    """The gateway's counts against the SLO, which go on when a gateway restarts at 0."""

    __slots__ = ("_before", "_last")

    def __init__(self) -> None:
        """Begin at 0."""
        self._before = self._last = LatencyCounts()

    def update(self, counts: LatencyCounts) -> LatencyCounts:
        """Return the totals, with the newest counts of the gateway."""
        if counts.first_tokens < self._last.first_tokens or counts.ended < self._last.ended:
            self._before = _plus(self._before, self._last)
        self._last = counts
        return _plus(self._before, counts)


def _plus(before: LatencyCounts, counts: LatencyCounts) -> LatencyCounts:
    return replace(
        counts,
        first_tokens=before.first_tokens + counts.first_tokens,
        late=before.late + counts.late,
        ended=before.ended + counts.ended,
        slow=before.slow + counts.slow,
    )
