"""Batch limits that stay where they are: every change of one stirs up the draw."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import lru_cache

from steppe.control.plan import AwakeBounds, Plan
from steppe.control.policy.policies import BoundedPolicy
from steppe.control.state import Observation, ReplicaState
from steppe.errors import InfeasibleError
from steppe.frontier.group import ReplicaGroup
from steppe.frontier.mix import Mix, best_counts
from steppe.frontier.pareto import Frontier

LEAST_GAIN, LEAST_GAIN_OF_ONE = 0.005, 0.2
"""Batch limits change only for this much more output, share of it; in a fleet of N for the Nth part
of what one replica must gain, where that is more: its draw strays N times as far as theirs."""
_REMEMBERED = 64


@dataclass(frozen=True, slots=True)
class StickyBatchLimits(BoundedPolicy):
    """Follows the budget by clocks alone where other batch limits would gain next to nothing.

    A replica whose batch limit falls computes no prompts until enough requests have finished, some
    seconds, and one whose limit rises computes many at once: the draw strays either way. A clock
    moves it by what was planned, at once. Keeps no memory.

    Attributes:
        inner: The policy to ask.
        frontier: Operating points of one replica.
    """

    inner: BoundedPolicy
    frontier: Frontier

    def decide_among(self, observation: Observation, bounds: AwakeBounds) -> Plan:
        """Return the inner plan, or one with the batch limits that are set if it is as good."""
        plan = self.inner.decide_among(observation, bounds)
        if not observation.work_waits or len(plan.awake) != observation.count(ReplicaState.AWAKE):
            return plan
        held = Counter(
            [r.batch_limit for r in observation.replicas if r.state == ReplicaState.AWAKE]
        )
        if held == Counter([point.batch_limit for point in plan.awake]):
            return plan
        others_w = plan.draw_w - sum(point.draw_w for point in plan.awake)
        mix = self._mix(held, observation.gpu_budget_w - others_w)
        least_gain = max(LEAST_GAIN, LEAST_GAIN_OF_ONE / len(observation.replicas))
        if sum(point.output_tps for point in mix) < plan.output_tps * (1 - least_gain):
            return plan
        return replace(plan, awake=mix, draw_w=others_w + sum(point.draw_w for point in mix))

    def _mix(self, held: Counter[int], draw_w: float) -> Mix:
        """Return the best points with so many replicas at each batch limit; none if none fit."""
        of_limit = {limit: at_limit(self.frontier, limit) for limit in held}
        groups = [
            ReplicaGroup.awake(frontier, held[limit])
            for limit, frontier in of_limit.items()
            if frontier is not None
        ]
        counts = best_counts(groups, draw_w) if len(groups) == len(held) else None
        if counts is None:
            return ()
        points = [p for g, c in zip(groups, counts, strict=True) for p in g.points(c)]
        return tuple(sorted(points, key=lambda point: -point.draw_w))


@lru_cache(_REMEMBERED)
def at_limit(frontier: Frontier, batch_limit: int) -> Frontier | None:
    """Return the points with a batch limit; None where there are none."""
    points = [point for point in frontier.candidates if point.batch_limit == batch_limit]
    try:
        return Frontier.of(points, frontier.asleep_w, frontier.idle_w, frontier.source)
    except InfeasibleError:
        return None
