"""Feedback: what the fleet draws beside what was planned, and what is left free for its spread."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from steppe.control.plan import Plan
from steppe.control.policy.decode_only_draw import DecodeOnlyDraw, full_share
from steppe.control.policy.margin import Margin
from steppe.control.policy.policies import Policy
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
LAG_S = 0.1
"""From a plan to the draw that is planned, s, as the meter shows it: 50 ms for the clocks to move,
and as much for the mean age of an energy counter's last tick. Live, on an emulated H100, 0.12 s."""
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
class DrawFeedback:
    """Feeds back the error of the plan's draw, and leaves a margin free against its spread.

    The correction is the ratio of measured to planned draw. It falls only while work waits
    (otherwise replicas draw less than planned because they lack work, not because the
    frontier is wrong) and once the number of replicas is settled and none of them is waking
    (anti-windup); it rises before, for replicas that fill up after a wake, start or drain may
    draw more than planned as long as they do.
    While replicas admit nobody, their draw tells of the dip and not of the frontier.
    A larger error than the correction can mend is a bad reading, and counts as the largest.

    Those that are awake spread; sleepers draw what they were metered at last.

    Attributes:
        inner: The policy that is corrected.
        margin: What of the budget is left free.
        asleep_w: Draw that plans count for a replica that sleeps, W.
        dip: What is learned of replicas that admit nobody.
        awake_w: Least draw of a replica that is awake, W.
        ratio: Measured draw of the awake, as a share of the planned.
        asleep_ratio: The same of the sleepers: as it was metered last.
    """

    inner: Policy
    margin: Margin
    asleep_w: float
    dip: DecodeOnlyDraw = field(default_factory=DecodeOnlyDraw)
    awake_w: float = 0.0
    ratio: float = 1.0
    asleep_ratio: float = 1.0
    _last: Plan | None = None
    _before_w: float = 0.0
    _budget_w: float = 0.0
    _reckoned: int = 0
    _full: float = 0.0
    _ticks_to_wait: int = 0
    _moving: int = 0
    _at_s: float = 0.0
    _followed_s: float = 0.0
    _rests: _Rests = field(default_factory=_Rests)

    def decide(self, observation: Observation) -> Plan:
        """Return the inner policy's plan for the corrected budget."""
        if observation.asleep_w is not None and self.asleep_w > 0:
            self.asleep_ratio = _within_bounds(observation.asleep_w / self.asleep_w)
        self._learn(observation)
        plan = self.inner.decide(observation.with_budget(self._usable_w(observation)))
        self._remember(observation, plan)
        return plan

    def _usable_w(self, observation: Observation) -> float:
        """Return the budget that plans may use, W.

        The margin for one fewer awake may hold one more than the margin for that many does: at a
        budget that stays, one would sleep and wake in turn. So after one fell asleep what is
        usable is the less of what either margin leaves.
        """
        if self._last is None:
            return self._usable_beside(observation, len(observation.replicas))
        falls_to = (
            min(1.0, observation.gpu_budget_w / self._budget_w) if self._budget_w > 0 else 1.0
        )
        counts = {falls_to * len(self._last.awake), falls_to * self._reckoned}
        return min(self._usable_beside(observation, awake) for awake in counts)

    def _usable_beside(self, observation: Observation, awake: float) -> float:
        """Return the budget that plans may use where so many will be awake, W."""
        fleet = len(observation.replicas)
        awake = min(fleet, max(1.0, awake))
        asleep = fleet - awake
        left_w = observation.gpu_budget_w - asleep * self._asleep_w
        if left_w > 0 and fleet:
            left_w *= (1 - self.margin.share(awake / fleet)) / self.ratio
        return max(0.0, asleep * self.asleep_w + left_w)

    @property
    def _asleep_w(self) -> float:
        """Draw of a replica that sleeps, W."""
        return self.asleep_w * self.asleep_ratio

    def _remember(self, observation: Observation, plan: Plan) -> None:
        """Keep a plan, and from when on its errors say something."""
        last, self._last, self._at_s = self._last, plan, observation.now_s
        self._before_w = plan.draw_w if last is None else last.draw_w
        self._rests.note(observation.now_s, is_awake=bool(plan.awake))
        if len(plan.awake) != self._reckoned - 1:
            self._reckoned = len(plan.awake)
        self._budget_w = observation.gpu_budget_w
        self._full = full_share(observation, plan)
        moving = observation.count(ReplicaState.DRAINING, ReplicaState.STARTING)
        moves = moving > MOST_MOVING * len(observation.replicas)
        self._ticks_to_wait = max(0, self._ticks_to_wait - 1)
        if last is None or moves or observation.is_waking or self._is_elsewhere(observation):
            self._ticks_to_wait = SETTLING_TICKS
        leave = len(plan.awake) < observation.count(ReplicaState.AWAKE)
        steps = last is None or abs(plan.draw_w - last.draw_w) > LEAST_STEP * last.draw_w
        if (moves and moving != self._moving) or leave or steps:
            self._followed_s = observation.now_s + FOLLOWED_S
        self._moving = moving

    def _holds_one(self, observation: Observation) -> bool:
        """Tell whether the budget holds a replica that is awake, as far as the points are right."""
        wakes_w = max(0.0, self.awake_w - self.asleep_w)
        return observation.gpu_budget_w >= len(observation.replicas) * self._asleep_w + wakes_w

    def _is_elsewhere(self, observation: Observation) -> bool:
        """Tell whether other replicas are awake than were planned last."""
        assert self._last is not None, "a plan was made"
        return len(self._last.awake) != observation.count(ReplicaState.AWAKE)

    def _learn(self, observation: Observation) -> None:
        if self._last is None:
            return
        if not self._last.awake:
            # Nothing can be learned, and what was learned must not keep the fleet asleep for ever.
            if self._holds_one(observation) and self._rests.are_over(observation.now_s):
                self.margin.forget()
                self.ratio = (1 + self.ratio) / 2
            return
        is_short = observation.now_s - self._at_s < FOLLOWED_S
        if is_short or self._at_s < self._followed_s or observation.draw_w is None:
            return
        awake_w = self._planned_awake_w(observation)
        error = self._error(observation, observation.draw_w, awake_w)
        if error < 0 and (not observation.waiting or observation.is_waking):
            return
        self.margin.learn(error, len(self._last.awake) / len(observation.replicas))
        of_fleet = error * awake_w / self._last.draw_w
        if self.dip.explains(of_fleet, self._full):
            return
        if error < 0 and (self._ticks_to_wait or self._is_elsewhere(observation)):
            return
        self.ratio = _within_bounds(self.ratio * (1 + GAIN_PER_TICK * of_fleet))

    def _planned_awake_w(self, observation: Observation) -> float:
        """Return what all but the sleepers were planned to draw, W."""
        assert self._last is not None, "a plan was made"
        asleep = len(observation.replicas) - len(self._last.awake)
        return max(self._last.draw_w - asleep * self.asleep_w, self._last.awake[-1].draw_w)

    def _error(self, observation: Observation, draw_w: float, awake_w: float) -> float:
        """Return by how much more than expected the awake drew, share of what was expected."""
        assert self._last is not None, "a plan was made"
        dip_w = self.dip.depth * self._full * self._last.draw_w
        lagging = min(1.0, LAG_S / (observation.now_s - self._at_s))
        lagging_w = (self._before_w - self._last.draw_w) * lagging
        expected_w = self.ratio * (awake_w - dip_w + lagging_w)
        asleep = len(observation.replicas) - len(self._last.awake)
        return _within_bounds((draw_w - asleep * self._asleep_w) / expected_w) - 1


def _within_bounds(ratio: float) -> float:
    return min(1 + MOST_CORRECTION, max(1 - MOST_CORRECTION, ratio))
