"""Policies: from what is seen to what is wanted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from steppe.control.plan import Plan
from steppe.control.state import Observation, ReplicaState
from steppe.frontier.mix import best_mix
from steppe.frontier.pareto import Frontier

SPARE_SHARE = 0.25
"""Capacity kept above the demand while nothing waits, share of the demand."""

_SEARCH_STEPS = 24


class Policy(Protocol):
    """Chooses a plan."""

    def decide(self, seen: Observation) -> Plan:
        """Return the plan to hold until the next tick."""
        ...


@dataclass(frozen=True, slots=True)
class FollowBudget:
    """Serve as many tokens as the budget buys, and no more than are asked for.

    While requests wait, the plan with the most tokens within the budget; otherwise the plan
    with the least draw that covers the demand. Keeps no memory.

    Attributes:
        frontier: Operating points of one replica.
        drain_w: Draw of a replica that drains, W.
    """

    frontier: Frontier
    drain_w: float

    def decide(self, seen: Observation) -> Plan:
        """Return the plan to hold until the next tick."""
        usable = seen.count(ReplicaState.AWAKE, ReplicaState.ASLEEP)
        return self.decide_among(seen, range(1, usable + 1))

    def decide_among(self, seen: Observation, awake_counts: Sequence[int]) -> Plan:
        """Return the best plan with as many awake replicas as one of `awake_counts`."""
        draining = seen.count(ReplicaState.DRAINING)
        plan = self._beside(seen, awake_counts, draining)
        if draining and not plan.feasible:
            return self._beside(seen, awake_counts, 0)
        return self._with_room_to_drain(seen, plan)

    def _beside(self, seen: Observation, awake_counts: Sequence[int], draining: int) -> Plan:
        """Return the best plan beside the replicas that start, and those that may drain."""
        usable = seen.count(ReplicaState.AWAKE, ReplicaState.ASLEEP)
        frozen = seen.count(ReplicaState.DRAINING) - draining
        # What starts, now or next, may draw as much as an idle replica until it can be told.
        starting = seen.count(ReplicaState.STARTING, ReplicaState.GONE)
        others_w = (
            draining * self.drain_w
            + frozen * self.frontier.asleep_w
            + starting * self.frontier.idle_w
        )
        most = self.within(seen.budget_w - others_w, usable, awake_counts)
        plan = most if seen.work_waits else self._no_more_than_asked(most, seen, awake_counts)
        return Plan(plan.awake, plan.draw_w + others_w, draining, plan.feasible)

    def _with_room_to_drain(self, seen: Observation, plan: Plan) -> Plan:
        """Lower the plan so that replicas that must leave can finish, where that is possible."""
        leaving = seen.count(ReplicaState.AWAKE) - len(plan.awake)
        if leaving <= 0 or not plan.awake:
            return plan
        usable = seen.count(ReplicaState.AWAKE, ReplicaState.ASLEEP)
        room_w = leaving * (self.drain_w - self.frontier.asleep_w)
        if plan.draw_w + room_w <= seen.budget_w:
            return Plan(plan.awake, plan.draw_w + room_w, plan.draining + leaving)
        others_w = plan.draw_w - sum(p.draw_w for p in plan.awake)
        others_w -= (usable - len(plan.awake)) * self.frontier.asleep_w
        lower = self.within(seen.budget_w - others_w - room_w, usable, (len(plan.awake),))
        if not lower.awake:
            return plan
        return Plan(lower.awake, lower.draw_w + others_w + room_w, plan.draining + leaving)

    def within(self, budget_w: float, replicas: int, awake_counts: Sequence[int]) -> Plan:
        """Return the plan with the most tokens whose draw is at most `budget_w`.

        Args:
            budget_w: Watts for all `replicas`, the sleeping ones included.
            replicas: Replicas that may be awake or asleep.
            awake_counts: How many of them may be awake, rising.
        """
        asleep_w = self.frontier.asleep_w
        best = Plan((), replicas * asleep_w, feasible=replicas * asleep_w <= budget_w)
        for awake in awake_counts:
            sleeping_w = (replicas - awake) * asleep_w
            mix = best_mix(self.frontier, awake, budget_w - sleeping_w)
            if mix is None:
                break
            plan = Plan(mix, sum(point.draw_w for point in mix) + sleeping_w)
            if plan.output_tps > best.output_tps:
                best = plan
        return best

    def _no_more_than_asked(
        self, most: Plan, seen: Observation, awake_counts: Sequence[int]
    ) -> Plan:
        """Return the plan with the least draw that covers the demand with some to spare.

        It also has room in its batches for every request that runs, so that none is held.
        """
        usable = seen.count(ReplicaState.AWAKE, ReplicaState.ASLEEP)
        wanted_tps = seen.demand_tps * (1 + SPARE_SHARE)
        wanted_slots = sum(replica.outstanding for replica in seen.replicas)

        def covers(plan: Plan) -> bool:
            return plan.output_tps >= wanted_tps and plan.slots >= wanted_slots

        if not covers(most):
            return most
        low_w, high_w, plan = usable * self.frontier.asleep_w, most.draw_w, most
        for _ in range(_SEARCH_STEPS):
            middle_w = (low_w + high_w) / 2
            candidate = self.within(middle_w, usable, awake_counts)
            if candidate.awake and covers(candidate):
                high_w, plan = middle_w, candidate
            else:
                low_w = middle_w
        return plan
