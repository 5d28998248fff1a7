"""Feedback stage: the watts that a plan may use, given what earlier plans really drew."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from steppe.control.plan import Plan
from steppe.control.policy.margin import learn_variance, margin_share
from steppe.control.state import Observation, ReplicaState
from steppe.roofline.step_costs import CostFactors

GAIN_PER_TICK = 0.2
"""Share of the last error that the correction takes up at each tick."""
LEAST_REST_S, MOST_REST_S = 5.0, 60.0
"""Once all replicas have slept for the first time, half of what was learned is forgotten, so that a
fleet that fell asleep because it drew too much tries again. The time doubles each time it falls
asleep again within the second."""
SETTLING_TICKS = 3
"""Ticks after a change of the number of awake replicas, or after a wake, in which replicas may draw
less than planned without being corrected."""
MOST_MOVING = 0.1
"""Share of the fleet that may start or drain while a draw below the plan still counts."""
LEAST_STEP = 0.1
"""Least change of the planned draw that is a step, share."""
FOLLOWED_S = 0.3
"""Time for the draw to follow a step, s. Windows that begin earlier or are shorter do not count."""
LAG_S = 0.1
"""Time from a plan to its draw as the meter shows it, s: 50 ms for the clocks to move and 50 ms for
the mean age of an energy counter's last update. Live on an emulated H100: 0.12 s."""
MOST_GRADUAL = 0.3
"""Largest error that is taken up gradually, share. A larger one in two windows on end means that
the points are wrong: it is taken up whole."""
TOLERATED = 0.02
"""Draw above the budget from which on a large error counts even while replicas change, share."""
LEAST_RATIO, MOST_RATIO = 0.5, 5.0
"""Bounds of the correction. A draw of five times the planned one is a broken meter."""


@dataclass(frozen=True, slots=True)
class FeedbackSettings:
    """What the feedback needs of the pool and its configuration.

    Attributes:
        asleep_w: Draw of a sleeping replica by the frontier, W.
        floor_w: Least draw of an awake replica, W.
        margin_share: Least share of the budget left free while all replicas are awake.
        over_share: Energy that may lie above the budget, share of the energy.
    """

    asleep_w: float
    floor_w: float
    margin_share: float
    over_share: float


@dataclass(frozen=True, slots=True)
class SleepBackoff:
    """How long a fleet that fell asleep waits before it tries again.

    Attributes:
        is_awake: Whether the last plan had a replica awake.
        since_s: Time of the last change or of the last try, s.
        rest_s: Time from then to the next try, s.
    """

    is_awake: bool = True
    since_s: float = -math.inf
    rest_s: float = LEAST_REST_S

    def after(self, now_s: float, *, is_awake: bool) -> SleepBackoff:
        """Return the state once the fleet is planned to be awake or asleep."""
        if is_awake == self.is_awake:
            return self
        rest_s = self.rest_s
        if not is_awake:
            is_first = now_s - self.since_s >= MOST_REST_S
            rest_s = LEAST_REST_S if is_first else min(MOST_REST_S, 2 * rest_s)
        return SleepBackoff(is_awake, now_s, rest_s)

    def is_over(self, now_s: float) -> bool:
        """Return whether it is time for another try."""
        return now_s - self.since_s >= self.rest_s


@dataclass(frozen=True, slots=True)
class FeedbackMemory:
    """What the feedback keeps between ticks.

    Attributes:
        ratio: Measured over planned draw of the awake replicas.
        asleep_ratio: The same of the sleeping replicas, as last metered.
        variance: Variance of the draw around its plan while all replicas are awake, share squared.
        plan: The last plan; None before the first.
        planned_s: Time of the last plan, s.
        planned_before_w: Draw of the plan before the last, W.
        gpu_budget_w: Budget at the last plan, W.
        margin_awake: Number of awake replicas that the margin was last computed for.
        ticks_to_wait: Ticks until a draw below the plan counts again.
        moving: Replicas that started or drained at the last plan.
        followed_s: Time from which the draw has followed the last step, s.
        backoff: When a sleeping fleet tries again.
        is_far_over: Whether the draw of the last window lay far above its plan.
    """

    ratio: float = 1.0
    asleep_ratio: float = 1.0
    variance: float = 0.0
    plan: Plan | None = None
    planned_s: float = 0.0
    planned_before_w: float = 0.0
    gpu_budget_w: float = 0.0
    margin_awake: int = 0
    ticks_to_wait: int = 0
    moving: int = 0
    followed_s: float = 0.0
    backoff: SleepBackoff = field(default_factory=SleepBackoff)
    is_far_over: bool = False


