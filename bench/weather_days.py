"""Random days of a year of wind or sun, as budgets of the scoreboard.

Three sources: a turbine in the measured hourly wind of Sand Point, a photovoltaic plant in the
measured hourly weather of Greensboro (both typical years of pvlib), and the measured power of the
wind farm La Haute Borne every 10 minutes of 2014 (ENGIE, Etalab open licence; a file outside this
project). Each stands beside a firm share, as on the days of `scenarios.py`. A run shows a part of
a day, at a random hour, or all of it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from statistics import mean

from scenarios import DAY_S, FIRM_SHARE, Happening
from steppe.config import TraceSupply
from steppe.power.solar import solar_trace
from steppe.power.trace import HOUR_S, SupplyTrace, load_trace
from steppe.power.wind import wind_trace

WIND, SUN, FARM = "wind", "sun", "farm"
FARM_FILE = "shared/data/renewable/la_haute_borne_wind_8.2MW_10min_2014.csv.gz"
FARM_PATH = Path(__file__).parents[2] / FARM_FILE
DAYS_IN_YEAR = 365
STEP_S = 60.0
"""Spacing of a budget's values, s of the day."""
RATED = {WIND: 1 - FIRM_SHARE, FARM: 1 - FIRM_SHARE, SUN: 1.5}
"""Rated power of a source, share of the full draw, as on the days of `scenarios.py`."""


@dataclass(frozen=True, slots=True)
class WeatherDay:
    """A day of a source, and when on it a run begins.

    Attributes:
        source: `wind`, `sun` or `farm`.
        day: Day of the source's year, counted from 0.
        hour: Hour of the day at which the run begins.
    """

    source: str
    day: int
    hour: float

    @property
    def name(self) -> str:
        """What people call it."""
        return f"{self.source}, day {self.day + 1}, {self.hour:04.1f} h"


def sources_here() -> tuple[str, ...]:
    """Return the sources whose data are here."""
    return (WIND, SUN, FARM) if FARM_PATH.is_file() else (WIND, SUN)


def random_days(
    sources: Sequence[str], count: int, span_s: float, rng: random.Random
) -> list[WeatherDay]:
    """Return so many days, dealt to the sources in turn, no day of a source twice.

    Args:
        sources: What they are days of.
        count: How many.
        span_s: Part of the day that a run shows, s.
        rng: Chance.
    """
    latest_h = max(0.0, (DAY_S - span_s) / HOUR_S)
    drawn = {source: rng.sample(range(DAYS_IN_YEAR), DAYS_IN_YEAR) for source in sources}
    found = []
    for number in range(count):
        source = sources[number % len(sources)]
        hour = round(rng.uniform(0.0, latest_h), 1)
        found.append(WeatherDay(source, drawn[source].pop(), min(hour, latest_h)))
    return found


def happening_of(day: WeatherDay, full_w: float, duration_s: float, speed: float) -> Happening:
    """Return the budget of a day for a fleet.

    Args:
        day: The day.
        full_w: Draw of the fleet at the full point, W.
        duration_s: Length of the run, s.
        speed: Seconds of the day in a second of the run.
    """
    year, begin_s = year_of(day.source), day.day * DAY_S + day.hour * HOUR_S
    steps = max(1, round(duration_s * speed / STEP_S))
    times_s = tuple(duration_s * step / steps for step in range(steps + 1))
    shares = (share_at(year, day.source, begin_s + speed * time_s) for time_s in times_s)
    watts = tuple(full_w * share for share in shares)
    return Happening(day.name, SupplyTrace(times_s, watts, None), FIRM_SHARE * full_w)


def share_at(year: SupplyTrace, source: str, year_s: float) -> float:
    """Return the budget at a time of a source's year, share of the full draw, at most 1."""
    return min(1.0, FIRM_SHARE + RATED[source] * year.at(min(year_s, year.end_s)))


@lru_cache
def year_of(source: str) -> SupplyTrace:
    """Return a source's year, as a share of its rated power."""
    if source == WIND:
        return wind_trace("sand_point", 1.0)
    if source == SUN:
        return solar_trace("greensboro", 1.0)
    return load_trace(TraceSupply(kind="trace", path=FARM_PATH, rated_w=1.0))


@lru_cache
def year_quantiles(source: str) -> dict[str, float]:
    """Return how the hourly budget of a source's year is distributed, share of the full draw."""
    year = year_of(source)
    hours = sorted(share_at(year, source, HOUR_S * hour) for hour in range(24 * DAYS_IN_YEAR))
    at = {"p10": 0.1, "median": 0.5, "p90": 0.9}
    found = {name: hours[int(share * (len(hours) - 1))] for name, share in at.items()}
    return {"mean": mean(hours), **found}
