"""What gateway and nodes have measured, in the form that plans use."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from dataclasses import replace

from steppe.config import SiteSection
from steppe.control.measurements import LatencyCounts
from steppe.energy.node_rest import NodeRest
from steppe.fleet.controller.replica_handle import ReplicaHandle
from steppe.fleet.messages import NodeReport


def engine_queue(handles: Iterable[ReplicaHandle]) -> int:
    """Return the requests that engines have not admitted; prompts in progress do not wait."""
    return sum(handle.waiting for handle in handles)


def with_known_clock(handles: Iterable[ReplicaHandle]) -> list[str]:
    """Return the replicas whose clock can be limited, so that the clock of their steps is known."""
    return [handle.name for handle in handles if not handle.clock_is_free]


def mean_asleep_w(handles: Iterable[ReplicaHandle]) -> float | None:
    """Return the mean draw of sleeping replicas, W; None where none was metered asleep."""
    asleep_w = [handle.asleep_w for handle in handles if handle.asleep_w is not None]
    return sum(asleep_w) / len(asleep_w) if asleep_w else None


class NodeRests:
    """What the nodes draw beside their GPUs, as they reported it last."""

    def __init__(self, site: SiteSection) -> None:
        """Begin without a report: the stated figure counts for every node."""
        stale_s = math.inf if site.node_meter is None else site.node_meter.stale_s
        self._stated, self._stale_s = NodeRest(site.node_rest_w, 0.0, "stated"), stale_s
        self._latest: dict[str, tuple[NodeRest, float]] = {}

    def note(self, node: str, report: NodeReport, now_s: float) -> None:
        """Note a report of a node, read at `now_s`."""
        if report.rest is not None:
            self._latest[node] = report.rest, now_s

    def of(self, node: str, now_s: float) -> NodeRest:
        """Return the draw of a node; the stated figure if it has not reported for long."""
        rest, at_s = self._latest.get(node, (self._stated, math.inf))
        if now_s - at_s < self._stale_s:
            return rest
        return replace(self._stated, source="stale")

    def total(self, nodes: Collection[str], now_s: float) -> tuple[float, str]:
        """Return what is deducted for all nodes, W, and the worst source of it."""
        found = [self.of(node, now_s) for node in nodes]
        sources = {rest.source for rest in found}
        worst = next((s for s in ("stale", "stated") if s in sources), "measured")
        return sum(rest.most_w for rest in found), worst


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