def usable_watts(
    observation: Observation, memory: FeedbackMemory, settings: FeedbackSettings
) -> float:
    """Return the watts that a plan may use: the budget, corrected and less a margin, W.

    The margin for one fewer awake replica may leave room for one more than that number. On a
    steady budget one replica would then sleep and wake in turn. So after a replica fell asleep,
    the smaller of the two results holds.
    """
    fleet = len(observation.replicas)
    if memory.plan is None:
        return _usable_beside(observation, fleet, memory, settings)
    before_w = memory.gpu_budget_w
    falls_to = min(1.0, observation.gpu_budget_w / before_w) if before_w > 0 else 1.0
    counts = {falls_to * len(memory.plan.awake), falls_to * memory.margin_awake}
    return min(_usable_beside(observation, awake, memory, settings) for awake in counts)


def _usable_beside(
    observation: Observation, awake: float, memory: FeedbackMemory, settings: FeedbackSettings
) -> float:
    """Return the watts that a plan with this many awake replicas may use, W."""
    fleet = len(observation.replicas)
    awake = min(fleet, max(1.0, awake))
    asleep = fleet - awake
    left_w = observation.gpu_budget_w - asleep * settings.asleep_w * memory.asleep_ratio
    if left_w > 0 and fleet:
        margin = margin_share(
            memory.variance, awake / fleet, settings.margin_share, settings.over_share
        )
        left_w *= (1 - margin) / memory.ratio
    return max(0.0, asleep * settings.asleep_w + left_w)


def learn_draw(
    observation: Observation, memory: FeedbackMemory, settings: FeedbackSettings
) -> FeedbackMemory:
    """Return the memory after comparing the measured draw with the last plan.

    The ratio of measured to planned draw falls only while work waits (without work, replicas draw
    less than planned although the frontier is right) and once the number of awake replicas is
    settled (anti-windup). It rises at once. Errors are clipped to `MOST_GRADUAL`, for they may be
    bad readings; but a larger one of two windows on end is taken up whole, so that the draw fits
    the budget at the third tick.
    """
    if observation.asleep_w is not None and settings.asleep_w > 0:
        asleep_ratio = _within_bounds(observation.asleep_w / settings.asleep_w)
        memory = replace(memory, asleep_ratio=asleep_ratio)
    plan = memory.plan
    if plan is None:
        return memory
    if not plan.awake:
        return _learn_asleep(observation, memory, settings)
    if observation.draw_w is None or observation.now_s - memory.planned_s < FOLLOWED_S:
        return memory
    return _learn_awake(observation, memory, settings, plan, observation.draw_w)


def _learn_awake(
    observation: Observation,
    memory: FeedbackMemory,
    settings: FeedbackSettings,
    plan: Plan,
    draw_w: float,
) -> FeedbackMemory:
    """Return the memory after a window in which the draw was that of a plan."""
    asleep_w = (len(observation.replicas) - len(plan.awake)) * settings.asleep_w
    awake_w = max(plan.draw_w - asleep_w, plan.awake[-1].draw_w)
    drawn_w = draw_w - asleep_w * memory.asleep_ratio
    surprise = _surprise(observation, memory, drawn_w, awake_w)
    was_far_over = memory.is_far_over
    is_over = draw_w > (1 + TOLERATED) * memory.gpu_budget_w
    settled = not memory.ticks_to_wait and not _is_elsewhere(observation, plan)
    is_far_over = surprise > 1 + MOST_GRADUAL and (is_over or settled)
    memory = replace(memory, is_far_over=is_far_over)
    if memory.is_far_over and was_far_over:
        return replace(memory, ratio=_within_bounds(memory.ratio * surprise), is_far_over=False)
    if memory.planned_s < memory.followed_s:
        return memory
    error = min(MOST_GRADUAL, max(-MOST_GRADUAL, surprise - 1))
    if error < 0 and (not observation.waiting or observation.is_waking):
        return memory
    awake_share = len(plan.awake) / len(observation.replicas)
    memory = replace(memory, variance=learn_variance(memory.variance, error, awake_share))
    if error < 0 and (memory.ticks_to_wait or _is_elsewhere(observation, plan)):
        return memory
    of_fleet = error * awake_w / plan.draw_w
    return replace(memory, ratio=_within_bounds(memory.ratio * (1 + GAIN_PER_TICK * of_fleet)))


