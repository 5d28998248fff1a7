"""From watts, or from a need, to a plan for one pool, whatever its replicas do now."""

from __future__ import annotations

import heapq
import math
from collections import Counter
from dataclasses import dataclass, replace
from itertools import chain, groupby

from steppe.control.plan import AwakeBounds, Plan
from steppe.control.state import COMING, Observation, ReplicaCounts, ReplicaState
from steppe.frontier.at_lengths import PointsAtLengths
from steppe.frontier.group import Counts, ReplicaGroup, TokenDemand
from steppe.frontier.mix import Mix, best_counts, best_mix, least_counts
from steppe.frontier.pareto import Frontier

EVERYTHING = (TokenDemand(1.0, math.inf),)
"""Every token has the same value, without a limit."""
DRAIN_ROOM = 2
"""A draining replica counts as one with this many times its requests: prompts that it has not
computed yet draw more than the mean."""
FINISHING_SHARE = 1 / 16
"""Share of a fleet that may finish frozen requests at once, besides the replicas that serve."""
LEAST_TPS = 1e-9
"""An output above that of a sleeping fleet, tokens/s."""


@dataclass(frozen=True, slots=True)
class Need:
    """What a pool should be able to serve.

    Attributes:
        output_tps: Output tokens per second at saturation.
        slots: Sequences decoded at once.
    """

    output_tps: float
    slots: int


@dataclass(frozen=True, slots=True)
class PlanTarget:
    """What a plan should reach.

    Attributes:
        need: What must be covered at the least draw; None for as many tokens as possible.
        bounds: How many replicas may be awake, if the watts cover that many.
    """

    need: Need | None
    bounds: AwakeBounds


