"""Times and durations as OpenADR writes them: RFC 3339 and ISO 8601 with two special values."""

from __future__ import annotations

import calendar
import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from steppe.errors import SteppeError

_NOW = re.compile(r"0001-01-01(?:[T ]00:00:00(?:\.0+)?(?:Z|[+-]00:00)?)?")
_DURATION = re.compile(
    r"P(?=\d|T\d)(?:(\d{1,6})Y)?(?:(\d{1,6})M)?(?:(\d{1,9})([DW]))?"
    r"(?:T(?:(\d{1,9})H)?(?:(\d{1,9})M)?(?:(\d{1,12}(?:\.\d{1,9})?)S)?)?"
)
_FOREVER_MONTHS = 9999 * 12


class BadTimeError(SteppeError):
    """A time or duration of a message cannot be read; the line says what was found."""


@dataclass(frozen=True, slots=True)
class Duration:
    """A span of time; months and years are those of the calendar.

    Attributes:
        months: Whole months; 12 for each year.
        rest_s: The rest, s.
    """

    months: int
    rest_s: float

    @property
    def is_endless(self) -> bool:
        """Whether it is `P9999Y`, which stands for infinity, or longer."""
        return self.months >= _FOREVER_MONTHS

    @property
    def is_nothing(self) -> bool:
        """Whether it has no length."""
        return self.months == 0 and self.rest_s == 0

    def after(self, start_s: float) -> float:
        """Return the end of a span that begins at `start_s`, s since the Unix epoch.

        Raises:
            BadTimeError: It has months and begins beyond the calendar.
        """
        if self.is_endless or math.isinf(start_s):
            return math.inf
        return _months_later(start_s, self.months) + self.rest_s


def _months_later(start_s: float, months: int) -> float:
    if months == 0:
        return start_s
    try:
        start = datetime.fromtimestamp(start_s, UTC)
    except (ValueError, OverflowError) as error:
        raise BadTimeError(f"{start_s:g} s since 1970 is beyond the calendar") from error
    year, month = divmod(start.year * 12 + start.month - 1 + months, 12)
    if year > 9999:
        return math.inf
    day = min(start.day, calendar.monthrange(year, month + 1)[1])
    return start.replace(year=year, month=month + 1, day=day).timestamp()


def duration_of(text: str) -> Duration:
    """Read an ISO 8601 duration such as `PT15M`.

    Raises:
        BadTimeError: It is none, or is negative.
    """
    found = _DURATION.fullmatch(text)
    if found is None:
        raise BadTimeError(f"{text[:40]!r} is no duration such as PT15M")
    years, months, days, unit, hours, minutes, seconds = found.groups()
    rest = timedelta_s(int(days or 0) * (7 if unit == "W" else 1), hours, minutes, seconds)
    return Duration(int(years or 0) * 12 + int(months or 0), rest)


def timedelta_s(days: int, hours: str | None, minutes: str | None, seconds: str | None) -> float:
    """Return the sum of the parts of a duration, s; absent parts are None."""
    return days * 86400 + int(hours or 0) * 3600 + int(minutes or 0) * 60 + float(seconds or 0)


def is_now(text: str) -> bool:
    """Return whether a start is `0001-01-01`, which stands for now."""
    return _NOW.fullmatch(text) is not None


def time_of(text: str) -> float:
    """Read an RFC 3339 time, s since the Unix epoch.

    Raises:
        BadTimeError: It is none, or does not name its offset from UTC.
    """
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise BadTimeError(f"{text[:40]!r} is no time such as 2026-12-01T12:00:00Z") from error
    if time.tzinfo is None:
        raise BadTimeError(f"{text[:40]!r} does not say its offset from UTC")
    try:
        return time.timestamp()
    except OverflowError as error:
        raise BadTimeError(f"{text[:40]!r} is out of range") from error


def text_of(time_s: float) -> str:
    """Write a time, s since the Unix epoch, as RFC 3339 in UTC."""
    time = datetime.fromtimestamp(0, UTC) + timedelta(seconds=time_s)
    return time.isoformat().replace("+00:00", "Z")


def text_of_duration(span_s: float) -> str:
    """Write a length in s as an ISO 8601 duration."""
    return f"PT{span_s:.3f}".rstrip("0").rstrip(".") + "S"
