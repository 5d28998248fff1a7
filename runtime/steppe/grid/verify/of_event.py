"""What a `GridEvent` asks, in the terms of its verification."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, floor

from steppe.errors import UsageError
from steppe.grid.events.event import GridEvent, limit_w
from steppe.grid.verify.report import ReportedEvent
from steppe.grid.verify.times import HOUR_S, EventTimes


def asked_of(event: GridEvent, site: str) -> ReportedEvent:
    """Return what an event asked of a site."""
    issued_s = floor(event.issued_s)
    return ReportedEvent(event.id, event.program, event.kind, event.source, site, issued_s)


def times_of(
    event: GridEvent,
    interval_s: int,
    *,
    foreseen_s: float | None = None,
    before_s: int = HOUR_S,
    after_s: int = 2 * HOUR_S,
) -> EventTimes:
    """Return the times of an event: the whole intervals of its hold are settled.

    The ramps are part of the time before and after, so a rebound during the ramp up is seen.

    Args:
        event: The event.
        interval_s: Length of an interval, s.
        foreseen_s: When the site could know of it before it was issued, such as by a forecast of a
            peak, s since the Unix epoch; None if it could not.
        before_s: Length of the report before the start of the event, s.
        after_s: Time that is looked at after its end, s.

    Raises:
        UsageError: Its hold is shorter than an interval, or it sets no limit.
    """
    start_s = ceil(event.holds_s / interval_s) * interval_s
    end_s = floor(event.hold_until_s / interval_s) * interval_s
    if event.target is None or end_s <= start_s:
        asked = f"asked for a limit that is held for an interval of {interval_s} s"
        raise UsageError(f"event {event.id}: {asked}, found {event.kind} from {start_s} to {end_s}")
    known_s = [event.issued_s, event.starts_s, *([] if foreseen_s is None else [foreseen_s])]
    begins_s = floor((event.starts_s - before_s) / interval_s) * interval_s
    stops_s = ceil((event.ends_s + after_s) / interval_s) * interval_s
    return EventTimes(floor(min(known_s)), start_s, end_s, start_s - begins_s, stops_s - end_s)


def committed_of(event: GridEvent, baseline: Sequence[int]) -> tuple[int, ...]:
    """Return what is owed in each interval: the baseline less the target, W; not below 0.

    Args:
        event: The event.
        baseline: What would have been drawn in each interval, W.
    """
    targets = ((base_w, event.target_w(base_w)) for base_w in baseline)
    return tuple(0 if t is None else max(0, base_w - round(t)) for base_w, t in targets)


def targets_of(
    event: GridEvent, start_s: int, end_s: int, interval_s: int, baseline_w: float
) -> tuple[int | None, ...]:
    """Return the most that may be drawn in each interval of a span, for `following_of`, W.

    It is the higher one of the limits at the begin and in the last second of an interval; None
    where one of them sets no limit.

    Args:
        event: The event.
        start_s: Begin of the first interval, s since the Unix epoch.
        end_s: End of the last one.
        interval_s: Length of an interval, s.
        baseline_w: What the site drew before the event, W.
    """
    targets: list[int | None] = []
    for begin_s in range(start_s, end_s, interval_s):
        first_w = limit_w(event, begin_s, baseline_w)
        last_w = limit_w(event, begin_s + interval_s - 1, baseline_w)
        known = first_w is not None and last_w is not None
        targets.append(ceil(max(first_w or 0.0, last_w or 0.0)) if known else None)
    return tuple(targets)
