"""Memory around a pure policy: ramps and dwell, one wrapper each."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

from steppe.control.plan import AwakeBounds, Plan
from steppe.control.policy.policies import BoundedPolicy, Policy
from steppe.control.state import Observation, ReplicaState

LEAST_CUT = 0.2
"""Replicas are put to sleep for want of use only if they are this share of the fleet."""
LEAVING_SHARE = 0.015
"""So many drain at once where they leave for want of use, share of the fleet: what drains draws
less than any plan can say."""
MOST_LOSS = 0.05
"""Output that replicas may cost which stay awake unwanted, share."""
LEAST_GAIN = 0.01
"""More replicas are woken only for this much more output, or this much less draw; share."""


@dataclass(slots=True)
class Ramp:
    """Lets the budget that plans may use fall at once and rise no faster than a limit.

    A burst of load under a budget that is ample already raises the planned draw at once.

    Attributes:
        inner: The policy whose budget is ramped.
        rise_w_per_s: Most the budget may rise in a second, W.
        period_s: A tick may rise by as much as in so long, however soon after another it comes, s.
    """

    inner: Policy
    rise_w_per_s: float
    period_s: float
    _budget_w: float | None = None
    _at_s: float = 0.0

    def decide(self, observation: Observation) -> Plan:
        """Return the inner policy's plan for the ramped budget."""
        budget_w = observation.gpu_budget_w
        if self._budget_w is not None:
            rising_s = max(self.period_s, observation.now_s - self._at_s)
            budget_w = min(budget_w, self._budget_w + self.rise_w_per_s * rising_s)
        self._budget_w, self._at_s = budget_w, observation.now_s
        return self.inner.decide(observation.with_budget(budget_w))


@dataclass(slots=True)
class ScaleDownDelay:
    """Keeps replicas awake until none of them was wanted for a while, and wakes only for a gain.

    As many stay awake as were wanted at any time in the last `dwell_s`, so that a fleet does
    not flap with its load, and then they leave a few at a time, so that its draw does not dip.
    One that was planned and is not awake yet counts as awake: where frozen replicas take turns,
    one is frozen a tick before another wakes. The budget is stronger: where it does not hold so
    many awake, fewer are.

    Attributes:
        inner: The policy to ask.
        dwell_s: How long a replica stays awake that is not wanted, s; fewer of them than
            `LEAST_CUT` of the fleet stay awake for good, unless they cost output.
    """

    inner: BoundedPolicy
    dwell_s: float
    _wanted: deque[tuple[float, int]] = field(default_factory=deque)
    _goal: float = math.inf
    _planned: int = 0

    def decide(self, observation: Observation) -> Plan:
        """Return the inner plan, or the best one with another number of awake replicas."""
        plan = self._decide(observation)
        self._planned = len(plan.awake)
        return plan

    def _decide(self, observation: Observation) -> Plan:
        plan = self.inner.decide(observation)
        while self._wanted and observation.now_s - self._wanted[0][0] >= self.dwell_s:
            self._wanted.popleft()
        self._wanted.append((observation.now_s, len(plan.awake)))
        if not observation.count(ReplicaState.AWAKE):
            return plan
        awake = max(observation.count(ReplicaState.AWAKE), self._planned)
        if len(plan.awake) == awake:
            return plan
        if len(plan.awake) > awake:
            kept = self.inner.decide_among(observation, AwakeBounds(awake, awake))
            return plan if _gains(plan, kept) else kept
        staying = self._staying(observation, awake)
        kept = self.inner.decide_among(observation, AwakeBounds(staying, staying))
        return plan if plan.output_tps > kept.output_tps * (1 + MOST_LOSS) else kept

    def _staying(self, observation: Observation, awake: int) -> int:
        """Return how many stay awake, of more than the inner plan wants."""
        fleet = len(observation.replicas)
        wanted = max(count for _, count in self._wanted)
        if awake - wanted >= LEAST_CUT * fleet:
            self._goal = wanted
        self._goal = max(self._goal, wanted)
        may_leave = math.ceil(LEAVING_SHARE * fleet) - observation.count(ReplicaState.DRAINING)
        return round(min(awake, max(self._goal, awake - max(0, may_leave))))


def _gains(plan: Plan, kept: Plan) -> bool:
    """Tell whether a plan is worth waking replicas for."""
    if len(plan.awake) <= len(kept.awake):
        return False
    gives_more = plan.output_tps > kept.output_tps * (1 + LEAST_GAIN)
    return gives_more or plan.draw_w < kept.draw_w * (1 - LEAST_GAIN)
