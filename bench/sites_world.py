"""The world of `sites.py`: where sites are, their wind and sun, and what comes to them.

The first ten places are the clusters of China's national hubs ("East data, west computing"); more
are drawn in the same area. Round trips follow distance: 2 ms, and 1.4 times the way in fibre, there
and back. The wind of each site is the measured power of La Haute Borne (2014, every 10 minutes),
shifted by whole multiples of three days: such winds are INDEPENDENT, and pool better than real
neighbours. With `front` all sites have the same wind one after the other, as a front passes them.
The sun is pvlib's plant at Greensboro in the solar time of each longitude. Lengths and bursts are
those of the Azure conversation trace; the shape of the day is ASSUMED, for the trace has one hour.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steppe.config import TraceSupply
from steppe.grid.backtest.synthetic import DAY_SHAPE, WIND_ERROR, WIND_MEMORY, renewable_forecast
from steppe.load.traces import read_trace
from steppe.power.solar import solar_trace
from steppe.power.trace import load_trace

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]

FARM = "renewable/la_haute_borne_wind_8.2MW_10min_2014.csv.gz"
REQUESTS = "requests/AzureLLMInferenceTrace_conv.csv"
PLACES = {
    "hohhot": (40.5, 111.8), "guian": (26.4, 106.6), "shanghai": (31.2, 121.1),
    "zhangjiakou": (40.8, 114.9), "shaoguan": (24.8, 113.6), "zhongwei": (37.5, 105.2),
    "chengdu": (30.7, 104.1), "qingyang": (35.7, 107.6), "wuhu": (31.3, 118.4),
    "chongqing": (29.6, 106.5),
}  # fmt: skip
LATITUDES, LONGITUDES, EAST = (22.0, 46.0), (82.0, 125.0), 112.5
PRICE_PER_KWH, GCO2_PER_KWH = {"west": 0.35, "east": 0.6}, {"west": 640.0, "east": 570.0}
"""Assumed: mean price, CNY, and carbon of energy from the grid in two zones."""
PRICE_SWING = 0.25
"""Assumed: spread of the price over the day, share of its mean."""
WIND_SHARE = 0.7
"""Share of a site's own energy that is wind."""
DEPTH, PEAK_H = 0.4, 14.0
"""Assumed: how far the load of a day is from its mean, and the hour of its peak, solar time."""
GOES_ON, PREFIX = 0.39, 0.95
"""Share of requests that go on with a conversation, and of their prompts that was there before:
39 %, and 37 % of all prompt tokens, in the Mooncake conversation trace (blocks of 512 tokens)."""
THINK_S = 120.0
"""Time between two requests of a conversation: the median there is 123 s."""
FRONT_MPS = 15.0
"""Speed of the front."""
QUARTER_S, DAY_S, HOUR_S, YEAR_DAYS, ZONE_H = 900.0, 86400.0, 3600.0, 365, 8.0
WIND_EVERY_DAYS = 3


@dataclass(frozen=True, slots=True)
class Case:
    """What one world is made of.

    Attributes:
        sites: How many.
        days: How long.
        step_s: Length of a step, s.
        parcels: Parcels of requests that come to a site in a step: half of them begin
            conversations, the others go on with one.
        beat_steps: Steps between two beats of Steppe's sites.
        spare: Capacity over the mean load.
        seed: Of chance, and of the week of the year.
        front: Whether all sites have the same wind one after the other.
        replicas: Replicas of each site.
    """

    sites: int
    days: float = 7.0
    step_s: float = 5.0
    parcels: int = 4
    beat_steps: int = 1
    spare: float = 2.0
    seed: int = 0
    front: bool = False
    replicas: int = 16

    @property
    def steps(self) -> int:
        """Number of steps."""
        return round(self.days * DAY_S / self.step_s)

    @property
    def begins(self) -> int:
        """Parcels of a step that begin conversations; they come first."""
        return self.parcels // 2

    @property
    def weights(self) -> Floats:
        """Share of the requests of a step in each parcel."""
        new, old = self.begins, self.parcels - self.begins
        return np.array([(1 - GOES_ON) / new] * new + [GOES_ON / old] * old)


