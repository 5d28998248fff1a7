"""Board power limits of a live fleet: from the plan of a tick to the GPUs of each node."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from steppe.control.plan import Plan
from steppe.control.power_limits import LimitedGpu, PowerLimiter
from steppe.control.state import ReplicaState
from steppe.fleet.controller.replica_handle import ReplicaHandle
from steppe.fleet.messages import ReplicaPowerLimits

WITHOUT_WORK = frozenset({ReplicaState.ASLEEP, ReplicaState.GONE, ReplicaState.QUARANTINED})
"""States of replicas whose GPUs need no more than their lowest limits."""


class BoardLimits:
    """Divides the budget into board limits every tick, and sends each node its part.

    GPUs without a board power limit, or whose limits nothing on their node may set, are left out;
    what their replicas draw is taken off the budget of the others.

    Attributes:
        by_replica_w: Sum of the limits of each replica's GPUs in the last tick, W, by name.
    """

    def __init__(
        self, budget_w: Callable[[float], float], period_s: float, deadman_s: float
    ) -> None:
        """Begin without a tick.

        Args:
            budget_w: Returns the budget of the GPUs at a time, as far as it is known now, W.
            period_s: Control period, s.
            deadman_s: Replicas pause by themselves after so long without a tick, s.
        """
        self._budget_w, self._unlimited_w = budget_w, 0.0
        self._limiter = PowerLimiter(self._left_w, period_s, deadman_s)
        self.by_replica_w: dict[str, float] = {}

    def send(
        self,
        plan: Plan,
        handles: Mapping[str, ReplicaHandle],
        lent_w: Mapping[str, float],
        nodes: Mapping[str, Any],
        now_s: float,
    ) -> None:
        """Send each node the limits of its GPUs; waits for none.

        Args:
            plan: The plan of this tick, which has been carried out.
            handles: The replicas, by name.
            lent_w: What replicas draw at most that are lent to a measurement, W.
            nodes: The node actors.
            now_s: The time of the tick, s.
        """
        plans = plan.pools or {"": plan}
        by_point = {
            (name, point.clock_mhz, point.batch_limit): point.draw_w
            for name, of_pool in plans.items()
            for point in of_pool.awake
        }
        limited: list[LimitedGpu] = []
        self._unlimited_w = 0.0
        for handle in handles.values():
            expected_w = _expected_w(handle, by_point, lent_w)
            if handle.placement.power_ranges_w:
                limited += _gpus_of(handle, expected_w, is_lent=handle.name in lent_w)
            else:
                self._unlimited_w += expected_w
        schedule = self._limiter.schedule(limited, now_s)
        self.by_replica_w = {
            handle.name: sum(schedule.limits_w[name][0] for name in names)
            for handle in handles.values()
            if (names := _names(handle))
        }
        of_nodes: defaultdict[str, dict[str, tuple[tuple[float, ...], ...]]] = defaultdict(dict)
        for handle in handles.values():
            if names := _names(handle):
                limits_w = tuple(schedule.limits_w[name] for name in names)
                of_nodes[handle.placement.node_id][handle.name] = limits_w
        for node in of_nodes.keys() & nodes.keys():  # others are off
            limits_of_node = of_nodes[node]
            message = ReplicaPowerLimits(schedule.after_s, limits_of_node, schedule.keep_s)
            nodes[node].follow_power_limits.remote(message, time.monotonic())

    def _left_w(self, at_s: float) -> float:
        return max(0.0, self._budget_w(at_s) - self._unlimited_w)


def _names(handle: ReplicaHandle) -> list[str]:
    """Return the names of those GPUs of a replica that are limited."""
    return [f"{handle.name}/{rank}" for rank in range(len(handle.placement.power_ranges_w))]


def _expected_w(
    handle: ReplicaHandle,
    by_point: Mapping[tuple[str, int, int], float],
    lent_w: Mapping[str, float],
) -> float:
    """Return the draw of a replica that the plan expects, W."""
    if handle.name in lent_w:
        return max(lent_w[handle.name], handle.assumed_w)
    if handle.state == ReplicaState.AWAKE:
        limits = (handle.placement.pool, handle.clock_mhz, handle.batch_limit)
        return by_point.get(limits, handle.assumed_w)
    return handle.assumed_w


def _gpus_of(handle: ReplicaHandle, expected_w: float, *, is_lent: bool) -> Iterable[LimitedGpu]:
    ranges_w = handle.placement.power_ranges_w
    asleep = handle.state in WITHOUT_WORK and not is_lent
    return [
        LimitedGpu(name, lowest_w, highest_w, expected_w / len(ranges_w), asleep)
        for name, (lowest_w, highest_w) in zip(_names(handle), ranges_w, strict=True)
    ]
