"""Full batches first: clocks and sleep follow the budget, batch limits only where they gain."""

from __future__ import annotations

from dataclasses import dataclass

from steppe.control.plan import AwakeBounds, Plan
from steppe.control.policy.policies import BoundedPolicy
from steppe.control.state import Observation, ReplicaState
from steppe.frontier.pareto import Frontier

STAYING_GAIN, MOVING_GAIN = 0.06, 0.02
"""Small batches are planned only for this much more output than full ones would give, share of it:
the first where full ones keep as many replicas awake as are, the second where they do not. So a
budget that jitters around the watts at which both are as good wakes nobody."""


@dataclass(frozen=True, slots=True)
class FullBatches(BoundedPolicy):
    """Follows the budget with full batches where small ones would gain little.

    A batch that shrinks holds requests back and draws unlike its plan for seconds, and one that
    grows again takes in a burst of prompts; clocks and sleep do neither. Where the budget does not
    hold full batches in all that are awake, some sleep at once. Keeps no memory.

    Attributes:
        inner: The policy to ask.
        full: The same policy with the points of `full_batches`.
    """

    inner: BoundedPolicy
    full: BoundedPolicy

    def decide_among(self, observation: Observation, bounds: AwakeBounds) -> Plan:
        """Return the inner plan, or the best one with full batches if it gives nearly as much."""
        plan = self.inner.decide_among(observation, bounds)
        if not observation.work_waits:
            return plan
        full = self.full.decide_among(observation, bounds)
        stays = len(full.awake) == observation.count(ReplicaState.AWAKE)
        gain = STAYING_GAIN if stays else MOVING_GAIN
        is_as_good = full.output_tps >= plan.output_tps * (1 - gain)
        return full if full.awake and full.feasible and is_as_good else plan


def full_batches(frontier: Frontier) -> Frontier:
    """Return the point with the largest batch limit of each clock."""
    by_batch = sorted(frontier.candidates, key=lambda point: point.batch_limit)
    points = {point.clock_mhz: point for point in by_batch}
    return Frontier.of(points.values(), frontier.asleep_w, frontier.idle_w, frontier.source)
