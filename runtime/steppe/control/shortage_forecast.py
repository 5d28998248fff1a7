"""Is the budget enough, now and in the forecast, and when will it be?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Self

from steppe.control.policy.goals import at_slo_if_any
from steppe.control.policy.planner import EVERYTHING, LEAST_TPS, Planner
from steppe.control.policy.policy import Foresight
from steppe.control.state import Observation
from steppe.frontier.group import ReplicaGroup
from steppe.frontier.mix import lower_draw
from steppe.frontier.pareto import Frontier

Forecast = Sequence[tuple[float, float]]
"""Times, s since the run began, and the power budget from then on, W; in order."""
Level = Literal["floor", "demand"]
"""What a budget can be too small for: the sleeping fleet, or the demand at the SLO."""
WORDS: dict[Level, str] = {"floor": "the sleeping fleet", "demand": "the demand at the SLO"}
"""What that is, in words."""

NEAR_S, NEAR_STEP_S = 300.0, 5.0
FAR_S, FAR_STEP_S = 3600.0, 60.0
"""Length and steps of the forecast, s: fine at first, then coarse."""
UPDATE_S = 5.0
"""Time between two forecasts while nothing changes, s."""


@dataclass(frozen=True, slots=True)
class Shortage:
    """A time in which the budget is less than the need.

    Attributes:
        short_w: Largest difference to the need, W.
        begins_in_s: Time until it begins, s; 0 once it has.
        ends_in_s: Time until it ends, s; None if it lasts beyond the forecast.
    """

    short_w: float
    begins_in_s: float
    ends_in_s: float | None

    @property
    def is_here(self) -> bool:
        """Whether it has begun."""
        return self.begins_in_s <= 0


@dataclass(frozen=True, slots=True)
class ShortageForecast:
    """What the budget is not enough for, now or first in the forecast; None: nothing is foreseen.

    Attributes:
        floor: Budget below the draw with every replica asleep.
        serving: Budget below the draw with one replica awake at its lowest point.
        demand: Budget below the draw that serves the demand at the SLO.
    """

    floor: Shortage | None
    serving: Shortage | None
    demand: Shortage | None

    @property
    def shortages(self) -> tuple[tuple[Level, Shortage], ...]:
        """The shortages of the floor and of the demand."""
        found: tuple[tuple[Level, Shortage | None], ...]
        found = (("floor", self.floor), ("demand", self.demand))
        return tuple((level, shortage) for level, shortage in found if shortage is not None)

    @property
    def serves_in_s(self) -> float | None:
        """Time until a replica can serve again, s; None if one can now, or none in the forecast."""
        if self.serving is None or not self.serving.is_here:
            return None
        return self.serving.ends_in_s

    @property
    def here(self) -> tuple[bool, bool, bool]:
        """Which of the three have begun."""
        return (_is_here(self.floor), _is_here(self.serving), _is_here(self.demand))


def _is_here(shortage: Shortage | None) -> bool:
    return shortage is not None and shortage.is_here


@dataclass(frozen=True, slots=True)
class ShortagePoints:
    """Operating points of one replica, by which shortages are computed.

    Attributes:
        frontier: All points.
        kept: Those that keep the SLO; all points if none does.
        pools: The points of each pool, by its name; empty where there is only one. The other
            points are then not read.
    """

    frontier: Frontier
    kept: Frontier
    pools: Mapping[str, ShortagePoints] = field(default_factory=dict)

    @classmethod
    def of(cls, frontier: Frontier, tpot_s: float) -> Self:
        """Return the points, given the longest time per output token by the SLO, s."""
        return cls(frontier, at_slo_if_any(frontier, tpot_s))

    @classmethod
    def of_pools(cls, pools: Mapping[str, ShortagePoints]) -> ShortagePoints:
        """Return the points of one pool, or of several."""
        first = next(iter(pools.values()))
        return first if len(pools) == 1 else cls(first.frontier, first.kept, pools)


@dataclass(frozen=True, slots=True)
class PowerNeeds:
    """The power that a fleet needs at one instant.

    Attributes:
        floor_w: Draw with every replica asleep, W.
        serving_w: Draw with one replica at its lowest point and the others asleep, W.
        demand_w: Least draw that serves the demand at the SLO, W.
    """

    floor_w: float
    serving_w: float
    demand_w: float


def power_needs(observation: Observation, points: ShortagePoints) -> PowerNeeds:
    """Return the power that a fleet needs.

    The demand counts as it is now, and at most with what the replicas that can serve give: what
    more watts could not serve is no shortage of power. Without demand one replica must stay awake,
    or the first request would have to wait for a wake.

    Args:
        observation: The fleet; the budget in it is not read.
        points: What one replica can do.
    """
    if observation.pools:
        return _needs_of_all(
            [power_needs(part, points.pools[name]) for name, part in observation.pools.items()]
        )
    counts, asleep_w = observation.counts, points.frontier.asleep_w
    usable = counts.usable
    others_w = Planner(points.frontier, points.frontier.floor.draw_w).others_w(
        observation, may_drain=False
    )
    floor_w = usable * asleep_w + others_w
    serving_w = floor_w + max(0.0, points.frontier.floor.draw_w - asleep_w) * min(usable, 1)
    return PowerNeeds(
        floor_w, serving_w, covering_w(points.kept, usable, observation.demand_tps) + others_w
    )


def _needs_of_all(needs: Sequence[PowerNeeds]) -> PowerNeeds:
    """Return what several pools need together; one awake replica of any pool serves."""
    floor_w = sum(need.floor_w for need in needs)
    return PowerNeeds(
        floor_w,
        floor_w + min(need.serving_w - need.floor_w for need in needs),
        sum(need.demand_w for need in needs),
    )


def covering_w(frontier: Frontier, replicas: int, demand_tps: float) -> float:
    """Return the least draw that covers a demand, W, by exchanges: an exact search is slow."""
    group = ReplicaGroup.awake_or_asleep(frontier, replicas, EVERYTHING)
    # Slightly less, so that rounding of a sum cannot exceed the most.
    most_tps = replicas * frontier.full.output_tps * (1 - 1e-9)
    need_tps = max(LEAST_TPS, min(demand_tps, most_tps))
    counts = group.covering(need_tps)
    return group.least_w if counts is None else group.draw_w(lower_draw(group, counts, need_tps))


def forecast_shortages(needed: PowerNeeds, coming: Forecast) -> ShortageForecast:
    """Return what the budget is not enough for, now and in the forecast.

    Args:
        needed: What the fleet needs.
        coming: Now and the budget, which holds until the next time; then the forecast.
    """
    levels_w = (needed.floor_w, needed.serving_w, needed.demand_w)
    return ShortageForecast(*(first_shortage(coming, needed_w) for needed_w in levels_w))


def first_shortage(coming: Forecast, needed_w: float) -> Shortage | None:
    """Return the first time in which the budget is below a need.

    Args:
        coming: Now and the budget; then the forecast.
        needed_w: What is needed, W.
    """
    now_s = coming[0][0]
    short_w, begins_in_s = 0.0, 0.0
    for at_s, budget_w in coming:
        if budget_w < needed_w:
            begins_in_s = begins_in_s if short_w else at_s - now_s
            short_w = max(short_w, needed_w - budget_w)
        elif short_w:
            return Shortage(short_w, begins_in_s, at_s - now_s)
    return Shortage(short_w, begins_in_s, None) if short_w else None


class ShortageMonitor:
    """Finds shortages at each tick, with a forecast and needs that are some seconds old.

    Only the present budget is read each time, because a forecast of an hour is slow. It is made
    again every `UPDATE_S`, and when a shortage begins or ends.
    """

    def __init__(self, points: ShortagePoints, forecast: Foresight) -> None:
        """Begin without a forecast.

        Args:
            points: Operating points of one replica.
            forecast: Forecast of the budget for the GPUs.
        """
        self._points, self._forecast = points, forecast
        self._needs = PowerNeeds(0.0, 0.0, 0.0)
        self._coming: Forecast = ()
        self._updated_s = -math.inf
        self._here = (False, False, False)

    def update(self, observation: Observation, taken_w: float = 0.0) -> ShortageForecast:
        """Return what the budget is not enough for, at the time of the observation.

        Args:
            observation: The replicas that can be counted on, and the budget for all.
            taken_w: Draw of the others, W.
        """
        found = self._forecast_from(observation, taken_w)
        if found.here != self._here or observation.now_s - self._updated_s >= UPDATE_S:
            self._updated_s = observation.now_s
            self._needs = power_needs(observation, self._points)
            self._coming = _ahead(self._forecast, observation.now_s)
            found = self._forecast_from(observation, taken_w)
            self._here = found.here
        return found

    def _forecast_from(self, observation: Observation, taken_w: float) -> ShortageForecast:
        later = [pair for pair in self._coming if pair[0] > observation.now_s]
        coming = [(observation.now_s, observation.gpu_budget_w), *later]
        return forecast_shortages(
            self._needs, [(at_s, budget_w - taken_w) for at_s, budget_w in coming]
        )


def _ahead(forecast: Foresight, now_s: float) -> Forecast:
    """Return a forecast that is fine at first and coarse later."""
    near = forecast(now_s, NEAR_S, NEAR_STEP_S)
    far = forecast(now_s, FAR_S, FAR_STEP_S)
    return [*near, *(pair for pair in far if pair[0] >= now_s + NEAR_S)]
