"""What the targets of all feeds mean for the site: a limit over time, and events. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping

from steppe.grid.dsx.schedule import FeedSchedule
from steppe.grid.events.event import GridEvent, Watts

PROGRAM = "dsx-flex"


def site_limits(
    schedules: Mapping[str, FeedSchedule], from_s: float, until_s: float
) -> tuple[tuple[float, float], ...]:
    """Return the limit of the site over time: the sum of the limits of its feeds.

    Args:
        schedules: The targets of each feed.
        from_s: Start, s since the Unix epoch.
        until_s: End, s since the Unix epoch.

    Returns:
        Pairs of a time in s and the watts from then; only changes after the first.
    """
    limits: list[tuple[float, float]] = []
    for at_s in [from_s, *_changes(schedules, from_s, until_s)]:
        watts = sum(each.limit(at_s).watts for each in schedules.values())
        if not limits or limits[-1][1] != watts:
            limits.append((at_s, watts))
    return tuple(limits)


def site_events(
    schedules: Mapping[str, FeedSchedule], now_s: float, horizon_s: float
) -> tuple[GridEvent, ...]:
    """Return the events of the site, one after the other, without overlaps.

    DSX Flex sets no ramps: a limit holds from its first second. A target without an end becomes an
    event that ends at the horizon, so call this again before.

    Args:
        schedules: The targets of each feed.
        now_s: Time, s since the Unix epoch.
        horizon_s: How far ahead to look, s.
    """
    until_s = now_s + horizon_s
    starts = [now_s, *_changes(schedules, now_s, until_s)]
    past_s = _changes(schedules, -math.inf, math.nextafter(now_s, math.inf))
    events = []
    for at_s, end_s in zip(starts, [*starts[1:], until_s], strict=True):
        limits = [each.limit(at_s) for each in schedules.values()]
        held = [each.held for each in limits if each.held is not None]
        if not held:
            continue
        began_s = max(past_s, default=now_s) if at_s == now_s else at_s
        event = GridEvent(
            id=f"{held[0].correlation_id}@{began_s:.3f}",
            program=PROGRAM,
            priority=0,
            issued_s=now_s,
            starts_s=at_s,
            ramp_down_s=0.0,
            hold_until_s=end_s,
            ramp_up_s=0.0,
            target=Watts(sum(each.watts for each in limits)),
            kind="limit",
            source=PROGRAM,
        )
        events.append(event)
    return tuple(events)


def _changes(schedules: Mapping[str, FeedSchedule], from_s: float, until_s: float) -> list[float]:
    return sorted({at_s for each in schedules.values() for at_s in each.changes(from_s, until_s)})