@dataclass(frozen=True, slots=True)
class World:
    """All that policies share; arrays of (steps, sites), or (steps, sites, parcels).

    Attributes:
        case: What it is made of.
        names: Names of the sites.
        rtt_s: Round trips, (sites, sites), s.
        renewable_w: Wind and sun, W.
        forecast_w: What was forecast the day before, quarters of an hour, W.
        error_w: Standard deviation of that forecast, of each site, W.
        price: Price of energy from the grid by site and hour of the day (UTC+8), CNY/kWh.
        gco2: Its carbon of each site, g/kWh.
        requests: Requests that come, (steps, sites).
        expected: Requests per second that yesterday's shape of the day gives, (hours, sites).
        slots: Conversation of each parcel: its place among the open ones of its site.
        prompts: Prompt tokens of one request of the parcel.
        chance: A number from 0 to 1 for each parcel.
        open_slots: Open conversations of a site.
        wind_correlation: Mean correlation of the wind of two sites in this time.
    """

    case: Case
    names: tuple[str, ...]
    rtt_s: Floats
    renewable_w: Floats
    forecast_w: Floats
    error_w: float
    price: Floats
    gco2: Floats
    requests: Floats
    expected: Floats
    slots: Ints
    prompts: Ints
    chance: Floats
    open_slots: int
    wind_correlation: float

    def hour(self, step: int) -> int:
        """Return the hour of the day of a step, UTC+8."""
        return int(step * self.case.step_s / HOUR_S) % 24


def make_world(case: Case, data: Path, mean_rps: float, mean_w: float) -> World:
    """Return the world of a case.

    Args:
        case: What it is made of.
        data: Folder with `renewable` and `requests`.
        mean_rps: Mean load of a site, requests per second.
        mean_w: Mean power of its wind and sun over a year, W.
    """
    rng = np.random.default_rng([case.seed, case.sites])
    names, at = places(case.sites, rng)
    quarters = np.arange(math.ceil(case.days * 96) + 17) * QUARTER_S
    wind, sun = _wind(case, data, at, rng), _sun(case, at, rng)
    times_s = (np.arange(case.steps) + 0.5) * case.step_s
    each = wind.at(times_s), sun.at(times_s)
    whole_w = mean_w * (WIND_SHARE * wind.at(quarters) + (1 - WIND_SHARE) * sun.at(quarters))
    rated_w = mean_w * (WIND_SHARE * wind.most + (1 - WIND_SHARE) * sun.most)
    ahead = [renewable_forecast(column / rated_w, rng) for column in whole_w.T]
    zones = ["east" if lon > EAST else "west" for lon in at[:, 1]]
    shape = np.array(DAY_SHAPE) / np.std(DAY_SHAPE) * PRICE_SWING
    expected = mean_rps * _day(np.arange(24.0), at[:, 1])
    requests = _requests(case, data, at, mean_rps, rng)
    open_slots = max(4, round(THINK_S * case.begins / case.step_s))
    pool = np.array([each.prompt_tokens for each in read_trace(data / REQUESTS)])
    size = (case.steps, case.sites, case.parcels)
    return World(
        case, names, trips_s(at),
        renewable_w=mean_w * (WIND_SHARE * each[0] + (1 - WIND_SHARE) * each[1]),
        forecast_w=rated_w * np.array(ahead).T,
        error_w=WIND_ERROR * rated_w,
        price=np.array([PRICE_PER_KWH[zone] * (1 + shape) for zone in zones]),
        gco2=np.array([GCO2_PER_KWH[zone] for zone in zones]),
        requests=requests, expected=expected, slots=rng.integers(0, open_slots, size),
        prompts=rng.choice(pool, size), chance=rng.random(size), open_slots=open_slots,
        wind_correlation=_correlation(each[0]),
    )  # fmt: skip


def places(count: int, rng: np.random.Generator) -> tuple[tuple[str, ...], Floats]:
    """Return names and (latitude, longitude) of some sites, degrees."""
    known = list(PLACES.items())[:count]
    more = count - len(known)
    drawn = np.stack([rng.uniform(*LATITUDES, more), rng.uniform(*LONGITUDES, more)], 1)
    names = [name for name, _ in known] + [f"site-{number}" for number in range(more)]
    return tuple(names), np.concatenate([np.array([at for _, at in known]), drawn])


def trips_s(at: Floats) -> Floats:
    """Return the round trips between places, s; 0 to oneself."""
    lat, lon = np.radians(at).T
    inner = np.sin(lat)[:, None] * np.sin(lat) + np.cos(lat)[:, None] * np.cos(lat) * np.cos(
        lon[:, None] - lon
    )
    km = 6371.0 * np.arccos(np.clip(inner, -1.0, 1.0))
    trips: Floats = 2 * km * 1.4 / 2e5 + 0.002
    np.fill_diagonal(trips, 0.0)
    return trips


