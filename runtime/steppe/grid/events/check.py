"""Which events are refused: stale, too far ahead, twice the same id, or absurd."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from steppe.config.section import LARGEST
from steppe.errors import UsageError
from steppe.grid.events.event import GridEvent, Share, Watts

DAY_S = 86400.0


@dataclass(frozen=True, slots=True)
class EventTerms:
    """What an event may ask.

    Attributes:
        horizon_s: How far ahead of the present it may start, s.
        longest_s: Longest time from its start to its end, s.
        lowest_priority: Largest number of a priority.
        most_held: Most events of one source that are kept at once.
    """

    horizon_s: float = 7 * DAY_S
    longest_s: float = 2 * DAY_S
    lowest_priority: int = 1000
    most_held: int = 256


def check_name(what: str, name: str) -> None:
    """Check a name that others chose, so that it fits into one line of a log.

    Raises:
        UsageError: It is empty, longer than 128 characters, or has characters that do not print.
    """
    if not (0 < len(name) <= 128 and name.isprintable()):
        found = repr(name[:40])
        raise UsageError(f"{what}: asked for 1 to 128 characters that print, found {found}")


def check_event(
    event: GridEvent, now_s: float, held: Iterable[GridEvent], terms: EventTerms
) -> GridEvent | None:
    """Check a new event, or a new version of one.

    Args:
        event: The event.
        now_s: Time, s since the Unix epoch.
        held: The events that are held, of any source.
        terms: What it may ask.

    Returns:
        The event that it replaces; the same event if it is a repetition of it; None if it is new.

    Raises:
        UsageError: It is stale, too far ahead, absurd, or another event has its id.
    """
    check_name("event", event.id)
    check_name(f"event {event.id}: program", event.program)
    _check_numbers(event, terms)
    if event.ends_s <= now_s:
        ago_s = now_s - event.ends_s
        raise _refused(event, "an end in the future", f"one that was {ago_s:.0f} s ago")
    if max(event.starts_s, event.issued_s) - now_s > terms.horizon_s:
        ahead_s = max(event.starts_s, event.issued_s) - now_s
        wanted = f"a start and an issue within {terms.horizon_s:.0f} s"
        raise _refused(event, wanted, f"one that is {ahead_s:.0f} s ahead")
    return _replaced(event, [each for each in held if each.source == event.source], terms)


def _replaced(event: GridEvent, own: list[GridEvent], terms: EventTerms) -> GridEvent | None:
    """Return the event of the same source and id; refuse an older or an ambiguous version."""
    for each in own:
        if each.id != event.id:
            continue
        if event.issued_s < each.issued_s:
            wanted = f"a version newer than that of {each.issued_s:.3f} s"
            raise _refused(event, wanted, f"one of {event.issued_s:.3f} s")
        if event.issued_s == each.issued_s and event != each:
            raise _refused(event, "one event per id and issue", "another one with the same")
        return each
    if len(own) >= terms.most_held:
        raise _refused(event, f"at most {terms.most_held} events at once", "one more")
    return None


def _check_numbers(event: GridEvent, terms: EventTerms) -> None:
    times = (event.issued_s, event.starts_s, event.hold_until_s)
    spans = (event.ramp_down_s, event.ramp_up_s, event.settle_s)
    if not all(math.isfinite(each) and 0 <= each <= LARGEST for each in times + spans):
        raise _refused(event, f"times and spans from 0 to {LARGEST:g} s", f"{times + spans}")
    if not 0 <= event.priority <= terms.lowest_priority:
        raise _refused(event, f"a priority from 0 to {terms.lowest_priority}", f"{event.priority}")
    if event.hold_until_s < event.holds_s:
        before_s = event.holds_s - event.hold_until_s
        raise _refused(event, "a hold after the ramp down", f"one that ends {before_s:g} s before")
    if not 0 < event.ends_s - event.starts_s <= terms.longest_s:
        found = f"{event.ends_s - event.starts_s:g} s"
        raise _refused(event, f"a duration above 0 and up to {terms.longest_s:g} s", found)
    match event.target:
        case None if event.kind != "price":
            raise _refused(event, f"a target for kind {event.kind}", "none")
        case Watts() | Share() if event.kind == "price":
            raise _refused(event, "a price without a target", "one with a target")
        case Watts(watts) if not 0 <= watts <= LARGEST:
            raise _refused(event, f"a target from 0 to {LARGEST:g} W", f"{watts:g} W")
        case Share(share) if not 0 <= share <= 1:
            raise _refused(event, "a target from 0 to 1 of the baseline", f"{share:g}")


def _refused(event: GridEvent, wanted: str, found: str) -> UsageError:
    return UsageError(f"event {event.id}: asked for {wanted}, found {found}")
