"""Budgets and failures that every policy goes through, as pure functions.

Each function returns what happens to a fleet whose full draw is given, over a run of a given
length. Days are compressed into the run, so that the budget moves faster than it would.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from steppe.power.solar import solar_trace
from steppe.power.trace import HOUR_S, SupplyTrace
from steppe.power.wind import wind_trace

DAY_S = 24 * HOUR_S
STEP_S = 1e-3
"""How long a step of the budget takes, s: nothing to a control period."""
STALE_S = 60.0
"""Age at which the last value of a lost signal expires, s."""
FIRM_SHARE = 0.2
"""Firm supply beside wind and sun, and the fallback of a lost signal: share of the full draw."""
BUSY_LOAD, SPARE_LOAD = 0.7, 0.5
"""Load where no budget binds, share of the usual one: at 0.8 its peak is 78 and 56 % of what the
fleet serves at full power. The first is sized tightly; the second can lose a third of itself."""
WINDY_DAY, CLOUDY_DAY = 306, 215
"""Days of the stations' years, counted from 0, on which the supply moves most hour by hour."""


@dataclass(frozen=True, slots=True)
class Death:
    """A replica dies.

    Attributes:
        at_s: When, s since the run began.
        share: Where it stands in the fleet, from 0 to below 1.
    """

    at_s: float
    share: float


@dataclass(frozen=True, slots=True)
class Happening:
    """What happens to a fleet.

    Attributes:
        name: What people call it.
        budget: Watts for the GPUs over the run; where it ends early the signal is lost.
        fallback_w: Budget once the last value of a lost signal has expired, W.
        deaths: Replicas that die.
        load_share: How much of the usual load comes.
    """

    name: str
    budget: SupplyTrace
    fallback_w: float
    deaths: tuple[Death, ...] = ()
    load_share: float = 1.0


def windy_day(full_w: float, duration_s: float) -> Happening:
    """Return a day of wind at Sand Point, and a firm share."""
    year = wind_trace("sand_point", (1 - FIRM_SHARE) * full_w)
    return Happening("windy day", _day(year, WINDY_DAY, full_w, duration_s), FIRM_SHARE * full_w)


def cloudy_solar_day(full_w: float, duration_s: float) -> Happening:
    """Return a day of sun and clouds at Greensboro, and a firm share."""
    year = solar_trace("greensboro", 1.5 * full_w)
    return Happening(
        "cloudy solar day", _day(year, CLOUDY_DAY, full_w, duration_s), FIRM_SHARE * full_w
    )


def phoenix_event(full_w: float, duration_s: float) -> Happening:
    """Return one event of -25 %: a ramp of 15 minutes, 3 hours held, and back at once.

    The shape of Emerald's field test in Phoenix (arXiv 2507.00909), compressed from 5 hours.
    """
    unit_s = duration_s / 5
    high_w, low_w = 0.8 * full_w, 0.6 * full_w
    return _of(
        "-25 % event",
        full_w,
        [
            (0.0, high_w),
            (unit_s, high_w),
            (1.25 * unit_s, low_w),
            (4.25 * unit_s, low_w),
            (4.25 * unit_s + STEP_S, high_w),
            (duration_s, high_w),
        ],
    )


def forty_steps(full_w: float, duration_s: float) -> Happening:
    """Return 40 steps, down by 30 % and up again, each held for the same time."""
    hold_s = duration_s / 41
    low_w = 0.85 * full_w * 0.7
    levels_w = [low_w if step % 2 else 0.85 * full_w for step in range(41)]
    rows = []
    for step, level_w in enumerate(levels_w):
        begin_s = step * hold_s
        rows += [(begin_s + (STEP_S if step else 0.0), level_w), ((step + 1) * hold_s, level_w)]
    return _of("40 steps of 30 %", full_w, rows)


def grid_emergency(full_w: float, duration_s: float) -> Happening:
    """Return a cut to 20 % of the full draw, at once, for the middle third of the run."""
    third_s, high_w, low_w = duration_s / 3, 0.9 * full_w, 0.2 * full_w
    return _of(
        "emergency to 20 %",
        full_w,
        [
            (0.0, high_w),
            (third_s, high_w),
            (third_s + STEP_S, low_w),
            (2 * third_s, low_w),
            (2 * third_s + STEP_S, high_w),
            (duration_s, high_w),
        ],
    )


def signal_lost(full_w: float, duration_s: float) -> Happening:
    """Return a budget whose signal is lost half-way; its last value soon expires."""
    level_w = 0.7 * full_w
    return _of("signal lost", full_w, [(0.0, level_w), (duration_s / 2, level_w)])


def replica_failures(full_w: float, duration_s: float) -> Happening:
    """Return a steady budget under which ten times a replica dies, at ten places of the fleet.

    In a fleet of few a replica may die twice; one that just starts again dies no more.
    """
    rng = random.Random(1)
    deaths = tuple(
        Death(duration_s * (1 + number) / 12, (number + rng.random()) / 10) for number in range(10)
    )
    level_w = 0.7 * full_w
    budget = _of("replica failures", full_w, [(0.0, level_w), (duration_s, level_w)])
    return replace(budget, deaths=deaths)


def ample(full_w: float, duration_s: float) -> Happening:
    """Return more watts than the fleet can draw: what is left to save is energy."""
    return _ample("no budget, peak 78 %", full_w, duration_s, BUSY_LOAD)


def ample_and_spare(full_w: float, duration_s: float) -> Happening:
    """Return the same for a fleet with replicas to spare at the peak of its day."""
    return _ample("no budget, peak 56 %", full_w, duration_s, SPARE_LOAD)


Maker = Callable[[float, float], Happening]
HAPPENINGS: tuple[Maker, ...] = (
    windy_day,
    cloudy_solar_day,
    phoenix_event,
    forty_steps,
    grid_emergency,
    signal_lost,
    replica_failures,
    ample,
    ample_and_spare,
)


def _ample(name: str, full_w: float, duration_s: float, load_share: float) -> Happening:
    level_w = 1.2 * full_w
    budget = _of(name, full_w, [(0.0, level_w), (duration_s, level_w)])
    return replace(budget, load_share=load_share)


def _of(name: str, full_w: float, rows: list[tuple[float, float]]) -> Happening:
    times_s, watts = zip(*rows, strict=True)
    return Happening(name, SupplyTrace(times_s, watts, None), FIRM_SHARE * full_w)


def _day(year: SupplyTrace, day: int, full_w: float, duration_s: float) -> SupplyTrace:
    """Return one day of a year and the firm share, compressed into the run."""
    steps, speed = 24 * 12, DAY_S / duration_s
    times_s = tuple(DAY_S * step / steps for step in range(steps + 1))
    # No fleet could draw more than its all: what lies above says nothing about a policy.
    watts = tuple(
        min(full_w, FIRM_SHARE * full_w + year.at(day * DAY_S + time_s)) for time_s in times_s
    )
    return SupplyTrace(tuple(time_s / speed for time_s in times_s), watts, None)
