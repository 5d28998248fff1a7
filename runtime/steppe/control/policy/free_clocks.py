"""Replicas whose clock cannot be limited, among others whose clock can: plans count what they draw.

A node without permission, or one GPU, must not cost the whole fleet its clocks. A plan gives every
replica a clock; one that cannot keep it runs at the highest, and draws more than its point.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from steppe.control.plan import AwakeBounds, Plan
from steppe.control.policy.goals import Goal
from steppe.control.state import Observation, ReplicaState
from steppe.frontier.pareto import Frontier
from steppe.roofline.point import OperatingPoint

TRIES = 8
"""Plans for fewer watts that are tried to find the best that fits with what it really draws."""
_USABLE = frozenset({ReplicaState.AWAKE, ReplicaState.DRAINING, ReplicaState.ASLEEP})


@dataclass(frozen=True)
class CountFreeClocks:
    """A goal whose plans fit the watts although some replicas cannot keep the clock of their point.

    Any replica may get any point, so those with the largest difference count.

    Attributes:
        goal: Chooses plans as if every clock could be limited.
        frontier: Operating points of one replica: how much more a point draws at the highest clock.
    """

    goal: Goal
    frontier: Frontier

    def best_plan(self, observation: Observation, usable_w: float, bounds: AwakeBounds) -> Plan:
        """Return the best plan that fits; its draw is what the replicas really draw."""
        free = sum(r.clock_is_free and r.state in _USABLE for r in observation.replicas)
        most = self._with_draw(self.goal.best_plan(observation, usable_w, bounds), free)
        if not free or most.draw_w <= usable_w:
            return most
        # A plan for so many watts less fits whatever its points are.
        most_w = free * (self._highest_w - self.frontier.floor.draw_w)
        tried = [
            self._with_draw(self.goal.best_plan(observation, max(0.0, less_w), bounds), free)
            for less_w in (usable_w - most_w * number / TRIES for number in range(1, TRIES + 1))
        ]
        fitting = [plan for plan in tried if plan.draw_w <= usable_w]
        return max(fitting, key=lambda plan: plan.output_tps, default=tried[-1])

    def _with_draw(self, plan: Plan, free: int) -> Plan:
        """Return a plan with the draw that it really has, so that the feedback compares with it."""
        return replace(plan, draw_w=plan.draw_w + self.more_w(plan, free)) if free else plan

    def more_w(self, plan: Plan, free: int) -> float:
        """Return how much more a plan draws if so many replicas run at the highest clock, W."""
        return sum(sorted(map(self._more_of, plan.awake), reverse=True)[:free])

    def _more_of(self, point: OperatingPoint) -> float:
        """Return how much more a point draws at the highest clock, W.

        A point for requests of other lengths draws more or less than that of the frontier with the
        same limits, by the same share at both clocks. Unknown points count with the largest draw.
        """
        known, free = (point.clock_mhz, point.batch_limit), (self._highest_mhz, point.batch_limit)
        if known not in self._draws_w or free not in self._draws_w:
            return max(0.0, self.frontier.full.draw_w - point.draw_w)
        share = self._draws_w[free] / self._draws_w[known]
        return max(0.0, point.draw_w * (share - 1))

    @cached_property
    def _highest_w(self) -> float:
        return max(point.draw_w for point in self.frontier.candidates)

    @cached_property
    def _highest_mhz(self) -> int:
        return max(point.clock_mhz for point in self.frontier.candidates)

    @cached_property
    def _draws_w(self) -> dict[tuple[int, int], float]:
        return {(p.clock_mhz, p.batch_limit): p.draw_w for p in self.frontier.candidates}
