"""The weather of several sites at one time: wind and sun of a day, once for each phase.

The supplies of each site's own file are read at a common time of the day, and written as a trace
over the time of its run. So all sites have the same day at the same time, and know its forecast.
"""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steppe.config import ConstantSupply, PowerSection, RunConfig
from steppe.power.signal import Fresh
from steppe.power.supply import Supply, TraceClock, offered, source_of, supply_from_config

DAY_S = 86_400.0
HOUR_S = 3600.0
_TAIL_S = 900
"""How long a trace goes on after its last day, s: a site that outlives it has no supply."""
_TIME, _POWER = "t_s", "power_w"


@dataclass(frozen=True, slots=True)
class Days:
    """When the days of the demo begin; between them the weather stands.

    Attributes:
        begin_epoch_s: When each begins, s since the Unix epoch; rising, and no day begins before
            the last one has ended. None has begun without any.
        day_s: Length of a day, s.
    """

    begin_epoch_s: tuple[float, ...]
    day_s: float

    def of_day_s(self, epoch_s: float) -> float:
        """Return the time of the day, s: at most a whole one."""
        begun = [each for each in self.begin_epoch_s if each <= epoch_s]
        if not begun:
            return 0.0
        return min(1.0, (epoch_s - begun[-1]) / self.day_s) * DAY_S

    @property
    def ends_epoch_s(self) -> float:
        """End of the last day, s since the Unix epoch."""
        return self.begin_epoch_s[-1] + self.day_s if self.begin_epoch_s else 0.0


@dataclass(frozen=True, slots=True)
class Plant:
    """What a site offers of one kind over a day.

    Attributes:
        source: `wind`, `sun` or `other`.
        supply: The supply, from the start of the day on.
        file: The trace of its power.
    """

    source: str
    supply: Supply
    file: Path

    def at(self, of_day_s: float) -> float:
        """Return its power at a time of the day, W."""
        match offered(self.supply, of_day_s, TraceClock(0.0, 1.0), math.inf):
            case Fresh(watts):
                return watts
            case _:
                return 0.0

    def write(self, days: Days, run_epoch_s: float) -> None:
        """Write its power, second by second, as a site replays it.

        Args:
            days: When the days begin.
            run_epoch_s: When the run of the site began, s since the Unix epoch.
        """
        seconds = math.ceil(max(0.0, days.ends_epoch_s - run_epoch_s)) + _TAIL_S
        draft = self.file.with_suffix(".draft")
        with draft.open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow((_TIME, _POWER))
            for t_s in range(seconds):
                rows.writerow((t_s, f"{self.at(days.of_day_s(run_epoch_s + t_s)):.3f}"))
        draft.replace(self.file)


def plants_of(config: RunConfig, folder: Path) -> tuple[Plant, ...]:
    """Return the plants of a site: its supplies that are not bought.

    Args:
        config: The site's own configuration.
        folder: Where the traces are.
    """
    power = config.power
    found = []
    for number, section in enumerate(power.supply):
        if not isinstance(section, ConstantSupply):
            supply = supply_from_config(section, power, time.time)
            found.append(Plant(source_of(supply), supply, folder / f"supply-{number}.csv"))
    return tuple(found)


def power_values(power: PowerSection, plants: tuple[Plant, ...]) -> dict[str, Any]:
    """Return the section `power` of a site, with the traces in place of its plants.

    Args:
        power: The section of its own file.
        plants: Its plants.
    """
    bought = [each for each in power.supply if isinstance(each, ConstantSupply)]
    traces: list[dict[str, Any]] = [
        {
            "kind": "trace",
            "path": str(plant.file.absolute()),
            "time_column": _TIME,
            "power_column": _POWER,
            "watts_per_unit": 1.0,
        }
        | ({"source": plant.source} if plant.source in ("wind", "sun") else {})
        for plant in plants
    ]
    values = power.model_dump(mode="json", exclude_none=True, exclude={"start", "speedup"})
    return values | {"supply": [*traces, *(each.model_dump(mode="json") for each in bought)]}


@dataclass(frozen=True, slots=True)
class Weather:
    """The time of the day.

    Attributes:
        days: When the days begin.
        clock: Returns the time, s since the Unix epoch.
    """

    days: Days
    clock: Callable[[], float] = time.time

    @property
    def of_day_s(self) -> float:
        """Time of the day now, s: at most a whole one."""
        return self.days.of_day_s(self.clock())

    @property
    def is_over(self) -> bool:
        """Whether the day has ended."""
        return self.of_day_s >= DAY_S