def _learn_asleep(
    observation: Observation, memory: FeedbackMemory, settings: FeedbackSettings
) -> FeedbackMemory:
    """Return the memory of a sleeping fleet, which forgets so as not to sleep for ever."""
    asleep_w = settings.asleep_w * memory.asleep_ratio
    wake_w = max(0.0, settings.floor_w - settings.asleep_w)
    covers_one = observation.gpu_budget_w >= len(observation.replicas) * asleep_w + wake_w
    if not covers_one or not memory.backoff.is_over(observation.now_s):
        return memory
    return replace(
        memory,
        variance=memory.variance / 4,
        ratio=(1 + memory.ratio) / 2,
        backoff=replace(memory.backoff, since_s=observation.now_s),
    )


def _surprise(
    observation: Observation, memory: FeedbackMemory, drawn_w: float, awake_w: float
) -> float:
    """Return what the awake replicas drew over what was expected of them."""
    assert memory.plan is not None, "an expected draw is that of a plan"
    lagging = min(1.0, LAG_S / (observation.now_s - memory.planned_s))
    lagging_w = (memory.planned_before_w - memory.plan.draw_w) * lagging
    expected_w = memory.ratio * (awake_w + lagging_w)
    return drawn_w / expected_w


def note_plan(observation: Observation, memory: FeedbackMemory, plan: Plan) -> FeedbackMemory:
    """Return the memory with a new plan, and from when on its errors count."""
    last = memory.plan
    moving = observation.count(ReplicaState.DRAINING, ReplicaState.STARTING)
    moves = moving > MOST_MOVING * len(observation.replicas)
    unsettled = last is None or moves or observation.is_waking or _is_elsewhere(observation, plan)
    sleeps = len(plan.awake) < observation.count(ReplicaState.AWAKE)
    steps = last is None or abs(plan.draw_w - last.draw_w) > LEAST_STEP * last.draw_w
    must_follow = (moves and moving != memory.moving) or sleeps or steps
    one_fell_asleep = len(plan.awake) == memory.margin_awake - 1
    now_s = observation.now_s
    return replace(
        memory,
        plan=plan,
        planned_s=now_s,
        planned_before_w=plan.draw_w if last is None else last.draw_w,
        gpu_budget_w=observation.gpu_budget_w,
        margin_awake=memory.margin_awake if one_fell_asleep else len(plan.awake),
        ticks_to_wait=SETTLING_TICKS if unsettled else max(0, memory.ticks_to_wait - 1),
        moving=moving,
        followed_s=now_s + FOLLOWED_S if must_follow else memory.followed_s,
        backoff=memory.backoff.after(now_s, is_awake=bool(plan.awake)),
    )


def _is_elsewhere(observation: Observation, plan: Plan) -> bool:
    """Return whether the number of awake replicas differs from a plan."""
    return len(plan.awake) != observation.count(ReplicaState.AWAKE)


def with_factors(memory: FeedbackMemory, before: CostFactors, after: CostFactors) -> FeedbackMemory:
    """Return the memory once plans are made with other factors on the costs of a step.

    What the ratio has made up for, the factors explain now. So it moves towards 1 by as much as the
    modelled draw has moved, and not beyond.
    """
    if before == after or memory.ratio == 1:
        return memory
    draw = (after.decode_energy / after.decode_time) / (before.decode_energy / before.decode_time)
    ratio = memory.ratio / draw
    low, high = min(1.0, memory.ratio), max(1.0, memory.ratio)
    return replace(memory, ratio=min(max(ratio, low), high))


def _within_bounds(ratio: float) -> float:
    return min(MOST_RATIO, max(LEAST_RATIO, ratio))
