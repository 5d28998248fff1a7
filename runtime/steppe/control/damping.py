"""Memory around a pure policy: feedback, ramps and dwell, one wrapper each."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field, replace

from steppe.control.dip import Dip, full_share
from steppe.control.margin import Margin
from steppe.control.plan import AwakeBounds, Plan
from steppe.control.policy import BoundedPolicy, Policy
from steppe.control.state import Observation, ReplicaState

GAIN_PER_TICK = 0.2
"""Share of the last error that the correction takes up at each tick."""
LEAST_REST_S, MOST_REST_S = 5.0, 60.0
"""When all have slept for so long, and so long after that, half of what was learned is forgotten:
a fleet that fell asleep because it drew too much shall try again. It rests twice as long each time
that it falls asleep again within the longest rest."""
SETTLING_TICKS = 3
"""So long after a change of the number of awake replicas, and after one has woken, they may draw
less than planned."""
MOST_MOVING = 0.1
"""While more than this share of the fleet starts or drains, a draw below its plan says nothing."""
LEAST_STEP = 0.1
"""A change of the planned draw, or of what a look ahead counts on now, that is a step, share."""
FOLLOWED_S = 0.3
"""After a step, and after replicas left or began to move, a window that began sooner than this
says nothing: the draw was on its way, s. Nor does one that is shorter, for it is on its way to the
plan in most of it."""
LEAST_CUT = 0.2
"""Replicas are put to sleep for want of use only if they are this share of the fleet."""
LEAVING_SHARE = 0.015
"""So many drain at once where they leave for want of use, share of the fleet: what drains draws
less than any plan can say."""
MOST_LOSS = 0.05
"""Output that replicas may cost which stay awake unwanted, share."""
LEAST_GAIN = 0.01
"""More replicas are woken only for this much more output, or this much less draw; share."""
MOST_CORRECTION = 0.3
"""The correction stays within 1 plus or minus this."""


@dataclass(slots=True)
class _Rests:
    """How long a fleet that fell asleep rests until it tries again."""

    _is_awake: bool = True
    _since_s: float = -math.inf
    _rest_s: float = LEAST_REST_S

    def note(self, now_s: float, *, is_awake: bool) -> None:
        """Take what the fleet does from now on."""
        if is_awake == self._is_awake:
            return
        if not is_awake:
            is_new = now_s - self._since_s >= MOST_REST_S
            self._rest_s = LEAST_REST_S if is_new else min(MOST_REST_S, 2 * self._rest_s)
        self._is_awake, self._since_s = is_awake, now_s

    def are_over(self, now_s: float) -> bool:
        """Tell whether a sleeping fleet has rested enough; the next rest begins then."""
        if now_s - self._since_s < self._rest_s:
            return False
        self._since_s = now_s
        return True


@dataclass(slots=True)
class Corrected:
    """Feeds back the error of the plan's draw, and leaves a margin free against its spread.

    The correction is the ratio of measured to planned draw. It falls only while work waits
    (otherwise replicas draw less than planned because they lack work, not because the
    frontier is wrong) and once the number of replicas is settled and none of them is waking
    (anti-windup); it rises before, for replicas that fill up after a wake, start or drain may
    draw more than planned as long as they do.
    While replicas admit nobody, their draw tells of the dip and not of the frontier.
    A larger error than the correction can mend is a bad reading, and counts as the largest.

    Attributes:
        inner: The policy that is corrected.
        margin: What of the budget is left free.
        asleep_w: Draw of a replica that sleeps, W: it does not spread.
        dip: What is learned of replicas that admit nobody.
        awake_w: Least draw of a replica that is awake, W.
    """

    inner: Policy
    margin: Margin
    asleep_w: float
    dip: Dip = field(default_factory=Dip)
    awake_w: float = 0.0
    ratio: float = 1.0
    _last: Plan | None = None
    _budget_w: float = 0.0
    _full: float = 0.0
    _ticks_to_wait: int = 0
    _moving: int = 0
    _at_s: float = 0.0
    _followed_s: float = 0.0
    _rests: _Rests = field(default_factory=_Rests)

    def decide(self, seen: Observation) -> Plan:
        """Return the inner policy's plan for the corrected budget."""
        self._learn(seen)
        awake = self._awake_share(seen)
        sleeping_w = (1 - awake) * len(seen.replicas) * self.asleep_w
        free_w = self.margin.share(awake) * max(0.0, seen.budget_w - sleeping_w)
        usable_w = (seen.budget_w - free_w) / self.ratio
        plan = self.inner.decide(replace(seen, budget_w=usable_w))
        self._remember(seen, plan)
        return plan

    def _remember(self, seen: Observation, plan: Plan) -> None:
        """Keep a plan, and from when on its errors say something."""
        last, self._last, self._at_s = self._last, plan, seen.now_s
        self._rests.note(seen.now_s, is_awake=bool(plan.awake))
        self._budget_w = seen.budget_w
        self._full = full_share(seen, plan)
        moving = seen.count(ReplicaState.DRAINING, ReplicaState.STARTING)
        moves = moving > MOST_MOVING * len(seen.replicas)
        self._ticks_to_wait = max(0, self._ticks_to_wait - 1)
        if last is None or moves or seen.is_waking or self._is_elsewhere(seen):
            self._ticks_to_wait = SETTLING_TICKS
        leave = len(plan.awake) < seen.count(ReplicaState.AWAKE)
        steps = last is None or abs(plan.draw_w - last.draw_w) > LEAST_STEP * last.draw_w
        if (moves and moving != self._moving) or leave or steps:
            self._followed_s = seen.now_s + FOLLOWED_S
        self._moving = moving

    def _awake_share(self, seen: Observation) -> float:
        """Return the share of the replicas that will be awake, if it falls as the budget does."""
        if self._last is None or not seen.replicas:
            return 1.0
        falls_to = min(1.0, seen.budget_w / self._budget_w) if self._budget_w > 0 else 1.0
        return max(1.0, falls_to * len(self._last.awake)) / len(seen.replicas)

    def _holds_one(self, seen: Observation) -> bool:
        """Tell whether the budget holds a replica that is awake, as far as the points are right."""
        wakes_w = max(0.0, self.awake_w - self.asleep_w)
        return seen.budget_w >= len(seen.replicas) * self.asleep_w + wakes_w

    def _is_elsewhere(self, seen: Observation) -> bool:
        """Tell whether other replicas are awake than were planned last."""
        assert self._last is not None, "a plan was made"
        return len(self._last.awake) != seen.count(ReplicaState.AWAKE)

    def _learn(self, seen: Observation) -> None:
        if self._last is None:
            return
        if not self._last.awake:
            # Nothing can be learned, and what was learned must not keep the fleet asleep for ever.
            if self._holds_one(seen) and self._rests.are_over(seen.now_s):
                self.margin.forget()
                self.ratio = (1 + self.ratio) / 2
            return
        is_short = seen.now_s - self._at_s < FOLLOWED_S
        if is_short or self._at_s < self._followed_s or seen.draw_w is None:
            return
        expected_w = self._last.draw_w * self.ratio * (1 - self.dip.depth * self._full)
        error = _within_bounds(seen.draw_w / expected_w) - 1
        if error < 0 and (not seen.waiting or seen.is_waking):
            return
        awake = len(self._last.awake)
        sleeping_w = (len(seen.replicas) - awake) * self.asleep_w * self.ratio
        of_awake = expected_w / max(expected_w - sleeping_w, self._last.awake[-1].draw_w)
        self.margin.learn(error * of_awake, awake / len(seen.replicas))
        if self.dip.explains(error, self._full):
            return
        if error < 0 and (self._ticks_to_wait or self._is_elsewhere(seen)):
            return
        self.ratio = _within_bounds(self.ratio * (1 + GAIN_PER_TICK * error))


