"""What an OpenADR server asks, as changes of the limits. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from steppe.grid.events.event import GridEvent, Watts
from steppe.grid.limits.limit import Limit, Step
from steppe.grid.openadr.inbox import Standing
from steppe.grid.service.links import OPENADR
from steppe.grid.service.seam import Cancel, Change, GridView, PutEvent, PutLimit

MOST_EVENTS = 200
"""Most events that are handed over at once, those that start first; others follow later."""
SUBSCRIPTION = "subscription"
"""Name of the limit that holds where the server sets none."""
_NEWER_S = 0.001


def event_changes(standing: Standing, view: GridView, *, whole: bool) -> list[Change]:
    """Return what makes the limits hold the events of the server, and no others of it.

    An event that is gone is cancelled with the issue that it has. So it counts again if the server
    lists it again. One that the server lists and that is not followed, such as a bad version of it
    after a start of the service or while a clock is set wrong, is held on.

    Args:
        standing: What the server asks.
        view: What the limits hold.
        whole: Whether events that are held already are handed over, too.
    """
    now_s = view.at_s
    held = {
        each.event.id: each.event
        for each in view.events
        if each.event.source == OPENADR and each.event.target is not None
    }
    asked = [event for event in standing.events if event.ends_s > now_s]
    names = {event.id for event in asked}
    found: list[Change] = [
        PutEvent(event) for event in asked[:MOST_EVENTS] if whole or held.get(event.id) != event
    ]
    for each in held.values():
        if each.id in names:
            continue
        if any(each.id.startswith(f"{id_}/") for id_ in standing.unfollowed):
            found += [PutEvent(each)] if whole else []
        elif each.ends_s > now_s:
            found.append(Cancel(OPENADR, each.id, each.issued_s))
    return found


def subscription(
    standing: Standing,
    default_w: float,
    now_s: float,
    before: Limit | None,
    *,
    is_unsure: bool = False,
) -> Limit:
    """Return the limit that holds where the server sets none.

    An IMPORT_CAPACITY_LIMIT above the subscription replaces it for its time, as the standard has
    it. The limit is the one before where that says the same from now on.

    Args:
        standing: What the server asks.
        default_w: What holds while the link is lost, W.
        now_s: Time, s since the Unix epoch.
        before: The one that is held; None if there is none.
        is_unsure: Whether what set it may be an event that is not followed now: it is not raised
            then.
    """
    steps = _steps(standing, now_s)
    held_w = None if before is None else before.at(now_s)
    if is_unsure and held_w is not None:
        steps = _at_most(held_w, steps)
    if before is not None and before.default_w == default_w and _says(before, steps):
        return before
    issued_s = now_s if before is None else max(now_s, before.issued_s + _NEWER_S)
    return Limit(SUBSCRIPTION, OPENADR, issued_s, steps, None, default_w)


def subscription_changes(limit: Limit, before: Limit | None, *, whole: bool) -> list[Change]:
    """Return the change to a limit, if it is one, or all are to be handed over."""
    return [PutLimit(limit)] if whole or limit != before else []


def held_subscription(view: GridView) -> Limit | None:
    """Return the subscription that the limits hold; None if there is none."""
    return next((e for e in view.limits if (e.source, e.name) == (OPENADR, SUBSCRIPTION)), None)


def _steps(standing: Standing, now_s: float) -> tuple[Step, ...]:
    limits = [e for e in standing.events[:MOST_EVENTS] if e.kind == "limit" and e.ends_s > now_s]
    times = {t for event in limits for t in (event.starts_s, event.ends_s) if t > now_s}
    watts = [(t, _capacity_w(limits, t, standing.subscription_w)) for t in (now_s, *sorted(times))]
    return tuple(Step(next(iter(same))[0], w) for w, same in groupby(watts, key=lambda at: at[1]))


def _at_most(most_w: float, steps: Sequence[Step]) -> tuple[Step, ...]:
    capped = [Step(step.from_s, min(most_w, step.watts)) for step in steps]
    return tuple(next(iter(same)) for _, same in groupby(capped, key=lambda step: step.watts))


def _capacity_w(limits: Sequence[GridEvent], at_s: float, subscription_w: float) -> float:
    targets = [e.target for e in limits if e.starts_s <= at_s < e.ends_s]
    asked = [target.watts for target in targets if isinstance(target, Watts)]
    return max(subscription_w, min(asked, default=subscription_w))


def _says(before: Limit, steps: Sequence[Step]) -> bool:
    """Whether a limit says the same as steps, from the first of them on."""
    now_s = steps[0].from_s
    later = [step for step in before.watts if step.from_s > now_s]
    return before.at(now_s) == steps[0].watts and later == list(steps[1:])
