"""How the events of a site are measured: baselines, prices and times, from its configuration."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from math import floor
from pathlib import Path

from steppe.config.grid_events import EventsSection, ProgramSection
from steppe.disk import disk_errors
from steppe.errors import UsageError
from steppe.grid.events.event import GridEvent
from steppe.grid.verify.delivery import PPM
from steppe.grid.verify.like_days import (
    FIVE_IN_TEN,
    HIGH_4_OF_5,
    MIDDLE_8_OF_10,
    TEN_IN_TEN,
    LikeDays,
)
from steppe.grid.verify.load import Load, Reading, load_of
from steppe.grid.verify.settlement import EnergyTerms, Terms, WholeTerms
from steppe.grid.verify.times import Calendar

LIKE_DAYS = {each.name: each for each in (TEN_IN_TEN, HIGH_4_OF_5, MIDDLE_8_OF_10, FIVE_IN_TEN)}
SHORT_INTERVALS_S = (1800, 900, 600, 300, 120, 60, 30, 20, 10)
"""Intervals of events that are shorter than those of the configuration, s."""
LEAST_INTERVALS = 2


@dataclass(frozen=True, slots=True)
class VerifyTerms:
    """How events are measured.

    Attributes:
        section: The configuration.
        site: Name of the site at the grid.
        window_s: Length of the time before an event that counts for `meter before`, s.
    """

    section: EventsSection
    site: str
    window_s: float

    @property
    def calendar(self) -> Calendar:
        """Which days are working days."""
        section = self.section
        holidays, worked = frozenset(section.holidays), frozenset(section.worked)
        return Calendar(section.utc_offset_s, holidays, worked)

    def program(self, event: GridEvent) -> ProgramSection:
        """Return the terms of the programme of an event."""
        return self.section.programs.get(event.program, ProgramSection())

    def baseline(self, event: GridEvent) -> str:
        """Return the name of the baseline that is asked for."""
        return self.program(event).baseline or self.section.baseline

    def like_days(self, event: GridEvent) -> LikeDays | None:
        """Return the method from earlier days that is asked for; None for another one."""
        return LIKE_DAYS.get(self.baseline(event))

    def price(self, event: GridEvent) -> Terms | None:
        """Return what is paid for an event; None for nothing."""
        asked = self.program(event)
        if asked.currency is None:
            return None
        if asked.price_nano is not None:
            return WholeTerms(asked.currency, asked.price_nano, asked.penalty_nano)
        return EnergyTerms(
            asked.currency,
            asked.price_nano_per_kwh or 0,
            asked.penalty_nano_per_kwh,
            round(asked.least_ratio * PPM),
        )

    def interval_s(self, event: GridEvent) -> int:
        """Return the interval of an event: that of the configuration, or a shorter one, s.

        A shorter one if its hold has not two whole ones.
        """
        usual_s = self.section.interval_s
        shorter = [each for each in SHORT_INTERVALS_S if each < usual_s and usual_s % each == 0]
        for interval_s in (usual_s, *shorter):
            first_s = -(-event.holds_s // interval_s) * interval_s
            if event.hold_until_s - first_s >= LEAST_INTERVALS * interval_s:
                return interval_s
        return min(usual_s, *SHORT_INTERVALS_S)


def declared_load(path: Path, interval_s: int) -> tuple[Load, int]:
    """Return the declared draw of a file, and when it was written, s since the Unix epoch.

    Args:
        path: A CSV file with the columns `start_s` and `watts`.
        interval_s: Length of an interval, s.

    Raises:
        UsageError: It cannot be read, or a line is not as asked for.
    """
    with disk_errors(path):
        written_s = floor(path.stat().st_mtime)
        text = path.read_text("utf-8", "replace")
    steps = list(_steps(path, text))
    ends_s = [start_s for start_s, _ in steps[1:]]
    if not steps or any(
        end_s <= start_s for (start_s, _), end_s in zip(steps, ends_s, strict=False)
    ):
        raise UsageError(f"{path}: asked for lines by rising start_s, found others")
    last_s = steps[-1][0] + (ends_s[-1] - steps[-2][0] if ends_s else interval_s)
    spans = zip(steps, [*ends_s, last_s], strict=True)
    load = load_of((Reading(start, end, watts) for (start, watts), end in spans), interval_s)
    return load, written_s


def _steps(path: Path, text: str) -> Iterator[tuple[float, float]]:
    for number, row in enumerate(csv.DictReader(text.splitlines()), 2):
        try:
            yield float(row["start_s"]), float(row["watts"])
        except (KeyError, TypeError, ValueError) as error:
            found = f"found {list(row.values())!r:.60}"
            raise UsageError(
                f"{path}: line {number}: asked for start_s and watts, {found}"
            ) from error
