"""Several events at once: which of them set the limit."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from steppe.grid.events.event import GridEvent, limit_w


@dataclass(frozen=True, slots=True)
class Lowest:
    """The limit of several events.

    Attributes:
        watts: Most that the site may draw, W.
        event: The event that sets it; of equal ones, the one of the highest priority.
    """

    watts: float
    event: GridEvent


def lowest(events: Iterable[tuple[GridEvent, float]], now_s: float) -> Lowest | None:
    """Return the limit of several events; None if none of them holds.

    Events of different programmes hold beside each other, and the lowest limit applies. Within one
    programme, an event that holds its target replaces those of a lower priority, even if it allows
    more (OpenADR 3.1, `priority`). During its ramps the lower limit applies, so that its start
    never lifts the limit. An emergency is replaced by no other event.

    Args:
        events: Events, each with the baseline before it, W.
        now_s: Time, s since the Unix epoch.
    """
    return lowest_at((event, baseline_w, now_s) for event, baseline_w in events)


def lowest_at(events: Iterable[tuple[GridEvent, float, float]]) -> Lowest | None:
    """Return the limit of several events, each at a time of its own; see `lowest`.

    Args:
        events: Events, each with the baseline before it, W, and its time, s since the Unix epoch.
    """
    active: list[Lowest] = []
    holding: dict[tuple[str, str], int] = {}
    for event, baseline_w, now_s in events:
        watts = limit_w(event, now_s, baseline_w)
        if watts is None:
            continue
        active.append(Lowest(watts, event))
        if event.holds_s <= now_s < event.hold_until_s:
            place = event.source, event.program
            holding[place] = min(event.priority, holding.get(place, event.priority))
    left = [each for each in active if not _is_replaced(each.event, holding)]
    return min(left, key=lambda each: (each.watts, each.event.priority), default=None)


def _is_replaced(event: GridEvent, holding: dict[tuple[str, str], int]) -> bool:
    """Whether an event of its programme with a higher priority holds its target."""
    first = holding.get((event.source, event.program), event.priority)
    return event.kind != "emergency" and first < event.priority
