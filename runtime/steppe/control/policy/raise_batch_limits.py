"""Batch limits as loose as the budget allows: a limit that binds nobody saves nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace

from steppe.control.plan import Plan
from steppe.control.policy.policies import Policy
from steppe.control.state import Observation
from steppe.frontier.pareto import Frontier
from steppe.roofline.point import OperatingPoint


@dataclass(frozen=True, slots=True)
class RaiseBatchLimits:
    """Spends what a plan leaves of the budget on larger batch limits at the same clocks.

    A plan that covers the demand chooses small batches because they are what the demand will
    fill, not to hold anybody back: at a given clock a replica's draw follows the requests that
    it has. A burst within a tick then finds room in the batches, where it would have waited.

    Attributes:
        inner: The policy to ask.
        frontier: Operating points of one replica.
    """

    inner: Policy
    frontier: Frontier

    def decide(self, observation: Observation) -> Plan:
        """Return the inner plan with the largest batch limits that fit in the budget."""
        plan = self.inner.decide(observation)
        draw_w, largest, points = plan.draw_w, self._largest(), []
        for tight in plan.awake:
            loose = largest.get(tight.clock_mhz, tight)
            loosened_w = draw_w + loose.draw_w - tight.draw_w
            fits = loosened_w <= observation.gpu_budget_w and loose.batch_limit > tight.batch_limit
            points.append(loose if fits else tight)
            draw_w = loosened_w if fits else draw_w
        points.sort(key=lambda point: -point.draw_w)
        return replace(plan, awake=tuple(points), draw_w=draw_w)

    def _largest(self) -> dict[int, OperatingPoint]:
        """Return the point with the largest batch limit at each clock that is worth running."""
        ordered = sorted(self.frontier.points, key=lambda point: point.batch_limit)
        return {point.clock_mhz: point for point in ordered}