@dataclass(frozen=True, slots=True)
class Planner:
    """Makes plans for the replicas of one pool.

    Attributes:
        frontier: Operating points of one replica.
        drain_w: Draw of a replica that drains with a full batch, W.
        points: The points for the requests that come now, with the loads that keep the SLO; None
            if only full batches are known.
    """

    frontier: Frontier
    drain_w: float
    points: PointsAtLengths | None = None

    def plan(self, observation: Observation, usable_w: float, target: PlanTarget) -> Plan:
        """Return the plan with the least draw that covers the need, or else the most tokens."""
        plan = self._drains_continue(observation, usable_w, target)
        serving_again = self._drains_serve_again(observation, usable_w, target)
        if serving_again is not None and _worth(target, serving_again) >= _worth(target, plan):
            plan = serving_again
        return self._with_frozen_finishing(observation, usable_w, plan) or plan

    def others_w(self, observation: Observation, *, may_drain: bool) -> float:
        """Return the draw of the replicas that cannot serve, W.

        Args:
            observation: The fleet.
            may_drain: Whether draining replicas continue; otherwise they sleep.
        """
        counts = observation.counts
        drains_w = counts.draining * self.frontier.asleep_w
        if may_drain and counts.draining:
            drains_w = self._drains_w(observation)
        return drains_w + self._coming_w(observation, counts)

    def within(self, usable_w: float, replicas: int, bounds: AwakeBounds) -> Plan:
        """Return the plan with the most tokens whose draw is at most `usable_w`.

        Args:
            usable_w: Watts for all `replicas`, the sleeping ones included.
            replicas: Replicas that may be awake or asleep.
            bounds: How many of them may be awake. The watts are stronger: where they do not cover
                the least number, as many are awake as they cover.
        """
        asleep_w = self.frontier.asleep_w
        group = ReplicaGroup.awake_or_asleep(self.frontier, replicas, EVERYTHING)
        counts = best_counts([group], usable_w)
        if counts is None:
            return Plan((), replicas * asleep_w, feasible=replicas * asleep_w <= usable_w)
        plan = _plan(group, counts[0])
        awake = min(replicas, bounds.nearest(len(plan.awake)))
        awake = min(awake, max(len(plan.awake), self._most_awake(usable_w, replicas)))
        if awake == len(plan.awake):
            return plan
        sleeping_w = (replicas - awake) * asleep_w
        mix = best_mix(self.frontier, awake, usable_w - sleeping_w)
        if mix is None:
            return plan
        return Plan(mix, sum(point.draw_w for point in mix) + sleeping_w)

    def covering(self, need: Need, replicas: int, bounds: AwakeBounds) -> Plan | None:
        """Return the plan with the least draw that covers `need`; None if none does.

        Where loads that keep the SLO are known, these cover the need, and the draw under them is
        the least; the draw of the plan is that of full batches.
        """
        frontier = self._covering
        group = ReplicaGroup.awake_or_asleep(frontier, replicas, EVERYTHING)
        # At least one replica stays awake, or the first request would have to wait for a wake.
        found = least_counts(group, max(need.output_tps, LEAST_TPS), need.slots)
        if found is None:
            return None
        points = group.points(found)
        awake = min(replicas, bounds.nearest(len(points)))
        if awake != len(points):
            running = ReplicaGroup.awake(frontier, awake)
            counts = least_counts(running, need.output_tps, need.slots)
            if counts is None:
                return None
            points = running.points(counts)
        full = self._with_full_batches(points)
        draw_w = sum(point.draw_w for point in full) + (replicas - awake) * self.frontier.asleep_w
        return Plan(full, draw_w)

    @property
    def _covering(self) -> Frontier:
        """The points that cover a need."""
        sustained = None if self.points is None else self.points.sustained
        return sustained or self.frontier

    def _with_full_batches(self, points: Mix) -> Mix:
        """Return what points give with full batches, the largest draw first."""
        if self.points is None or self.points.sustained is None:
            return points
        at_full = self.points.at_full
        runs = [[at_full[point]] * len(tuple(same)) for point, same in groupby(points)]
        runs.sort(key=lambda run: -run[0].draw_w)
        return tuple(chain.from_iterable(runs))

    def _most_awake(self, usable_w: float, replicas: int) -> int:
        """Return how many of the replicas may be awake at the lowest point."""
        each_w = self.frontier.floor.draw_w - self.frontier.asleep_w
        return math.floor((usable_w - replicas * self.frontier.asleep_w) / each_w)

    def _coming_w(self, observation: Observation, counts: ReplicaCounts) -> float:
        """Return the draw of replicas that start or are gone, at least that of idle ones, W."""
        if not counts.coming:
            return 0.0
        coming = (r for r in observation.replicas if r.state in COMING)
        return sum(max(self.frontier.idle_w, replica.starting_w) for replica in coming)

    def _drains_w(self, observation: Observation) -> float:
        """Return the draw of draining replicas, each at the lowest point with enough places."""
        # Grouped by their requests: a decision must not cost more on a larger fleet.
        draining = (r for r in observation.replicas if r.state == ReplicaState.DRAINING)
        held = Counter(r.outstanding for r in draining if r.outstanding)
        return sum(number * self._drain_w(requests) for requests, number in held.items())

    def _drain_w(self, requests: int) -> float:
        room = DRAIN_ROOM * requests
        roomy = (point.draw_w for point in self.frontier.points if point.batch_limit >= room)
        return min([self.drain_w, *roomy])

    def _drains_continue(
        self, observation: Observation, usable_w: float, target: PlanTarget
    ) -> Plan:
        """Return the plan in which draining replicas continue, if the watts cover them."""
        counts = observation.counts
        others_w = self.others_w(observation, may_drain=True)
        others = _Others(counts.usable, others_w, counts.draining)
        plan = self._beside(others, usable_w, target)
        if plan.draining and not plan.feasible:
            asleep_w = self.others_w(observation, may_drain=False)
            return self._beside(_Others(counts.usable, asleep_w, 0), usable_w, target)
        leaving = counts.awake - len(plan.awake)
        return self._with_room(others, usable_w, plan, leaving) or plan

    def _drains_serve_again(
        self, observation: Observation, usable_w: float, target: PlanTarget
    ) -> Plan | None:
        """Return the plan in which draining replicas serve again, if more are needed.

        The others of them continue to drain. None if no more are needed than serve now, or if
        the others would have no watts to drain.
        """
        counts = observation.counts
        if not counts.draining:
            return None
        coming_w = self._coming_w(observation, counts)
        others = _Others(counts.usable + counts.draining, coming_w, 0)
        plan = self._beside(others, usable_w, target)
        if len(plan.awake) <= counts.awake:
            return None
        leaving = counts.awake + counts.draining - len(plan.awake)
        return self._with_room(others, usable_w, plan, leaving)

    def _with_frozen_finishing(
        self, observation: Observation, usable_w: float, plan: Plan
    ) -> Plan | None:
        """Return the plan beside which a few frozen replicas finish their requests.

        None if none is frozen, if more replicas wake to serve, or if the watts do not cover it.
        """
        counts = observation.counts
        if not plan.awake or len(plan.awake) > counts.awake or not counts.asleep:
            return None
        asleep = (
            r for r in observation.replicas if r.state == ReplicaState.ASLEEP and r.outstanding
        )
        few = math.ceil(FINISHING_SHARE * len(observation.replicas)) - plan.draining
        frozen = heapq.nsmallest(max(0, few), asleep, key=lambda r: r.since_s)
        if not frozen:
            return None
        others_w = plan.draw_w - sum(point.draw_w for point in plan.awake)
        others_w += sum(self._drain_w(r.outstanding) - self.frontier.asleep_w for r in frozen)
        mix = best_mix(self.frontier, len(plan.awake), usable_w - others_w)
        if mix is None:
            return None
        draw_w = others_w + sum(point.draw_w for point in mix)
        return replace(plan, awake=mix, draw_w=draw_w, draining=plan.draining + len(frozen))

    def _beside(self, others: _Others, usable_w: float, target: PlanTarget) -> Plan:
        """Return the best plan beside the replicas that cannot serve."""
        plan = None
        if target.need is not None:
            plan = self.covering(target.need, others.usable, target.bounds)
        if plan is None or plan.draw_w + others.draw_w > usable_w:
            plan = self.within(usable_w - others.draw_w, others.usable, target.bounds)
        return replace(plan, draw_w=plan.draw_w + others.draw_w, draining=others.draining)

    def _with_room(self, others: _Others, usable_w: float, plan: Plan, leaving: int) -> Plan | None:
        """Lower a plan so that replicas that leave can finish; None if that is impossible."""
        if leaving <= 0 or not plan.awake:
            return plan
        room_w = leaving * (self.drain_w - self.frontier.asleep_w)
        draining = plan.draining + leaving
        if plan.draw_w + room_w <= usable_w:
            return replace(plan, draw_w=plan.draw_w + room_w, draining=draining)
        awake = AwakeBounds(len(plan.awake), len(plan.awake))
        lower = self.within(usable_w - others.draw_w - room_w, others.usable, awake)
        if len(lower.awake) != len(plan.awake):
            return None
        draw_w = lower.draw_w + others.draw_w + room_w
        return Plan(lower.awake, draw_w, draining)


@dataclass(frozen=True, slots=True)
class _Others:
    """The replicas beside which a plan is made.

    Attributes:
        usable: Replicas that the plan may have awake or asleep.
        draw_w: Draw of the other replicas, W.
        draining: How many of the others drain.
    """

    usable: int
    draw_w: float
    draining: int


def _worth(target: PlanTarget, plan: Plan) -> tuple[float, float]:
    """Return the order of plans: needed tokens first, then less draw."""
    most_tps = math.inf if target.need is None else target.need.output_tps
    return min(plan.output_tps, most_tps), -plan.draw_w


def _plan(group: ReplicaGroup, counts: Counts) -> Plan:
    return Plan(group.points(counts), group.draw_w(counts))
