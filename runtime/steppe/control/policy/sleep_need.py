"""How many replicas a fleet needs, now and by the forecast, if all others sleep deep."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from steppe.control.plan import AwakeBounds
from steppe.control.policy.goals import Goal
from steppe.control.sleep_ladder import SleepDepth, SleepLadder
from steppe.control.state import Observation, ReplicaObservation, ReplicaState

STEPS_AHEAD = 12
"""Steps of a forecast."""

Forecast = Callable[[float, float, float], Sequence[tuple[float, float]]]
"""From now, horizon and step, s, to `(time, budget)` pairs, s and W."""


@dataclass(frozen=True, slots=True)
class DepthSettings:
    """What the stage needs of the pool.

    Attributes:
        ladder: The depths.
        goal: Chooses the best plan where sleeping replicas draw what they draw at the deepest rung.
        margin_share: Share of the budget left free.
        forecast: Forecast of the budget; None to decide without one.
    """

    ladder: SleepLadder
    goal: Goal
    margin_share: float
    forecast: Forecast | None = None


@dataclass(frozen=True, slots=True)
class NeedAhead:
    """How many replicas are going to be needed.

    Attributes:
        from_s: Time of the forecast, s.
        step_s: Time between two numbers, s.
        needed: The numbers, the first of them now.
    """

    from_s: float
    step_s: float
    needed: tuple[int, ...]

    def most(self, now_s: float, within_s: float) -> int:
        """Return the largest number from now on within so many seconds."""
        first = self._step(now_s)
        return max(self.needed[first : self._step(now_s + within_s) + 1])

    def at(self, time_s: float) -> int:
        """Return the number at a time."""
        return self.needed[self._step(time_s)]

    def _step(self, time_s: float) -> int:
        step = math.floor((time_s - self.from_s) / self.step_s)
        return min(max(0, step), len(self.needed) - 1)


def replicas_needed(
    observation: Observation, settings: DepthSettings, gpu_budget_w: float | None = None
) -> int:
    """Return how many replicas the best plan has awake if all others sleep at the deepest rung.

    Args:
        observation: The fleet, the deep replicas included.
        settings: The pool.
        gpu_budget_w: Budget of the GPUs, W; that of the observation by default.
    """
    budget_w = observation.gpu_budget_w if gpu_budget_w is None else gpu_budget_w
    everyone = replace(observation, replicas=tuple(map(_as_paused, observation.replicas)))
    saved_w = saved_by_nodes_w(observation.replicas, settings.ladder)
    usable_w = (budget_w - saved_w) * (1 - settings.margin_share)
    plan = settings.goal.best_plan(everyone, usable_w, AwakeBounds(0, len(everyone.replicas)))
    return len(plan.awake)


def need_ahead(observation: Observation, settings: DepthSettings) -> NeedAhead | None:
    """Return the need by the forecast; None without one. The demand is taken to stay."""
    if settings.forecast is None:
        return None
    ladder = settings.ladder
    times_s = [s for s in ladder.pays_after_s if math.isfinite(s)]
    horizon_s = max([*times_s, *(rung.wake_s for rung in ladder.rungs)])
    step_s = horizon_s / STEPS_AHEAD
    now_s = observation.now_s
    pairs = settings.forecast(now_s, horizon_s + step_s, step_s)
    needed = tuple(replicas_needed(observation, settings, watts) for _, watts in pairs)
    return NeedAhead(now_s, step_s, needed)


def saved_by_nodes_w(replicas: Iterable[ReplicaObservation], ladder: SleepLadder) -> float:
    """Return what nodes that are off do not draw beside their GPUs, W."""
    off = ladder.by_depth.get(SleepDepth.OFF)
    if off is None:
        return 0.0
    return off.node_w * sum(r.is_deep and r.depth is SleepDepth.OFF for r in replicas)


def _as_paused(replica: ReplicaObservation) -> ReplicaObservation:
    """Return a replica that starts, wakes or sleeps deep as one that is paused."""
    if replica.is_deep or replica.state == ReplicaState.STARTING:
        return replace(
            replica, state=ReplicaState.ASLEEP, depth=SleepDepth.PAUSED, deep_w=0.0, starting_w=0.0
        )
    return replica
