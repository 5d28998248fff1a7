"""What gateway and nodes have measured, in the form that plans use."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from steppe.control.measurements import LatencyCounts
from steppe.fleet.controller.replica_handle import ReplicaHandle


def engine_queue(handles: Iterable[ReplicaHandle]) -> int:
    """Return the requests that engines have not admitted; prompts in progress do not wait."""
    return sum(handle.waiting for handle in handles)


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
