"""From watts or from a need to a plan for one pool, whatever its replicas are doing now."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

from steppe.control.plan import AwakeBounds, Plan
from steppe.control.state import Observation, ReplicaState
from steppe.frontier.group import Counts, Group, Want
from steppe.frontier.mix import best_counts, best_mix, least_counts
from steppe.frontier.pareto import Frontier

EVERYTHING = (Want(1.0, math.inf),)
"""Every token is worth the same, and there can never be too many."""
DRAIN_ROOM = 2
"""A replica that drains counts as one with so many times its requests: prompts that it has not
computed yet draw more than the mean."""
LEAST_TPS = 1e-9
"""An output that no sleeping fleet gives, tokens/s."""


@dataclass(frozen=True, slots=True)
class Need:
    """What a pool should be able to do.

    Attributes:
        output_tps: Output tokens per second at saturation.
        slots: Sequences decoded at once.
    """

    output_tps: float
    slots: int


@dataclass(frozen=True, slots=True)
class Goal:
    """What a plan should reach.

    Attributes:
        need: What must be covered at the least draw; None for as many tokens as there can be.
        bounds: How many replicas may be awake, if the budget allows.
    """

    need: Need | None
    bounds: AwakeBounds


@dataclass(frozen=True, slots=True)
class Planner:
    """Makes plans for the replicas of one pool.

    Attributes:
        frontier: Operating points of one replica.
        drain_w: Draw of a replica that drains with a full batch, W.
    """

    frontier: Frontier
    drain_w: float

    def plan(self, seen: Observation, goal: Goal) -> Plan:
        """Return the plan with the least draw that covers the need, or else the most tokens."""
        plan = self._beside(seen, goal, may_drain=True)
        if plan.draining and not plan.feasible:
            return self._beside(seen, goal, may_drain=False)
        return self._with_room_to_drain(seen, plan)

    def others_w(self, seen: Observation, *, may_drain: bool) -> float:
        """Return the draw of the replicas that cannot serve, W.

        Args:
            seen: The fleet.
            may_drain: Whether those that drain go on; otherwise they sleep.
        """
        tally = seen.tally
        drains_w = self._drains_w(seen) if may_drain else tally.draining * self.frontier.asleep_w
        # What starts, now or next, may draw as much as an idle replica until it can be told.
        return drains_w + tally.coming * self.frontier.idle_w

    def within(self, budget_w: float, replicas: int, bounds: AwakeBounds) -> Plan:
        """Return the plan with the most tokens whose draw is at most `budget_w`.

        Args:
            budget_w: Watts for all `replicas`, the sleeping ones included.
            replicas: Replicas that may be awake or asleep.
            bounds: How many of them may be awake; the budget is stronger.
        """
        asleep_w = self.frontier.asleep_w
        group = Group.awake_or_asleep(self.frontier, replicas, EVERYTHING)
        counts = best_counts([group], budget_w)
        if counts is None:
            return Plan((), replicas * asleep_w, feasible=replicas * asleep_w <= budget_w)
        plan = _plan(group, counts[0])
        awake = bounds.nearest(len(plan.awake))
        if awake == len(plan.awake):
            return plan
        sleeping_w = (replicas - awake) * asleep_w
        mix = best_mix(self.frontier, awake, budget_w - sleeping_w)
        if mix is None:
            return plan
        return Plan(mix, sum(point.draw_w for point in mix) + sleeping_w)

    def covering(self, need: Need, replicas: int, bounds: AwakeBounds) -> Plan | None:
        """Return the plan with the least draw that covers `need`; None when none does."""
        group = Group.awake_or_asleep(self.frontier, replicas, EVERYTHING)
        # One replica at least: with none, nobody would notice the first request.
        found = least_counts(group, max(need.output_tps, LEAST_TPS), need.slots)
        if found is None:
            return None
        plan = _plan(group, found)
        awake = bounds.nearest(len(plan.awake))
        if awake == len(plan.awake):
            return plan
        running = Group.awake(self.frontier, awake)
        counts = least_counts(running, need.output_tps, need.slots)
        if counts is None:
            return None
        sleeping_w = (replicas - awake) * self.frontier.asleep_w
        return Plan(running.points(counts), running.draw_w(counts) + sleeping_w)

    def _drains_w(self, seen: Observation) -> float:
        """Return the draw of those that drain, each at the least point that holds its requests."""
        # Counted by what they hold: a decision must not cost more on a larger fleet.
        held = Counter(r.outstanding for r in seen.replicas if r.state == ReplicaState.DRAINING)
        return sum(number * self._drain_w(requests) for requests, number in held.items())

    def _drain_w(self, requests: int) -> float:
        room = DRAIN_ROOM * requests
        roomy = (point.draw_w for point in self.frontier.points if point.batch_limit >= room)
        return min([self.drain_w, *roomy])

    def _beside(self, seen: Observation, goal: Goal, *, may_drain: bool) -> Plan:
        """Return the best plan beside the replicas that start, and those that may drain."""
        tally, budget_w = seen.tally, seen.budget_w
        others_w = self.others_w(seen, may_drain=may_drain)
        plan = None
        if goal.need is not None:
            plan = self.covering(goal.need, tally.usable, goal.bounds)
        if plan is None or plan.draw_w + others_w > budget_w:
            plan = self.within(budget_w - others_w, tally.usable, goal.bounds)
        draining = tally.draining if may_drain else 0
        return Plan(plan.awake, plan.draw_w + others_w, draining, plan.feasible)

    def _with_room_to_drain(self, seen: Observation, plan: Plan) -> Plan:
        """Lower the plan so that replicas that must leave can finish, where that is possible."""
        tally, budget_w = seen.tally, seen.budget_w
        leaving = tally.awake - len(plan.awake)
        if leaving <= 0 or not plan.awake:
            return plan
        room_w = leaving * (self.drain_w - self.frontier.asleep_w)
        if plan.draw_w + room_w <= budget_w:
            return Plan(plan.awake, plan.draw_w + room_w, plan.draining + leaving)
        others_w = self.others_w(seen, may_drain=plan.draining > 0)
        awake = AwakeBounds(len(plan.awake), len(plan.awake))
        lower = self.within(budget_w - others_w - room_w, tally.usable, awake)
        if len(lower.awake) != len(plan.awake):
            return plan
        return Plan(lower.awake, lower.draw_w + others_w + room_w, plan.draining + leaving)


def _plan(group: Group, counts: Counts) -> Plan:
    return Plan(group.points(counts), group.draw_w(counts))
