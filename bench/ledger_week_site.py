"""A site of `ledger_week`: wind, sun, battery, grid, and requests that are booked as in a run.

All is integers, uJ and us; a step is ten minutes, as the wind is measured.
"""

from __future__ import annotations

import csv
import gzip
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from random import Random

from steppe.ledger.booking import BookedRequest, BookedTotals, Booking
from steppe.ledger.green.supply import UJ_PER_WH
from steppe.ledger.split import split
from steppe.ledger.tariff import Rate, Tariff
from steppe.power.solar import solar_trace

HOUR_US = 3_600_000_000
STEPS = 6
"""Steps of an hour."""
STEP_S = 600
UJ_PER_J = 1_000_000
TENANTS = ("lab", "shop", "uni")
PRICES = Tariff(
    "week-1",
    "CNY",
    0,
    8,
    (
        Rate(band="surplus", prompt_nano=50, output_nano=200, joule_nano=30),
        Rate(band="normal", prompt_nano=100, cached_nano=10, output_nano=400, joule_nano=70),
    ),
)
EFFICIENCY, PER_CENT = 95, 100


@dataclass(frozen=True, slots=True)
class Weather:
    """What a wind farm and solar cells of 1 W rated give in each step, 10^-6 W.

    Attributes:
        wind: Share of the rated wind power.
        sun: Share of the rated solar power.
    """

    wind: Sequence[int]
    sun: Sequence[int]