def _within_bounds(ratio: float) -> float:
    return min(1 + MOST_CORRECTION, max(1 - MOST_CORRECTION, ratio))


@dataclass(slots=True)
class Ramped:
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

    def decide(self, seen: Observation) -> Plan:
        """Return the inner policy's plan for the ramped budget."""
        budget_w = seen.budget_w
        if self._budget_w is not None:
            rising_s = max(self.period_s, seen.now_s - self._at_s)
            budget_w = min(budget_w, self._budget_w + self.rise_w_per_s * rising_s)
        self._budget_w, self._at_s = budget_w, seen.now_s
        return self.inner.decide(replace(seen, budget_w=budget_w))


@dataclass(slots=True)
class Dwelling:
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

    def decide(self, seen: Observation) -> Plan:
        """Return the inner plan, or the best one with another number of awake replicas."""
        plan = self._decide(seen)
        self._planned = len(plan.awake)
        return plan

    def _decide(self, seen: Observation) -> Plan:
        plan = self.inner.decide(seen)
        while self._wanted and seen.now_s - self._wanted[0][0] >= self.dwell_s:
            self._wanted.popleft()
        self._wanted.append((seen.now_s, len(plan.awake)))
        if not seen.count(ReplicaState.AWAKE):
            return plan
        awake = max(seen.count(ReplicaState.AWAKE), self._planned)
        if len(plan.awake) == awake:
            return plan
        if len(plan.awake) > awake:
            kept = self.inner.decide_among(seen, AwakeBounds(awake, awake))
            return plan if _gains(plan, kept) else kept
        staying = self._staying(seen, awake)
        kept = self.inner.decide_among(seen, AwakeBounds(staying, staying))
        return plan if plan.output_tps > kept.output_tps * (1 + MOST_LOSS) else kept

    def _staying(self, seen: Observation, awake: int) -> int:
        """Return how many stay awake, of more than the inner plan wants."""
        fleet = len(seen.replicas)
        wanted = max(count for _, count in self._wanted)
        if awake - wanted >= LEAST_CUT * fleet:
            self._goal = wanted
        self._goal = max(self._goal, wanted)
        may_leave = math.ceil(LEAVING_SHARE * fleet) - seen.count(ReplicaState.DRAINING)
        return round(min(awake, max(self._goal, awake - max(0, may_leave))))


def _gains(plan: Plan, kept: Plan) -> bool:
    """Tell whether a plan is worth waking replicas for."""
    if len(plan.awake) <= len(kept.awake):
        return False
    gives_more = plan.output_tps > kept.output_tps * (1 + LEAST_GAIN)
    return gives_more or plan.draw_w < kept.draw_w * (1 - LEAST_GAIN)
