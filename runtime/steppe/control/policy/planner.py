"""From watts or from a need to a plan for one pool, whatever its replicas are doing now."""

from __future__ import annotations

import heapq
import math
from collections import Counter
from dataclasses import dataclass, replace

from steppe.control.plan import AwakeBounds, Plan
from steppe.control.state import COMING, Observation, ReplicaCounts, ReplicaState
from steppe.frontier.group import Counts, ReplicaGroup, TokenDemand
from steppe.frontier.mix import best_counts, best_mix, least_counts
from steppe.frontier.pareto import Frontier

EVERYTHING = (TokenDemand(1.0, math.inf),)
"""Every token is worth the same, and there can never be too many."""
DRAIN_ROOM = 2
"""A replica that drains counts as one with so many times its requests: prompts that it has not
computed yet draw more than the mean."""
FINISHING_SHARE = 1 / 16
"""Share of a fleet that may finish frozen requests at once, beside those that serve."""
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

    def plan(self, observation: Observation, goal: Goal) -> Plan:
        """Return the plan with the least draw that covers the need, or else the most tokens."""
        tally = observation.tally
        plan, returning = (
            self._draining(observation, tally, goal),
            self._returning(observation, tally, goal),
        )
        if returning is not None and _worth(goal, returning) >= _worth(goal, plan):
            plan = returning
        return self._finishing(observation, tally, plan) or plan

    def others_w(self, observation: Observation, *, may_drain: bool) -> float:
        """Return the draw of the replicas that cannot serve, W.

        Args:
            observation: The fleet.
            may_drain: Whether those that drain go on; otherwise they sleep.
        """
        return self._others_w(observation, observation.tally, may_drain=may_drain)

    def within(self, budget_w: float, replicas: int, bounds: AwakeBounds) -> Plan:
        """Return the plan with the most tokens whose draw is at most `budget_w`.

        Args:
            budget_w: Watts for all `replicas`, the sleeping ones included.
            replicas: Replicas that may be awake or asleep.
            bounds: How many of them may be awake, at least so many of those there are; the
                budget is stronger: of more than it holds, as many as it does.
        """
        asleep_w = self.frontier.asleep_w
        group = ReplicaGroup.awake_or_asleep(self.frontier, replicas, EVERYTHING)
        counts = best_counts([group], budget_w)
        if counts is None:
            return Plan((), replicas * asleep_w, feasible=replicas * asleep_w <= budget_w)
        plan = _plan(group, counts[0])
        awake = min(replicas, bounds.nearest(len(plan.awake)))
        awake = min(awake, max(len(plan.awake), self._most_awake(budget_w, replicas)))
        if awake == len(plan.awake):
            return plan
        sleeping_w = (replicas - awake) * asleep_w
        mix = best_mix(self.frontier, awake, budget_w - sleeping_w)
        if mix is None:
            return plan
        return Plan(mix, sum(point.draw_w for point in mix) + sleeping_w)

    def _most_awake(self, budget_w: float, replicas: int) -> int:
        """Return how many of the replicas may be awake at the least point."""
        each_w = self.frontier.floor.draw_w - self.frontier.asleep_w
        return math.floor((budget_w - replicas * self.frontier.asleep_w) / each_w)

    def covering(self, need: Need, replicas: int, bounds: AwakeBounds) -> Plan | None:
        """Return the plan with the least draw that covers `need`; None when none does."""
        group = ReplicaGroup.awake_or_asleep(self.frontier, replicas, EVERYTHING)
        # One replica at least: with none, nobody would notice the first request.
        found = least_counts(group, max(need.output_tps, LEAST_TPS), need.slots)
        if found is None:
            return None
        plan = _plan(group, found)
        awake = min(replicas, bounds.nearest(len(plan.awake)))
        if awake == len(plan.awake):
            return plan
        running = ReplicaGroup.awake(self.frontier, awake)
        counts = least_counts(running, need.output_tps, need.slots)
        if counts is None:
            return None
        sleeping_w = (replicas - awake) * self.frontier.asleep_w
        return Plan(running.points(counts), running.draw_w(counts) + sleeping_w)

    def _others_w(
        self, observation: Observation, tally: ReplicaCounts, *, may_drain: bool
    ) -> float:
        drains_w = tally.draining * self.frontier.asleep_w
        if may_drain and tally.draining:
            drains_w = self._drains_w(observation)
        return drains_w + self._coming_w(observation, tally)

    def _coming_w(self, observation: Observation, tally: ReplicaCounts) -> float:
        """Return the draw of those that start or are gone: what an idle one draws at least, W."""
        if not tally.coming:
            return 0.0
        coming = (r for r in observation.replicas if r.state in COMING)
        return sum(max(self.frontier.idle_w, replica.starting_w) for replica in coming)

    def _drains_w(self, observation: Observation) -> float:
        """Return the draw of those that drain, each at the least point that holds its requests."""
        # Counted by what they hold: a decision must not cost more on a larger fleet.
        drain = (r for r in observation.replicas if r.state == ReplicaState.DRAINING)
        held = Counter(r.outstanding for r in drain if r.outstanding)
        return sum(number * self._drain_w(requests) for requests, number in held.items())

    def _drain_w(self, requests: int) -> float:
        room = DRAIN_ROOM * requests
        roomy = (point.draw_w for point in self.frontier.points if point.batch_limit >= room)
        return min([self.drain_w, *roomy])

    def _draining(self, observation: Observation, tally: ReplicaCounts, goal: Goal) -> Plan:
        """Return the plan in which replicas that drain go on, if there is power for it."""
        drain = _Others(
            tally.usable, self._others_w(observation, tally, may_drain=True), tally.draining
        )
        plan = self._beside(drain, observation.gpu_budget_w, goal)
        if plan.draining and not plan.feasible:
            sleep = _Others(tally.usable, self._others_w(observation, tally, may_drain=False), 0)
            return self._beside(sleep, observation.gpu_budget_w, goal)
        leaving = tally.awake - len(plan.awake)
        return self._with_room(drain, observation.gpu_budget_w, plan, leaving) or plan

    def _finishing(self, observation: Observation, tally: ReplicaCounts, plan: Plan) -> Plan | None:
        """Return the plan beside which frozen replicas finish their requests, a few at a time.

        None where nobody is frozen, where they wake to serve, or where there is no power for it.
        """
        if not plan.awake or len(plan.awake) > tally.awake or not tally.asleep:
            return None
        asleep = (
            r for r in observation.replicas if r.state == ReplicaState.ASLEEP and r.outstanding
        )
        few = math.ceil(FINISHING_SHARE * len(observation.replicas)) - plan.draining
        frozen = heapq.nsmallest(max(0, few), asleep, key=lambda r: r.since_s)
        if not frozen:
            return None
        asleep_w = self.frontier.asleep_w
        beside_w = plan.draw_w - sum(point.draw_w for point in plan.awake)
        beside_w += sum(self._drain_w(r.outstanding) - asleep_w for r in frozen)
        mix = best_mix(self.frontier, len(plan.awake), observation.gpu_budget_w - beside_w)
        if mix is None:
            return None
        draw_w = beside_w + sum(point.draw_w for point in mix)
        return replace(plan, awake=mix, draw_w=draw_w, draining=plan.draining + len(frozen))

    def _returning(self, observation: Observation, tally: ReplicaCounts, goal: Goal) -> Plan | None:
        """Return the plan in which replicas that drain serve again, where more are wanted.

        The others among them go on draining. None where no more are wanted than serve, or
        where they would have no room to drain.
        """
        if not tally.draining:
            return None
        others = _Others(tally.usable + tally.draining, self._coming_w(observation, tally), 0)
        plan = self._beside(others, observation.gpu_budget_w, goal)
        if len(plan.awake) <= tally.awake:
            return None
        leaving = tally.awake + tally.draining - len(plan.awake)
        return self._with_room(others, observation.gpu_budget_w, plan, leaving)

    def _beside(self, others: _Others, budget_w: float, goal: Goal) -> Plan:
        """Return the best plan beside those that cannot serve."""
        plan = None
        if goal.need is not None:
            plan = self.covering(goal.need, others.usable, goal.bounds)
        if plan is None or plan.draw_w + others.draw_w > budget_w:
            plan = self.within(budget_w - others.draw_w, others.usable, goal.bounds)
        return replace(plan, draw_w=plan.draw_w + others.draw_w, draining=others.draining)

    def _with_room(self, others: _Others, budget_w: float, plan: Plan, leaving: int) -> Plan | None:
        """Lower a plan so that those that must leave can finish; None where that is impossible."""
        if leaving <= 0 or not plan.awake:
            return plan
        room_w = leaving * (self.drain_w - self.frontier.asleep_w)
        draining = plan.draining + leaving
        if plan.draw_w + room_w <= budget_w:
            return replace(plan, draw_w=plan.draw_w + room_w, draining=draining)
        awake = AwakeBounds(len(plan.awake), len(plan.awake))
        lower = self.within(budget_w - others.draw_w - room_w, others.usable, awake)
        if len(lower.awake) != len(plan.awake):
            return None
        draw_w = lower.draw_w + others.draw_w + room_w
        return Plan(lower.awake, draw_w, draining)


@dataclass(frozen=True, slots=True)
class _Others:
    """What a plan is made beside.

    Attributes:
        usable: Replicas that the plan may have awake or asleep.
        draw_w: Draw of the others, W.
        draining: Those of the others that drain.
    """

    usable: int
    draw_w: float
    draining: int


def _worth(goal: Goal, plan: Plan) -> tuple[float, float]:
    """Return what is better the larger it is: tokens as far as they are needed, then less draw."""
    most_tps = math.inf if goal.need is None else goal.need.output_tps
    return min(plan.output_tps, most_tps), -plan.draw_w


def _plan(group: ReplicaGroup, counts: Counts) -> Plan:
    return Plan(group.points(counts), group.draw_w(counts))
