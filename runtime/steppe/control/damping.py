"""Memory around a pure policy: feedback, ramps and dwell, one wrapper each."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from steppe.control.plan import AwakeBounds, Plan
from steppe.control.policy import BoundedPolicy, Policy
from steppe.control.state import Observation, ReplicaState

GAIN_PER_TICK = 0.2
"""Share of the last error that the correction takes up at each tick."""
MEMORY = 0.95
"""Weight of the past in the estimate of the error's spread."""
MOST_CORRECTION = 0.3
"""The correction stays within 1 plus or minus this."""


@dataclass(slots=True)
class Corrected:
    """Feeds back the error of the plan's draw, and keeps a guard of two standard deviations.

    The correction is the ratio of measured to planned draw. It learns only while work waits
    (otherwise replicas draw less than planned because they lack work, not because the
    frontier is wrong) and while no replica changes its state: frozen otherwise (anti-windup).
    A larger error than the correction can mend is a bad reading, and counts as the largest.

    Attributes:
        inner: The policy that is corrected.
        guard_share: Least share of the budget left unused.
    """

    inner: Policy
    guard_share: float
    ratio: float = 1.0
    variance: float = 0.0
    _last: Plan | None = None
    _settled: bool = False

    def decide(self, seen: Observation) -> Plan:
        """Return the inner policy's plan for the corrected budget."""
        self._learn(seen)
        guard = max(self.guard_share, 2 * math.sqrt(self.variance))
        usable_w = seen.budget_w * (1 - guard) / self.ratio
        plan = self.inner.decide(replace(seen, budget_w=usable_w))
        steady = self._last is not None and len(self._last.awake) == len(plan.awake)
        moving = seen.count(ReplicaState.DRAINING, ReplicaState.STARTING)
        self._last, self._settled = plan, steady and not moving
        return plan

    def _learn(self, seen: Observation) -> None:
        if self._last is None:
            return
        if not self._last.awake:
            # Nothing can be learned; a guard that never shrank would keep the fleet asleep.
            self.variance *= MEMORY
            return
        if not self._settled or seen.draw_w is None or not seen.waiting:
            return
        error = _within_bounds(seen.draw_w / (self._last.draw_w * self.ratio)) - 1
        self.variance = MEMORY * self.variance + (1 - MEMORY) * error * error
        self.ratio = _within_bounds(self.ratio * (1 + GAIN_PER_TICK * error))


def _within_bounds(ratio: float) -> float:
    return min(1 + MOST_CORRECTION, max(1 - MOST_CORRECTION, ratio))


@dataclass(slots=True)
class Ramped:
    """Lets the planned draw fall at once and rise no faster than a limit.

    Attributes:
        inner: The policy whose budget is ramped.
        rise_w_per_s: Most the budget may rise in a second, W.
    """

    inner: Policy
    rise_w_per_s: float
    _budget_w: float | None = None
    _at_s: float = 0.0

    def decide(self, seen: Observation) -> Plan:
        """Return the inner policy's plan for the ramped budget."""
        budget_w = seen.budget_w
        if self._budget_w is not None:
            limit_w = self._budget_w + self.rise_w_per_s * (seen.now_s - self._at_s)
            budget_w = min(budget_w, limit_w)
        self._budget_w, self._at_s = budget_w, seen.now_s
        return self.inner.decide(replace(seen, budget_w=budget_w))


@dataclass(slots=True)
class Dwelling:
    """Keeps the number of awake replicas for a while, unless the budget forbids it.

    Attributes:
        inner: The policy to ask.
        dwell_s: Least time between two changes of the number of awake replicas, s.
    """

    inner: BoundedPolicy
    dwell_s: float
    _changed_s: float = field(default=-math.inf)

    def decide(self, seen: Observation) -> Plan:
        """Return the inner plan, or the best one with as many awake replicas as now."""
        plan = self.inner.decide(seen)
        awake = seen.count(ReplicaState.AWAKE)
        if len(plan.awake) == awake:
            return plan
        if seen.now_s - self._changed_s < self.dwell_s and awake:
            kept = self.inner.decide_among(seen, AwakeBounds(awake, awake))
            if len(kept.awake) == awake:
                return kept
        self._changed_s = seen.now_s
        return plan
