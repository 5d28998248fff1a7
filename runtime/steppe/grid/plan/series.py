"""Values over calendar time: each holds until the next begins."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

DAY_S = 86400.0


@dataclass(frozen=True, slots=True)
class Series:
    """Values, each of which holds until the next one begins.

    Attributes:
        starts_s: When each begins, s since the Unix epoch, increasing.
        values: The values.
        ends_s: When the last one ends, s since the Unix epoch.
    """

    starts_s: tuple[float, ...]
    values: tuple[float, ...]
    ends_s: float

    @property
    def begins_s(self) -> float:
        """When the first one begins, s since the Unix epoch."""
        return self.starts_s[0]

    def covers(self, from_s: float, to_s: float) -> bool:
        """Whether there is a value for all of a span."""
        return bool(self.starts_s) and self.begins_s <= from_s and to_s <= self.ends_s

    def mean(self, from_s: float, to_s: float) -> float | None:
        """Return the mean of a span; None where it is not covered."""
        if not self.covers(from_s, to_s):
            return None
        parts = self._parts(from_s, to_s)
        return sum(value * span_s for value, span_s in parts) / (to_s - from_s)

    def means(self, times: Times) -> tuple[float | None, ...]:
        """Return the mean of each step; None where it is not covered."""
        return tuple(self.mean(at_s, at_s + times.step_s) for at_s in times)

    def expected(self, times: Times) -> tuple[tuple[float, ...], int]:
        """Return a value for each step, and how many of them the series does not cover.

        A step that is not covered gets the value of the same time of an earlier day, the latest
        that is covered, or else the mean of all.
        """
        found, missing = [], 0
        for at_s in times:
            value = self.mean(at_s, at_s + times.step_s)
            missing += value is None
            found.append(self._like(at_s, times.step_s) if value is None else value)
        return tuple(found), missing

    def _like(self, at_s: float, step_s: float) -> float:
        """Return the value at the same time of the latest day that has one."""
        days = max(1, -int((self.ends_s - at_s - step_s) // DAY_S))
        value = self.mean(at_s - days * DAY_S, at_s - days * DAY_S + step_s)
        if value is not None:
            return value
        whole = self.mean(self.begins_s, self.ends_s)
        assert whole is not None, "a series covers itself"
        return whole

    def _parts(self, from_s: float, to_s: float) -> Iterator[tuple[float, float]]:
        """Yield the values of a span that is covered, and for how long each holds, s."""
        at = bisect_right(self.starts_s, from_s) - 1
        while from_s < to_s:
            until_s = self.starts_s[at + 1] if at + 1 < len(self.starts_s) else self.ends_s
            yield self.values[at], min(until_s, to_s) - from_s
            from_s, at = until_s, at + 1


@dataclass(frozen=True, slots=True)
class Times:
    """Steps of one length.

    Attributes:
        from_s: When the first begins, s since the Unix epoch.
        step_s: Length of a step, s.
        steps: How many.
    """

    from_s: float
    step_s: float
    steps: int

    @property
    def ends_s(self) -> float:
        """When the last one ends, s since the Unix epoch."""
        return self.from_s + self.steps * self.step_s

    def __iter__(self) -> Iterator[float]:
        """Yield when each begins, s since the Unix epoch."""
        return (self.from_s + step * self.step_s for step in range(self.steps))
