"""What a site drew, in intervals that follow on one another and in whole watts."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256

from steppe.errors import UsageError
from steppe.ledger.receipt import canonical

LEAST_COVER = 0.95
"""An interval that readings cover less than this share of has no reading."""
NO_READING = "none"
"""What stands in the bytes of a load for an interval without a reading."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Mean draw over one span of a meter.

    Attributes:
        start_s: Begin, s since the Unix epoch.
        end_s: End, after the begin.
        watts: Mean draw, W.
    """

    start_s: float
    end_s: float
    watts: float


@dataclass(frozen=True, slots=True)
class Load:
    """Mean draw of a site by interval; below 0 where it feeds the grid.

    Attributes:
        start_s: Begin of the first interval, s since the Unix epoch; a multiple of `interval_s`.
        interval_s: Length of each interval, s.
        watts: Mean draw in each, W; None where the meter has no reading.
    """

    start_s: int
    interval_s: int
    watts: tuple[int | None, ...]

    def __post_init__(self) -> None:
        if self.interval_s < 1:
            raise UsageError(f"load: asked for intervals of 1 s or more, found {self.interval_s} s")
        refuse_between_intervals(self.start_s, self.interval_s)

    @property
    def end_s(self) -> int:
        """End of the last interval, s since the Unix epoch."""
        return self.start_s + len(self.watts) * self.interval_s

    @property
    def sha256(self) -> str:
        """Hash of its values, in hexadecimal."""
        return sha256(canonical(self.plain)).hexdigest()

    @property
    def plain(self) -> dict[str, object]:
        """Its values for JSON without null."""
        watts = [NO_READING if each is None else each for each in self.watts]
        return {"start_s": self.start_s, "interval_s": self.interval_s, "watts": watts}

    def between(self, start_s: int, end_s: int) -> tuple[int | None, ...]:
        """Return the draw in each interval of a span, W; None also outside of the load.

        Raises:
            UsageError: The span does not begin and end with an interval.
        """
        for time_s in (start_s, end_s):
            refuse_between_intervals(time_s, self.interval_s)
        first = (start_s - self.start_s) // self.interval_s
        last = (end_s - self.start_s) // self.interval_s
        count = len(self.watts)
        before = (None,) * (min(last, 0) - min(first, 0))
        after = (None,) * (max(last, count) - max(first, count))
        return (*before, *self.watts[max(first, 0) : max(last, 0)], *after)

    def part(self, start_s: int, end_s: int) -> Load:
        """Return the whole intervals of a span, as far as the load has them."""
        size = self.interval_s
        start_s = max(self.start_s, -(-start_s // size) * size)
        end_s = max(start_s, min(self.end_s, end_s // size * size))
        return Load(start_s, size, self.between(start_s, end_s))


def refuse_between_intervals(time_s: int, interval_s: int) -> None:
    """Raise a `UsageError` if no interval begins at a time."""
    if time_s % interval_s:
        asked = f"asked for a time that is a multiple of the interval of {interval_s} s"
        raise UsageError(f"load: {asked}, found {time_s}")


def load_of(readings: Iterable[Reading], interval_s: int) -> Load:
    """Return the load of readings: the mean of each interval, rounded to whole watts.

    Args:
        readings: Spans of the meter in any order, without overlap.
        interval_s: Length of an interval, s.

    Raises:
        UsageError: There is no reading, or one is not finite or ends before it begins.
    """
    energy_j: dict[int, float] = {}
    covered_s: dict[int, float] = {}
    for each in readings:
        _refuse_reading(each)
        last = math.ceil(each.end_s / interval_s)
        for number in range(math.floor(each.start_s / interval_s), last):
            begin_s = max(each.start_s, number * interval_s)
            width_s = min(each.end_s, (number + 1) * interval_s) - begin_s
            energy_j[number] = energy_j.get(number, 0.0) + each.watts * width_s
            covered_s[number] = covered_s.get(number, 0.0) + width_s
    if not covered_s:
        raise UsageError("load: asked for readings, found none")
    numbers = range(min(covered_s), max(covered_s) + 1)
    enough_s = LEAST_COVER * interval_s
    watts = (
        round(energy_j[n] / covered_s[n]) if covered_s.get(n, 0.0) >= enough_s else None
        for n in numbers
    )
    return Load(numbers.start * interval_s, interval_s, tuple(watts))


def _refuse_reading(reading: Reading) -> None:
    finite = all(math.isfinite(x) for x in (reading.start_s, reading.end_s, reading.watts))
    if not finite or reading.end_s <= reading.start_s:
        raise UsageError(f"load: asked for a reading with a begin, an end and W, found {reading}")
