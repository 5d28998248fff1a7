"""What is held of all links, and what it allows at a moment: values and pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from steppe.config.section import LARGEST
from steppe.grid.events.event import GridEvent, cancelled, limit_w
from steppe.grid.events.together import lowest_at
from steppe.grid.limits.limit import Limit, Link
from steppe.grid.limits.steady_clock import Moment

OLDER_S = 0.001
"""What a link did not repeat is lifted with an issue this much older, s: if the same version comes
after all, it counts."""


@dataclass(frozen=True, slots=True)
class HeldLimit:
    """A limit that was accepted.

    Attributes:
        limit: The limit.
        offset_s: The wall clock less the steady one when it was accepted, s: its own times pass
            by the steady clock from then on.
        repeated: Whether the link has sent it since it was last lost.
        dropped: Whether its schedule has no end and its link was surely lost since it was sent.
    """

    limit: Limit
    offset_s: float
    repeated: bool = True
    dropped: bool = False


@dataclass(frozen=True, slots=True)
class HeldEvent:
    """An event that was accepted.

    Attributes:
        event: The event.
        baseline_w: What the site drew before it, W; frozen when it was first accepted.
        offset_s: As in `HeldLimit`, s.
        kept_until_s: End of the event as it was accepted, s since the Unix epoch. It is kept until
            then, so that a late copy of an older version does not bring a cancelled one back.
        repeated: As in `HeldLimit`.
    """

    event: GridEvent
    baseline_w: float
    offset_s: float
    kept_until_s: float
    repeated: bool = True


@dataclass(frozen=True, slots=True)
class Watched:
    """The present, and since when this process listens to the links.

    Attributes:
        now: The present.
        since_s: Start of this process on the steady clock, s.
    """

    now: Moment
    since_s: float


@dataclass(frozen=True, slots=True)
class Contact:
    """What is known of a link.

    Attributes:
        link: Its name.
        heard_s: Last sign of life on the steady clock, s; None if there was none.
        awaits: Whether it has yet to repeat its limits: since the start without a kept file, or
            since it was lost.
        forgotten: Whether its limits were kept and could not be read: it has to send one.
    """

    link: str
    heard_s: float | None = None
    awaits: bool = True
    forgotten: bool = False

    def is_lost(self, lost_s: float, steady_s: float) -> bool:
        """Whether there was no sign of life for `lost_s`, as far as is known."""
        return self.heard_s is None or steady_s - self.heard_s > lost_s

    def is_surely_lost(self, lost_s: float, watched: Watched) -> bool:
        """Whether there was no sign of life for `lost_s` while this process ran.

        What was heard just before a restart may not be on disk. So a restart may put the default
        of a link in force too early, but not in place of a lower limit.
        """
        last_s = watched.since_s if self.heard_s is None else max(self.heard_s, watched.since_s)
        return watched.now.steady_s - last_s > lost_s


@dataclass(frozen=True, slots=True)
class Held:
    """What is held of all links."""

    contacts: tuple[Contact, ...] = ()
    limits: tuple[HeldLimit, ...] = ()
    events: tuple[HeldEvent, ...] = ()

    def contact(self, link: str) -> Contact:
        """Return what is known of a link."""
        return next((each for each in self.contacts if each.link == link), Contact(link))

    def with_contact(self, contact: Contact) -> Held:
        """Return it with a newer state of a link."""
        others = tuple(each for each in self.contacts if each.link != contact.link)
        return replace(self, contacts=(*others, contact))

    def with_limit(self, held: HeldLimit) -> Held:
        """Return it with a limit in place of that of the same source and name."""
        key = held.limit.source, held.limit.name
        others = (each for each in self.limits if (each.limit.source, each.limit.name) != key)
        return replace(self, limits=(*others, held))

    def with_event(self, held: HeldEvent) -> Held:
        """Return it with an event in place of that of the same source and id."""
        key = held.event.source, held.event.id
        others = (each for each in self.events if (each.event.source, each.event.id) != key)
        return replace(self, events=(*others, held))


@dataclass(frozen=True, slots=True)
class EventTarget:
    """What an event asks at a moment.

    Attributes:
        event: The event.
        baseline_w: What the site drew before it, W.
        at_s: That moment by the clock that the event was accepted with, s since the Unix epoch.
        watts: What it allows, W; None before its start and after its end.
    """

    event: GridEvent
    baseline_w: float
    at_s: float
    watts: float | None


@dataclass(frozen=True, slots=True)
class InForce:
    """The limit in force.

    Attributes:
        watts: Most that the site may draw, W.
        name: What sets it: `LINK/NAME` of a limit or event, `LINK/default`, or `LINK/NAME/default`
            for the default of a limit.
    """

    watts: float
    name: str


def in_force(
    held: Held, links: Iterable[Link], watched: Watched, ahead_s: float = 0.0
) -> InForce | None:
    """Return the lowest of all that holds at a time; None if nothing does.

    The largest number of watts limits nothing: it is the default of a link that has none.

    Where the wall clock is ahead of the times of a limit or event, because it was set forward, the
    lower of what both clocks give applies.

    Args:
        held: What is held.
        links: The links; what is held of others does not count.
        watched: The present.
        ahead_s: How far ahead that time is, s; links stay as they are now.
    """
    now = watched.now
    then = Moment(now.steady_s + ahead_s, now.wall_s + ahead_s)
    found: list[InForce] = []
    for link in links:
        contact = held.contact(link.name)
        lost = contact.is_lost(link.lost_s, now.steady_s)
        gone = contact.is_surely_lost(link.lost_s, watched)
        if lost or gone or contact.awaits or contact.forgotten:
            found.append(InForce(link.default_w, f"{link.name}/default"))
        for each in held.limits:
            if each.limit.source == link.name:
                found.extend(_allowed(each, then, lost=lost, gone=gone))
        found.extend(_asked([each for each in held.events if each.event.source == link.name], then))
    found = [each for each in found if each.watts < LARGEST]
    return min(found, key=lambda each: each.watts, default=None)


def asked(
    held: Held, links: Iterable[Link], watched: Watched, ahead_s: float = 0.0
) -> tuple[EventTarget, ...]:
    """Return what each event asks at a time; what sets no limit is left out.

    Args:
        held: What is held.
        links: The links; what is held of others does not count.
        watched: The present.
        ahead_s: How far ahead that time is, s.
    """
    names = {link.name for link in links}
    then = Moment(watched.now.steady_s + ahead_s, watched.now.wall_s + ahead_s)
    return tuple(
        _asked_by(each, then)
        for each in held.events
        if each.event.source in names and each.event.target is not None
    )


def _asked_by(held: HeldEvent, then: Moment) -> EventTarget:
    times_s = _times_s(held.offset_s, then)
    found = [limit_w(held.event, at_s, held.baseline_w) for at_s in times_s]
    known = [watts for watts in found if watts is not None]
    return EventTarget(held.event, held.baseline_w, times_s[0], min(known, default=None))


def _allowed(held: HeldLimit, then: Moment, lost: bool, gone: bool) -> Iterator[InForce]:
    """Yield what a limit allows, by both clocks.

    While its link is lost, its default holds. A schedule with an end holds beside it; one without
    an end holds until the link is surely lost.

    Args:
        held: The limit.
        then: The time.
        lost: Whether its link is lost.
        gone: Whether its link is surely lost.
    """
    limit = held.limit
    name = f"{limit.source}/{limit.name}"
    for at_s in _times_s(held.offset_s, then):
        watts = limit.at(at_s)
        if watts is None or lost or gone or not held.repeated:
            yield InForce(limit.default_w, f"{name}/default")
        if watts is not None and (limit.expires_s is not None or not (gone or held.dropped)):
            yield InForce(watts, name)


def _asked(held: Sequence[HeldEvent], then: Moment) -> Iterator[InForce]:
    """Yield what the events of a link allow, by both clocks."""
    for which in (0, 1):
        found = lowest_at(
            (each.event, each.baseline_w, _times_s(each.offset_s, then)[which]) for each in held
        )
        if found is not None:
            yield InForce(found.watts, f"{found.event.source}/{found.event.id}")


def _times_s(offset_s: float, then: Moment) -> tuple[float, float]:
    """Return the time of what was accepted, by the steady and by the wall clock, s."""
    steady_s = then.steady_s + offset_s
    return steady_s, max(steady_s, then.wall_s)


def heard(held: Held, link: Link, watched: Watched) -> Held:
    """Return what is held after a sign of life of a link.

    If it was lost, it has to repeat all that it asks: until then its default holds.
    """
    contact, now_s = held.contact(link.name), watched.now.steady_s
    if contact.is_lost(link.lost_s, now_s):
        gone = contact.is_surely_lost(link.lost_s, watched)
        limits = (
            _unsure(each, gone) if each.limit.source == link.name else each for each in held.limits
        )
        events = (
            replace(each, repeated=False) if each.event.source == link.name else each
            for each in held.events
        )
        held = replace(held, limits=tuple(limits), events=tuple(events))
        contact = replace(contact, awaits=True)
    return held.with_contact(replace(contact, heard_s=now_s))


def forgotten(held: Held, links: Iterable[str]) -> Held:
    """Return what is held where newer limits were kept and could not be read.

    The defaults of the links hold beside it, until each has sent a limit.
    """
    limits = tuple(replace(each, repeated=False) for each in held.limits)
    events = tuple(replace(each, repeated=False) for each in held.events)
    contacts = tuple(Contact(link, forgotten=True) for link in links)
    return Held(contacts, limits, events)


def _unsure(held: HeldLimit, gone: bool) -> HeldLimit:
    dropped = held.dropped or (gone and held.limit.expires_s is None)
    return replace(held, repeated=False, dropped=dropped)


def all_repeated(held: Held, link: str, steady_s: float) -> Held:
    """Return what is held after a link has repeated all that it asks.

    What it has not repeated was taken back meanwhile: limits are lifted, events are cancelled.
    """
    limits = (
        lifted(each, each.limit.issued_s - OLDER_S)
        if each.limit.source == link and not each.repeated
        else each
        for each in held.limits
    )
    events = (
        taken_back(each, each.event.issued_s - OLDER_S, steady_s)
        if each.event.source == link and not each.repeated
        else each
        for each in held.events
    )
    held = replace(held, limits=tuple(limits), events=tuple(events))
    return held.with_contact(replace(held.contact(link), awaits=False))


def lifted(held: HeldLimit, issued_s: float) -> HeldLimit:
    """Return a limit without its schedule; its default stays.

    Args:
        held: The limit.
        issued_s: When it was lifted, s since the Unix epoch.
    """
    limit = replace(held.limit, watts=(), expires_s=None, issued_s=issued_s)
    return replace(held, limit=limit, repeated=True, dropped=False)


def taken_back(held: HeldEvent, issued_s: float, steady_s: float) -> HeldEvent:
    """Return a cancelled event: its ramp up if it has begun, else one that sets no limit.

    Args:
        held: The event.
        issued_s: When it was cancelled, s since the Unix epoch.
        steady_s: The present on the steady clock, s.
    """
    left = cancelled(held.event, steady_s + held.offset_s, held.baseline_w)
    if left is None:
        left = replace(held.event, kind="price", target=None)
    return replace(held, event=replace(left, issued_s=issued_s), repeated=True)


def without_ended(held: Held, steady_s: float) -> Held:
    """Return what is held without the events that have ended."""
    events = (
        each
        for each in held.events
        if steady_s + each.offset_s < max(each.kept_until_s, each.event.ends_s)
    )
    return replace(held, events=tuple(events))
