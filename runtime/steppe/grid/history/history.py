"""The history of the site's draw: each reading once, over restarts and a clock that is set."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from steppe.errors import DiskFullError, UsageError
from steppe.grid.history.day_files import DayFiles, day_of
from steppe.grid.history.reading import SiteReading
from steppe.grid.history.steps import (
    STEP_S,
    Drawn,
    Span,
    Steps,
    Sum,
    add_reading,
    drawn_of,
    parts_of,
)

REMEMBERED = 4_000
"""How many readings are known by name, so that a repetition changes nothing; the controller repeats
at most its last 900."""
SILENT = 3
"""After this many answers without a reading, all that there are is asked for."""
SYNC_EVERY_S = 10.0
"""What was appended is brought to disk this often: a power failure loses at most so much."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class HistoryTerms:
    """How much is kept.

    Attributes:
        readings_days: Whole days before today with every reading, for scores by the second.
        steps_days: Days with steps of 10 s, for baselines.
    """

    readings_days: int = 2
    steps_days: int = 400


class History:
    """What the site drew; methods may be called from any thread.

    Attributes:
        after: Number of the last reading, to ask for those after it; 0 to ask for all that there
            are.
    """

    def __init__(self, folder: Path, terms: HistoryTerms | None = None) -> None:
        """Go on from the files of a folder.

        Args:
            folder: The folder.
            terms: How much is kept.

        Raises:
            UsageError: A file cannot be read.
        """
        self._files = DayFiles(folder)
        self._terms = terms or HistoryTerms()
        self._lock = threading.Lock()
        self._steps: Steps = {}
        self._known: dict[tuple[int, int], None] = {}
        self._last: SiteReading | None = None
        self._synced_s, self._silent = 0.0, 0
        self.after = 0
        self._known.update(dict.fromkeys(self._files.names()))
        for day in self._files.days_of_readings():
            for each in self._files.readings(day):
                self._note(each)
        self._folded = frozenset(self._files.days_of_steps())

    @property
    def last(self) -> SiteReading | None:
        """The reading that came last."""
        return self._last

    def take(self, readings: Sequence[SiteReading]) -> int:
        """Keep readings; return how many are new. One that is known changes nothing.

        After a hole in time, or when none comes, the controller may have begun to count anew: then
        all that there are is asked for.

        Raises:
            DiskFullError, UsageError: They cannot be written: none of them counts, and they are
                asked for again.
        """
        with self._lock:
            new = {each.key: each for each in readings if each.key not in self._known}
            if new:
                self._files.append(new.values())
            has_hole = False
            for each in new.values():
                has_hole = has_hole or self._is_after_hole(each)
                self._note(each)
            asked_all = self.after == 0
            self._silent = 0 if readings else self._silent + 1
            if readings:
                self.after = readings[-1].number
            if self._silent >= SILENT or (has_hole and not asked_all):
                self.after = 0
            self._sync()
            return len(new)

    def drawn(self, asked: Span) -> Drawn:
        """Return the draw of a span by intervals.

        If an interval is no multiple of 10 s, the span has to be in the days of which every reading
        is kept.

        Raises:
            UsageError: A file cannot be read.
        """
        if asked.interval_s % STEP_S:
            return drawn_of(parts_of(self._by_second(asked), asked, 1), asked)
        return drawn_of(self._by_step(asked), asked)

    def _by_step(self, asked: Span) -> Iterator[tuple[int, Sum]]:
        """Yield the sums of a span by the number of the interval."""
        first, last = day_of(asked.start_s - STEP_S), day_of(asked.end_s + STEP_S)
        with self._lock:
            recent = list(self._steps.items())
            days = [day for day in self._folded if first <= day <= last + timedelta(days=1)]
        yield from parts_of(recent, asked)
        for day in days:
            yield from self._files.steps(day).parts(asked)

    def tidy(self, now_s: float) -> None:
        """Make steps of the readings of days that are long over, and remove what is too old.

        Raises:
            DiskFullError, UsageError: A file cannot be read or written.
        """
        today = day_of(now_s)
        with self._lock:
            old = today - timedelta(days=self._terms.readings_days)
            days = [day for day in self._files.days_of_readings() if day < old]
            if days:
                self._files.keep_names(self._known)
            for day in days:
                for each in self._files.readings(day):
                    _take_out(self._steps, each)
                self._files.fold(day)
            self._files.remove_before(today - timedelta(days=self._terms.steps_days))
            self._folded = frozenset(self._files.days_of_steps())

    def close(self) -> None:
        """Wait until all is on disk; a disk that is full then is a line in the log."""
        with self._lock:
            try:
                self._files.sync()
            except (DiskFullError, UsageError) as error:
                _log.warning("%s", error)

    def _by_second(self, asked: Span) -> Iterator[tuple[int, Sum]]:
        """Yield the sums of the seconds of a span."""
        first, last = day_of(asked.start_s), day_of(asked.end_s) + timedelta(days=1)
        for day in self._files.days_of_readings():
            if first <= day <= last:
                for each in self._files.readings(day):
                    begin_ms = each.end_ms - each.span_ms
                    if each.end_ms > asked.start_s * 1000 and begin_ms < asked.end_s * 1000:
                        seconds: Steps = {}
                        add_reading(seconds, each, 1)
                        yield from seconds.items()

    def _is_after_hole(self, reading: SiteReading) -> bool:
        if self._last is None:
            return False
        begin_ms = reading.end_ms - reading.span_ms
        return begin_ms - self._last.end_ms > max(reading.span_ms, self._last.span_ms)

    def _note(self, reading: SiteReading) -> None:
        add_reading(self._steps, reading)
        self._known[reading.key] = None
        while len(self._known) > REMEMBERED:
            del self._known[next(iter(self._known))]
        self._last, self.after = reading, reading.number

    def _sync(self) -> None:
        if self._last is None:
            return
        now_s = self._last.end_ms / 1000
        if abs(now_s - self._synced_s) >= SYNC_EVERY_S:
            self._files.sync()
            self._synced_s = now_s


def _take_out(steps: Steps, reading: SiteReading) -> None:
    """Take a reading out of the steps in memory: from now on its file of steps has it."""
    part: Steps = {}
    add_reading(part, reading)
    for number, each in part.items():
        left = steps[number]
        energy_uj, covered_ms = left.energy_uj - each.energy_uj, left.covered_ms - each.covered_ms
        if covered_ms:
            steps[number] = Sum(energy_uj, covered_ms, left.rank)
        else:
            del steps[number]
