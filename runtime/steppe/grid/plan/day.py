"""A day in a time zone as steps: 23, 24 or 25 hours."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta, tzinfo

from steppe.grid.plan.series import DAY_S, Times

NOON = 12
"""Hour at which the next day is bought."""


def day_times(day: date, zone: tzinfo, step_s: float) -> Times:
    """Return the steps of a day.

    Args:
        day: The day.
        zone: Its time zone.
        step_s: Length of a step, s; a divisor of an hour.
    """
    begins_s, ends_s = (_midnight_s(each, zone) for each in (day, day + timedelta(days=1)))
    return Times(begins_s, step_s, round((ends_s - begins_s) / step_s))


def day_of(at_s: float, zone: tzinfo) -> date:
    """Return the day of a time.

    Args:
        at_s: The time, s since the Unix epoch.
        zone: The time zone.
    """
    return datetime.fromtimestamp(at_s, zone).date()


def day_to_buy(at_s: float, zone: tzinfo) -> date | None:
    """Return the day that is to be bought: the next one, from noon on; None before.

    Args:
        at_s: The time, s since the Unix epoch.
        zone: The time zone.
    """
    now = datetime.fromtimestamp(at_s, zone)
    return now.date() + timedelta(days=1) if now.hour >= NOON else None


def from_now(now_s: float, step_s: float, steps: int) -> Times:
    """Return steps from the one that holds now on.

    Args:
        now_s: The time, s since the Unix epoch.
        step_s: Length of a step, s; a divisor of an hour.
        steps: How many.
    """
    return Times(now_s - now_s % step_s, step_s, steps)


def steps_of_day(step_s: float) -> int:
    """Return how many steps a usual day has."""
    return round(DAY_S / step_s)


def local(at_s: float, zone: tzinfo) -> datetime:
    """Return a time in a time zone.

    Args:
        at_s: The time, s since the Unix epoch.
        zone: The time zone.
    """
    return datetime.fromtimestamp(at_s, zone)


def _midnight_s(day: date, zone: tzinfo) -> float:
    return datetime.combine(day, time(), zone).astimezone(UTC).timestamp()
