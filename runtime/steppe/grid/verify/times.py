"""When an event was, when it could be foreseen, and which days are alike."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta

from steppe.errors import UsageError

DAY_S, HOUR_S = 86_400, 3_600
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class EventTimes:
    """The span of an event, and what is looked at around it; times are s since the Unix epoch.

    Attributes:
        foreseeable_s: When the site could first know of it: the notice, or an earlier forecast of
            it. Without notice it is the start.
        start_s: Its start: what is owed from then on is settled.
        end_s: Its end, at most a day after the start.
        before_s: How long before the start the report begins, s.
        after_s: For how long after the end a rebound is looked for, s.
    """

    foreseeable_s: int
    start_s: int
    end_s: int
    before_s: int = HOUR_S
    after_s: int = 2 * HOUR_S

    def __post_init__(self) -> None:
        if not self.start_s < self.end_s <= self.start_s + DAY_S:
            asked = "asked for an event of more than 0 s and at most a day"
            raise UsageError(f"event: {asked}, found {self.end_s - self.start_s} s")
        if self.foreseeable_s > self.start_s:
            late_s = self.foreseeable_s - self.start_s
            raise UsageError(f"event: asked for a notice before the start, found {late_s} s after")
        if self.before_s < 0 or self.after_s < 0:
            found = f"found {min(self.before_s, self.after_s)} s"
            raise UsageError(f"event: asked for 0 s or more around it, {found}")

    def days_earlier(self, days: int) -> EventTimes:
        """Return the same times of day, some days earlier."""
        return self.earlier(days * DAY_S)

    def earlier(self, by_s: int) -> EventTimes:
        """Return the times of an event that was `by_s` earlier, s."""
        return replace(
            self,
            foreseeable_s=self.foreseeable_s - by_s,
            start_s=self.start_s - by_s,
            end_s=self.end_s - by_s,
        )


@dataclass(frozen=True, slots=True)
class Span:
    """From when to when something was.

    Attributes:
        start_s: Begin, s since the Unix epoch.
        end_s: End, not part of it.
    """

    start_s: int
    end_s: int

    def meets(self, start_s: int, end_s: int) -> bool:
        """Return whether it and another span have a moment in common."""
        return self.start_s < end_s and start_s < self.end_s


@dataclass(frozen=True, slots=True)
class Calendar:
    """Which days are working days.

    Attributes:
        utc_offset_s: Offset of local midnight from UTC, s; the same all year.
        holidays: Days without work from Monday to Friday.
        worked: Saturdays and Sundays with work.
    """

    utc_offset_s: int = 0
    holidays: frozenset[date] = frozenset()
    worked: frozenset[date] = frozenset()

    def day_of(self, time_s: int) -> date:
        """Return the local day of a time."""
        return (_EPOCH + timedelta(seconds=time_s + self.utc_offset_s)).date()

    def days_of(self, span: Span) -> frozenset[date]:
        """Return all local days that a span touches."""
        first, last = self.day_of(span.start_s), self.day_of(span.end_s - 1)
        return frozenset(first + timedelta(days=n) for n in range((last - first).days + 1))

    def is_working(self, day: date) -> bool:
        """Return whether a day is a working day."""
        return day in self.worked or (day.weekday() < 5 and day not in self.holidays)

    @property
    def plain(self) -> dict[str, object]:
        """Its values for JSON."""
        return {
            "utc_offset_s": self.utc_offset_s,
            "holidays": sorted(day.isoformat() for day in self.holidays),
            "worked": sorted(day.isoformat() for day in self.worked),
        }