@dataclass(frozen=True, slots=True)
class _Source:
    """A year of power over its mean, and where in it each site begins, s."""

    year_s: Floats
    shares: Floats
    begins_s: Floats

    @property
    def most(self) -> float:
        return float(self.shares.max())

    def at(self, times_s: Floats) -> Floats:
        """Return the power of each site over its mean, (times, sites)."""
        when = (times_s[:, None] + self.begins_s) % self.year_s[-1]
        found: Floats = np.interp(when, self.year_s, self.shares)
        return found


@lru_cache
def _farm(path: Path) -> tuple[Floats, Floats]:
    trace = load_trace(TraceSupply(kind="trace", path=path, rated_w=1.0))
    watts = np.array(trace.watts)
    return np.array(trace.times_s), watts / watts.mean()


@lru_cache
def _plant() -> tuple[Floats, Floats]:
    trace = solar_trace("greensboro", 1.0)
    hourly = np.array([trace.at(HOUR_S * hour) for hour in range(8761)])
    return np.arange(8761) * HOUR_S, hourly / hourly.mean()


def _first_day(case: Case) -> int:
    return (11 + 73 * case.seed) % YEAR_DAYS


def _wind(case: Case, data: Path, at: Floats, rng: np.random.Generator) -> _Source:
    """Return the wind: other days of the farm's year, or the same ones, later and later."""
    if case.front:
        east_m = 1e3 * 111.2 * np.cos(np.radians(at[:, 0])) * (at[:, 1] - LONGITUDES[0])
        begins = _first_day(case) * DAY_S - (east_m - east_m.min()) / FRONT_MPS
    else:
        days = WIND_EVERY_DAYS * rng.permutation(YEAR_DAYS // WIND_EVERY_DAYS)[: case.sites]
        begins = (_first_day(case) + days) * DAY_S
    return _Source(*_farm(data / FARM), begins.astype(float))


def _sun(case: Case, at: Floats, rng: np.random.Generator) -> _Source:
    """Return the sun: days of the season, in the solar time of each place."""
    days = _first_day(case) + rng.integers(-20, 21, case.sites)
    return _Source(*_plant(), DAY_S * (days % YEAR_DAYS) + HOUR_S * (at[:, 1] / 15 - ZONE_H))


def _day(hours: Floats, longitudes: Floats) -> Floats:
    """Return the load over its mean, (hours, sites); hours are UTC+8."""
    solar_h = hours[:, None] + longitudes / 15 - ZONE_H
    day: Floats = 1 + DEPTH * np.cos(2 * math.pi * (solar_h - PEAK_H) / 24)
    return day


def _requests(
    case: Case, data: Path, at: Floats, mean_rps: float, rng: np.random.Generator
) -> Floats:
    """Return how many requests come: the shape of the day, minutes of the trace, and chance."""
    came_s = np.array([each.at_s for each in read_trace(data / REQUESTS)])
    minutes = np.bincount((came_s // 60).astype(int))[:-1]
    bursts = minutes / minutes.mean()
    times_s = (np.arange(case.steps) + 0.5) * case.step_s
    where = (times_s[:, None] // 60).astype(int) + rng.integers(0, len(bursts), case.sites)
    rate_rps = mean_rps * _day(times_s / HOUR_S, at[:, 1]) * bursts[where % len(bursts)]
    came: Floats = rng.poisson(rate_rps * case.step_s).astype(float)
    return came


def _correlation(wind: Floats) -> float:
    """Return the mean correlation of two sites; 0 of one."""
    count = wind.shape[1]
    if count < 2:
        return 0.0
    apart = wind - wind.mean(axis=0)
    apart /= np.maximum(np.sqrt((apart**2).sum(axis=0)), 1e-9)
    each = apart.T @ apart
    return float((each.sum() - np.trace(each)) / (count * (count - 1)))


def forecast_at(world: World, step: int, quarters: int) -> tuple[Floats, Floats]:
    """Return what a site expects of its wind and sun, and how far off that may be, W.

    What the day-ahead forecast misses now decays as its errors do. Both of (quarters, sites); the
    second is one standard deviation.
    """
    first = int(step * world.case.step_s // QUARTER_S)
    missed_w = world.renewable_w[step] - world.forecast_w[first]
    left = WIND_MEMORY ** np.arange(quarters)[:, None]
    ahead_w = world.forecast_w[first : first + quarters] + left * missed_w
    return np.maximum(0.0, ahead_w), world.error_w * np.sqrt(1 - left**2) + 0 * ahead_w
