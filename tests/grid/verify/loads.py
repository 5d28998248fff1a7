"""Loads of many days, and an event, for the tests of baselines."""

from __future__ import annotations

from collections.abc import Callable

from steppe.grid.verify.load import Load
from steppe.grid.verify.times import DAY_S, HOUR_S, EventTimes

MONDAY = 20_605
"""2026-06-01, in days since the Unix epoch."""
FRIDAY = MONDAY + 25
"""2026-06-26."""


def load_by(watts_of: Callable[[int, int], int | None], first_day: int, days: int) -> Load:
    """Return a load by the hour: `watts_of(day, hour)`, days since the Unix epoch."""
    watts = [
        watts_of(day, hour) for day in range(first_day, first_day + days) for hour in range(24)
    ]
    return Load(first_day * DAY_S, HOUR_S, tuple(watts))


def event_on(day: int, hour: int = 14, hours: int = 2, notice_s: int = 0) -> EventTimes:
    """Return an event on a day since the Unix epoch."""
    start_s = day * DAY_S + hour * HOUR_S
    return EventTimes(start_s - notice_s, start_s, start_s + hours * HOUR_S)
