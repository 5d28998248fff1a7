"""The weather of several sites at one time: live signals of wind and sun, a day in seconds.

The supplies of each site's own file are read at a common time of the day, and written to files that
the site follows as it would follow the signal of a plant.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from steppe.config import ConstantSupply, PowerSection, RunConfig
from steppe.power.signal import Fresh
from steppe.power.supply import Supply, TraceClock, offered, source_of, supply_from_config

DAY_S = 86_400.0
HOUR_S = 3600.0
_EVERY_S = 0.25
"""Time between two writings, s."""


@dataclass(frozen=True, slots=True)
class Plant:
    """What a site offers of one kind over a day.

    Attributes:
        source: `wind`, `sun` or `other`.
        supply: The supply, from the start of the day on.
        file: The file that says its watts.
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

    def write(self, of_day_s: float) -> None:
        """Write its power at a time of the day."""
        draft = self.file.with_suffix(".draft")
        draft.write_text(f"{self.at(of_day_s):.3f}\n")
        draft.replace(self.file)


def plants_of(config: RunConfig, folder: Path) -> tuple[Plant, ...]:
    """Return the plants of a site: its supplies that are not bought.

    Args:
        config: The site's own configuration.
        folder: Where the files are.
    """
    power = config.power
    found = []
    for number, section in enumerate(power.supply):
        if not isinstance(section, ConstantSupply):
            supply = supply_from_config(section, power, time.time)
            found.append(Plant(source_of(supply), supply, folder / f"supply-{number}"))
    return tuple(found)


def signals_of(power: PowerSection, plants: tuple[Plant, ...]) -> list[dict[str, Any]]:
    """Return the supplies of a site with signals in place of its plants, as a file holds them."""
    bought = [each for each in power.supply if isinstance(each, ConstantSupply)]
    signals: list[dict[str, Any]] = [
        {"kind": "signal", "path": str(plant.file.absolute())}
        | ({"source": plant.source} if plant.source in ("wind", "sun") else {})
        for plant in plants
    ]
    return [*signals, *(each.model_dump(mode="json") for each in bought)]


class Weather:
    """Writes the signals of all sites until its block ends; a context manager.

    Before the first day, and after the end of one, the time of the day stands.
    """

    def __init__(
        self,
        plants: Mapping[str, tuple[Plant, ...]],
        day_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Write nothing yet.

        Args:
            plants: The plants of each site.
            day_s: Length of a day, s.
            clock: Returns monotonic time, s.
        """
        self._plants = [plant for each in plants.values() for plant in each]
        self._day_s, self._clock = day_s, clock
        self._begun_s: float | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="weather", daemon=True)

    def __enter__(self) -> Self:
        self.write()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()

    def begin_day(self) -> None:
        """Begin the day, from its first second."""
        self._begun_s = self._clock()

    @property
    def of_day_s(self) -> float:
        """Time of the day, s: at most a whole one."""
        if self._begun_s is None:
            return 0.0
        return min(1.0, (self._clock() - self._begun_s) / self._day_s) * DAY_S

    @property
    def is_over(self) -> bool:
        """Whether the day has ended."""
        return self.of_day_s >= DAY_S

    def write(self) -> None:
        """Write all signals."""
        at_s = self.of_day_s
        for plant in self._plants:
            plant.write(at_s)

    def _run(self) -> None:
        while not self._stop.wait(_EVERY_S):
            self.write()