def weather_of(path: Path | None, begin: datetime, hours: int, chance: Random) -> Weather:
    """Return the weather of some hours; made up without a file.

    Args:
        path: The measured wind, CSV with `time_utc` and `p_kw`, packed by gzip.
        begin: When it begins, UTC.
        hours: How many hours.
        chance: Makes it up.
    """
    steps = hours * STEPS
    if path is None:
        wind = [chance.randrange(10**6) for _ in range(steps)]
        night = [step // STEPS % 24 not in range(6, 18) for step in range(steps)]
        return Weather(wind, [0 if dark else chance.randrange(10**6) for dark in night])
    with gzip.open(path, "rt") as file:
        kilowatts = {row["time_utc"]: float(row["p_kw"]) for row in csv.DictReader(file)}
    times = [begin + timedelta(seconds=STEP_S * step) for step in range(steps)]
    most = max(kilowatts.values())
    found = [kilowatts.get(f"{time:%Y-%m-%dT%H:%M:%SZ}", 0.0) for time in times]
    cells = solar_trace("greensboro", 1.0)
    since = (begin - datetime(begin.year, 1, 1, tzinfo=begin.tzinfo)).total_seconds()
    return Weather(
        [round(10**6 * max(0.0, kw) / most) for kw in found],
        [round(10**6 * cells.at(since + STEP_S * step)) for step in range(steps)],
    )


@dataclass(slots=True)
class OpenRequest:
    """A request that has not ended; `left_uj` is what it takes in its next `steps` steps."""

    id: str
    tenant: str
    started_us: int
    terms: str
    energy_uj: int
    left_uj: int
    steps: int


@dataclass
class Site:
    """A site and what it has counted so far.

    Attributes:
        name: Its name.
        weather: What its sources give.
        wind_w: Rated power of its turbines, W.
        sun_w: Rated power of its cells, W.
        battery_uj: What its battery holds at most, uJ.
        gives_away: Whether it feeds what it does not use into the grid.
        requests: Requests that begin in an hour, on average.
        chance: Makes up its requests.
    """

    name: str
    weather: Weather
    wind_w: int
    sun_w: int
    battery_uj: int
    gives_away: bool
    requests: int
    chance: Random
    stored_uj: int = 0
    charged_uj: int = 0
    site_uj: int = 0
    supply_uj: Counter[str] = field(default_factory=Counter)
    meter_uj: int = 0
    idle_uj: int = 0
    transition_uj: int = 0
    unclaimed_uj: int = 0
    number: int = 0
    made: int = 0
    step: int = 0
    is_surplus: bool = False
    open: list[OpenRequest] = field(default_factory=list)
    ended: list[BookedRequest] = field(default_factory=list)

    @property
    def own_uj(self) -> dict[str, int]:
        """What its turbines and cells gave so far, without what was curtailed, uJ."""
        return {name: self.supply_uj[name] for name in ("wind", "sun")}

    def begin_requests(self, now_us: int) -> list[OpenRequest]:
        """Begin the requests of a step."""
        count = self.chance.randrange(2 * self.requests // STEPS + 1)
        return [self._request(now_us) for _ in range(count)]

    def run_step(self, now_us: int) -> None:
        """Let a step pass: draw, supply, and the requests that end."""
        used_uj = 0
        for each in self.open:
            part_uj = each.left_uj // each.steps
            each.left_uj, each.steps = each.left_uj - part_uj, each.steps - 1
            used_uj += part_uj
        ended = [each for each in self.open if not each.steps]
        self.open = [each for each in self.open if each.steps]
        self.ended += [self._booked(each, now_us) for each in ended]
        idle_uj = self.chance.randrange(9_000_000) * STEP_S
        transition_uj = self.chance.randrange(4) // 3 * 123_456_789
        unclaimed_uj = self.chance.randrange(5_000)
        self.idle_uj += idle_uj
        self.transition_uj += transition_uj
        self.unclaimed_uj += unclaimed_uj
        drawn_uj = used_uj + idle_uj + transition_uj + unclaimed_uj
        self.meter_uj += drawn_uj
        self._supply(drawn_uj * 6 // 5 + 2_000_000 * STEP_S)
        self.step += 1

    def booking(self, now_us: int, *, is_last: bool = False) -> Booking:
        """Return the next step of its books."""
        self.number += 1
        requests, self.ended = tuple(self.ended), []
        totals = BookedTotals(
            {"r0": self.meter_uj // 3, "r1": self.meter_uj - self.meter_uj // 3},
            self.idle_uj,
            self.transition_uj,
            self.unclaimed_uj,
            dict(self.supply_uj),
            self.charged_uj,
            self.stored_uj,
            self.site_uj,
        )
        run = f"{self.name}-week"
        return Booking(run, self.number, now_us, "gpu", requests, totals, is_last)

    def _request(self, now_us: int) -> OpenRequest:
        chance, band = self.chance, "surplus" if self.is_surplus else "normal"
        rate = PRICES.rate_of("small", "standard", band, now_us)
        energy_uj, steps = chance.randrange(9 * 10**9), chance.randrange(1, 9)
        self.made += 1
        made = OpenRequest(
            f"{self.name}-{self.made}",
            chance.choice(TENANTS),
            now_us,
            PRICES.name_of(rate),
            energy_uj,
            energy_uj,
            steps,
        )
        self.open.append(made)
        return made

    def _booked(self, request: OpenRequest, now_us: int) -> BookedRequest:
        is_failed = self.chance.randrange(50) == 0
        prompt = self.chance.randrange(1, 4_000)
        return BookedRequest(
            id=request.id,
            request=f"client-{request.id}",
            tenant=request.tenant,
            model="small",
            priority="standard",
            prompt_tokens=prompt,
            cached_tokens=self.chance.randrange(prompt + 1),
            output_tokens=self.chance.randrange(2_000),
            energy_uj=request.energy_uj,
            energy_source="modelled",
            started_us=request.started_us,
            ended_us=now_us,
            finish="failed" if is_failed else "stop",
            terms=request.terms,
        )

    def _supply(self, load_uj: int) -> None:
        """Cover a load: own generation, then the battery, then the grid."""
        watts = [
            self.wind_w * self.weather.wind[self.step],
            self.sun_w * self.weather.sun[self.step],
        ]
        own = [micro_w * STEP_S for micro_w in watts]
        direct_uj = min(load_uj, sum(own))
        room_uj = (self.battery_uj - self.stored_uj) * PER_CENT // EFFICIENCY
        charge_uj = min(sum(own) - direct_uj, room_uj)
        rest_uj = sum(own) - direct_uj - charge_uj
        export_uj = rest_uj if self.gives_away else 0
        given_uj = min(load_uj - direct_uj, self.stored_uj * EFFICIENCY // PER_CENT)
        self.stored_uj += charge_uj * EFFICIENCY // PER_CENT
        self.stored_uj = max(0, self.stored_uj - -(-given_uj * PER_CENT // EFFICIENCY))
        wind_uj, sun_uj = split(direct_uj + charge_uj + export_uj, own)
        self.supply_uj.update(
            wind=wind_uj,
            sun=sun_uj,
            battery=given_uj,
            grid=load_uj - direct_uj - given_uj,
            export=export_uj,
        )
        self.charged_uj += charge_uj
        self.site_uj += load_uj
        self.is_surplus = rest_uj > 0


def sites_of(weather: Weather, requests: int, seed: int) -> tuple[Site, Site]:
    """Return a site that has more than it uses, and one that has less."""
    # A request takes 1.25 Wh on average, 1.5 Wh with the cooling of the site.
    battery_uj = 2 * requests * UJ_PER_WH
    rich = Site(
        "ulanqab", weather, 6 * requests, 2 * requests, battery_uj, True, requests, Random(seed)
    )
    poor = Site(
        "hohhot", weather, 2 * requests, requests, battery_uj, False, requests, Random(seed + 1)
    )
    return rich, poor
