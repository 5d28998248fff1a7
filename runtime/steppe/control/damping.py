"""Memory around a pure policy: feedback, ramps and dwell, one wrapper each."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field, replace

from steppe.control.plan import AwakeBounds, Plan
from steppe.control.policy import BoundedPolicy, Policy
from steppe.control.state import Observation, ReplicaState

GAIN_PER_TICK = 0.2
"""Share of the last error that the correction takes up at each tick."""
MEMORY = 0.95
"""Weight of the past in the estimate of the error's spread."""
SETTLING_TICKS = 3
"""So long after a change of the number of awake replicas errors say nothing; after a step, once."""
LEAST_STEP = 0.1
"""A change of the planned draw that is a step, share of it."""
LEAST_CUT = 0.2
"""Replicas are put to sleep for want of use only if they are this share of the fleet."""
MOST_LOSS = 0.05
"""Output that replicas may cost which stay awake unwanted, share."""
LEAST_GAIN = 0.01
"""More replicas are woken only for this much more output, or this much less draw; share."""
_FARTHEST, _HALVINGS = 6.0, 30
MOST_CORRECTION = 0.3
"""The correction stays within 1 plus or minus this."""


@dataclass(slots=True)
class Corrected:
    """Feeds back the error of the plan's draw, and keeps a guard against its spread.

    The correction is the ratio of measured to planned draw. It falls only while work waits
    (otherwise replicas draw less than planned because they lack work, not because the
    frontier is wrong) and learns only once no replica changes its state (anti-windup).
    A larger error than the correction can mend is a bad reading, and counts as the largest.
    The guard is such that, if the error spreads as a normal distribution, `over_share` of the
    energy comes to lie above the budget; only errors upwards make it wider.

    Attributes:
        inner: The policy that is corrected.
        guard_share: Least share of the budget left unused.
        over_share: Energy that may come to lie above the budget, share of the energy.
    """

    inner: Policy
    guard_share: float
    over_share: float
    ratio: float = 1.0
    variance: float = 0.0
    _last: Plan | None = None
    _ticks_to_wait: int = 0

    def decide(self, seen: Observation) -> Plan:
        """Return the inner policy's plan for the corrected budget."""
        self._learn(seen)
        guard = max(self.guard_share, guard_against(math.sqrt(self.variance), self.over_share))
        usable_w = seen.budget_w * (1 - guard) / self.ratio
        plan = self.inner.decide(replace(seen, budget_w=usable_w))
        self._ticks_to_wait = max(self._ticks_to_wait - 1, self._unsettled_ticks(seen, plan))
        self._last = plan
        return plan

    def _unsettled_ticks(self, seen: Observation, plan: Plan) -> int:
        """Return for how many ticks a plan makes errors that say nothing."""
        moving = seen.count(ReplicaState.DRAINING, ReplicaState.STARTING)
        if self._last is None or moving or len(plan.awake) != len(self._last.awake):
            return SETTLING_TICKS
        return int(abs(plan.draw_w - self._last.draw_w) > LEAST_STEP * self._last.draw_w)

    def _learn(self, seen: Observation) -> None:
        if self._last is None:
            return
        if not self._last.awake:
            # Nothing can be learned; a guard that never shrank would keep the fleet asleep.
            self.variance *= MEMORY
            return
        if self._ticks_to_wait or seen.draw_w is None:
            return
        error = _within_bounds(seen.draw_w / (self._last.draw_w * self.ratio)) - 1
        if error < 0 and not seen.waiting:
            return
        upwards = 2 * max(0.0, error) ** 2
        self.variance = MEMORY * self.variance + (1 - MEMORY) * upwards
        self.ratio = _within_bounds(self.ratio * (1 + GAIN_PER_TICK * error))


def guard_against(deviation: float, over_share: float) -> float:
    """Return the share of a budget to leave unused so that little energy comes to lie above it.

    Args:
        deviation: Standard deviation of the draw around its aim, share of it.
        over_share: Energy that may lie above the budget, share of the energy.

    Returns:
        The guard g with `deviation * L(g / deviation) = over_share`, where L is the loss
        function of the standard normal distribution; 0 where no guard is needed.
    """
    low, high = 0.0, _FARTHEST
    if deviation * _loss(low) <= over_share:
        return 0.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if deviation * _loss(middle) > over_share else (low, middle)
    return deviation * high


def _loss(z: float) -> float:
    """Return the mean by which a standard normal variable exceeds z, where it does."""
    density = math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    return density - z * math.erfc(z / math.sqrt(2)) / 2


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
    """Keeps replicas awake until none of them was wanted for a while, and wakes only for a gain.

    As many stay awake as were wanted at any time in the last `dwell_s`, so that a fleet does
    not flap with its load. The budget is stronger: where it does not hold so many awake,
    fewer are.

    Attributes:
        inner: The policy to ask.
        dwell_s: How long a replica stays awake that is not wanted, s.
    """

    inner: BoundedPolicy
    dwell_s: float
    _wanted: deque[tuple[float, int]] = field(default_factory=deque)

    def decide(self, seen: Observation) -> Plan:
        """Return the inner plan, or the best one with another number of awake replicas."""
        plan = self.inner.decide(seen)
        while self._wanted and seen.now_s - self._wanted[0][0] >= self.dwell_s:
            self._wanted.popleft()
        self._wanted.append((seen.now_s, len(plan.awake)))
        awake = seen.count(ReplicaState.AWAKE)
        if not awake or len(plan.awake) == awake:
            return plan
        if len(plan.awake) > awake:
            kept = self.inner.decide_among(seen, AwakeBounds(awake, awake))
            return plan if _gains(plan, kept) else kept
        wanted = min(awake, max(count for _, count in self._wanted))
        if awake - wanted < LEAST_CUT * len(seen.replicas):
            wanted = awake
        kept = self.inner.decide_among(seen, AwakeBounds(wanted, wanted))
        return plan if plan.output_tps > kept.output_tps * (1 + MOST_LOSS) else kept


def _gains(plan: Plan, kept: Plan) -> bool:
    """Tell whether a plan is worth waking replicas for."""
    if len(plan.awake) <= len(kept.awake):
        return False
    gives_more = plan.output_tps > kept.output_tps * (1 + LEAST_GAIN)
    return gives_more or plan.draw_w < kept.draw_w * (1 - LEAST_GAIN)
