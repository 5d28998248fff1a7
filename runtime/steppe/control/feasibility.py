"""Is there power enough, now and as far as the forecast reaches, and when will there be?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from steppe.control.plan import AwakeBounds
from steppe.control.planner import Need, Planner
from steppe.control.state import Observation
from steppe.frontier.pareto import Frontier

Forecast = Sequence[tuple[float, float]]
"""Times, s since the run began, and the power budget from then on, W; in order."""


@dataclass(frozen=True, slots=True)
class Shortage:
    """A time in which the budget is less than what is needed.

    Attributes:
        short_w: How much more is needed at its worst, W.
        begins_s: Time until it begins, s; 0 when it is here.
        until_s: Time until it ends, s; None when the forecast does not see its end.
    """

    short_w: float
    begins_s: float
    until_s: float | None


@dataclass(frozen=True, slots=True)
class Outlook:
    """What the budget is not enough for, now or first in the forecast.

    Attributes:
        floor: Below what the fleet draws with every replica asleep; None: not foreseen.
        demand: Below what the demand takes at the SLO; None: not foreseen.
    """

    floor: Shortage | None
    demand: Shortage | None

    @property
    def feasible_now(self) -> bool:
        """Whether the budget is enough at this moment, for the floor and for the demand."""
        return not any(shortage.begins_s <= 0 for shortage in self._shortages)

    @property
    def short_w(self) -> float:
        """What is missing at the worst of the shortages that are here, W."""
        here = [shortage.short_w for shortage in self._shortages if shortage.begins_s <= 0]
        return max(here, default=0.0)

    @property
    def until_s(self) -> float | None:
        """Time until the shortages that are here have ended, s; None when none is seen to."""
        ends = [shortage.until_s for shortage in self._shortages if shortage.begins_s <= 0]
        known = [end_s for end_s in ends if end_s is not None]
        return max(known, default=0.0) if len(known) == len(ends) else None

    @property
    def _shortages(self) -> tuple[Shortage, ...]:
        return tuple(shortage for shortage in (self.floor, self.demand) if shortage is not None)


def outlook(seen: Observation, frontier: Frontier, forecast: Forecast) -> Outlook:
    """Return whether the budget suffices now and in the forecast.

    The demand is taken as it is now, and at most as much as the replicas give that can serve:
    what more watts could not serve is not for want of power.

    Args:
        seen: The fleet; its budget holds until the first time of the forecast after now.
        frontier: Operating points of one replica that keep the SLO.
        forecast: The budget to come.
    """
    planner = Planner(frontier, frontier.floor.draw_w)
    tally = seen.tally
    usable, others_w = tally.usable, planner.others_w(tally, 0)
    floor_w = usable * frontier.asleep_w + others_w
    most_tps = usable * frontier.full.output_tps
    # The least bit less: a sum of floats must not miss the most by its rounding.
    need = Need(min(seen.demand_tps, most_tps * (1 - 1e-9)), 0)
    plan = planner.covering(need, usable, AwakeBounds(0, usable))
    demand_w = floor_w if plan is None else plan.draw_w + others_w
    coming = [(seen.now_s, seen.budget_w), *(pair for pair in forecast if pair[0] > seen.now_s)]
    return Outlook(first_shortage(coming, floor_w), first_shortage(coming, demand_w))


def first_shortage(coming: Forecast, needed_w: float) -> Shortage | None:
    """Return the first time in which the budget is below a need.

    Args:
        coming: Now and the budget; then the forecast.
        needed_w: What is needed, W.
    """
    now_s = coming[0][0]
    short_w, begins_s = 0.0, 0.0
    for at_s, budget_w in coming:
        if budget_w < needed_w:
            begins_s = begins_s if short_w else at_s - now_s
            short_w = max(short_w, needed_w - budget_w)
        elif short_w:
            return Shortage(short_w, begins_s, at_s - now_s)
    return Shortage(short_w, begins_s, None) if short_w else None
