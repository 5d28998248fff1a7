"""The events that a site follows, and why it does not follow the others. Pure.

A server may send an event twice, late, out of order or wrong, and an attacker may repeat an old
one. What is refused leaves what was accepted before as it was.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from steppe.grid.events.event import GridEvent, limit_w
from steppe.grid.events.together import lowest
from steppe.grid.openadr.intervals import (
    DAY_S,
    MOST_SLOTS,
    RefusedEventError,
    ends_s,
    share_of,
    slots,
    starts_s,
)
from steppe.grid.openadr.messages import Event, PayloadDescriptor, Program
from steppe.grid.openadr.times import BadTimeError, time_of
from steppe.grid.openadr.translation import AgreedTerms, Rate, Translation, check, translate

MOST_EVENTS = 500
"""Most events that are followed at once."""
NOTHING: Mapping[str, str] = MappingProxyType({})
"""No event that cannot be read."""
_MOST_REMEMBERED = 5000


@dataclass(frozen=True, slots=True)
class Standing:
    """What the grid asks at one moment and later.

    Attributes:
        events: Limits, setpoints, levels and alerts that are not over, by start.
        rates: Prices and emissions that are not over, by start.
        subscription_w: Import that holds where no limit does, W at the site.
        is_lost: Whether the link is lost.
        unfollowed: Ids of the events that the server lists and that are not followed: they are
            refused, cannot be read, or are over.
    """

    events: tuple[GridEvent, ...]
    rates: tuple[Rate, ...]
    subscription_w: float
    is_lost: bool
    unfollowed: frozenset[str] = frozenset()

    def limit_w(self, now_s: float, baseline_w: float) -> float:
        """Return what the site may draw now, W; never unlimited.

        Several events count as in `grid.events.together`. Where the server sets no limit, and
        while the link is lost, the subscription holds too, whichever is lower: so a lost link
        lifts nothing.

        Args:
            now_s: Time, s since the Unix epoch.
            baseline_w: What the site would draw without events, W.
        """
        asked = lowest(((event, baseline_w) for event in self.events), now_s)
        if asked is None:
            return self.subscription_w
        has_limit = any(
            event.kind == "limit" and limit_w(event, now_s, baseline_w) is not None
            for event in self.events
        )
        if has_limit and not self.is_lost:
            return asked.watts
        return min(asked.watts, self.subscription_w)


@dataclass(frozen=True, slots=True)
class _Kept:
    event: Event
    issued_s: float
    heard: int
    share: float
    descriptors: tuple[PayloadDescriptor, ...]


class Inbox:
    """Accepts and refuses events; `standing` says what holds.

    Attributes:
        refusals: Reasons of the newest refused events, each once, the oldest first.
    """

    def __init__(self, terms: AgreedTerms, ven: str) -> None:
        """Start without events and with a lost link.

        Args:
            terms: What was agreed beside the messages.
            ven: Name of this client.
        """
        self.refusals: list[str] = []
        self._terms, self._ven = terms, ven
        self._ours: frozenset[str] | None = None
        self._targets: frozenset[str] = frozenset()
        self._descriptors: dict[str, tuple[PayloadDescriptor, ...]] = {}
        self._kept: dict[str, _Kept] = {}
        self._listed: frozenset[str] = frozenset()
        self._gone: OrderedDict[str, tuple[float, int]] = OrderedDict()
        self._polls = 0
        self._told: OrderedDict[str, None] = OrderedDict()
        self._heard_mono_s: float | None = None

    @property
    def events(self) -> tuple[Event, ...]:
        """The events that are followed."""
        return tuple(kept.event for kept in self._kept.values())

    def learn(
        self,
        programs: Iterable[Program],
        targets: Iterable[str],
        ours: frozenset[str] | None = None,
    ) -> None:
        """Set what the server says of us.

        Args:
            programs: The programs, for the units of their payloads.
            targets: Targets that mean this site.
            ours: Identities of the programs that are followed; None for all.
        """
        self._ours = ours
        self._descriptors = {each.id: each.payloadDescriptors or () for each in programs}
        self._targets = frozenset(targets)

    def link_heard(self, mono_s: float) -> None:
        """Note that the server answered, at a time of the monotonic clock, s."""
        self._heard_mono_s = mono_s

    def take(self, event: Event, now_s: float) -> bool:
        """Follow an event that was sent to us; return False if it is followed already.

        Raises:
            RefusedEventError: It is not followed; the line says why.
        """
        try:
            return self._take(event, now_s, began=None)
        except RefusedEventError as error:
            self._tell(f"{event.modificationDateTime} {error}", str(error))
            raise

    def drop(self, event: Event, now_s: float) -> bool:
        """Follow an event no more; return False if it was not followed.

        Raises:
            RefusedEventError: The deletion is older than what is followed.
        """
        issued_s = _issued_s(event)
        kept = self._kept.get(event.id)
        if kept is not None and issued_s < kept.issued_s:
            why = f"event {event.id}: the deletion is of an older version than the one followed"
            self._tell(f"{event.modificationDateTime} {why}", why)
            raise RefusedEventError(why)
        if issued_s <= now_s + self._terms.skew_s:
            self._bury(event.id, issued_s)
        return self._kept.pop(event.id, None) is not None

    def poll_begins(self) -> int:
        """Return a mark of this moment; what is sent to us from now on is newer than the poll."""
        self._polls += 1
        return self._polls

    def polled(
        self,
        events: Sequence[Event],
        began: int,
        now_s: float,
        unread: Mapping[str, str] = NOTHING,
    ) -> tuple[str, ...]:
        """Follow what a whole poll has found, and nothing that it did not find.

        Args:
            events: All events of the server that concern us.
            began: The mark of when the poll began.
            now_s: Time, s since the Unix epoch.
            unread: Events of the server that cannot be read, by id, and why; what was followed
                under such an id is followed on.

        Returns:
            Why events were refused; each reason once.
        """
        listed = self._listed = frozenset(event.id for event in events) | unread.keys()
        for name in [name for name, kept in self._kept.items() if kept.heard < began]:
            if name not in listed or self._is_over(self._kept[name], now_s):
                del self._kept[name]
        fresh = [why for why in unread.values() if self._tell(why, why)]
        for event in events:
            try:
                self._take(event, now_s, began=began)
            except RefusedEventError as error:
                if self._tell(f"{event.modificationDateTime} {error}", str(error)):
                    fresh.append(str(error))
        return tuple(fresh)

    def standing(self, now_s: float, mono_s: float) -> Standing:
        """Return what holds now and later.

        Args:
            now_s: Time, s since the Unix epoch.
            mono_s: Time of the monotonic clock, s.
        """
        heard = self._heard_mono_s
        is_lost = heard is None or mono_s - heard > self._terms.lost_s
        found = [self._meaning(kept, now_s) for kept in self._kept.values()]
        events = [event for each in found for event in each.events]
        rates = [rate for each in found for rate in each.rates]
        held = [limit_w(event, now_s, 0.0) for each in found for event in each.subscriptions]
        capacity = [watts for watts in held if watts is not None]
        return Standing(
            tuple(sorted(events, key=lambda event: (event.starts_s, event.id))),
            tuple(sorted(rates, key=lambda rate: (rate.starts_s, rate.id))),
            min([self._terms.subscription_w, *capacity]),
            is_lost,
            self._listed - self._kept.keys(),
        )

    def _meaning(self, kept: _Kept, now_s: float) -> Translation:
        return translate(kept.event, self._terms, now_s, kept.share, kept.descriptors)

    def _take(self, event: Event, now_s: float, began: int | None) -> bool:
        issued_s = _issued_s(event)
        known = self._kept.get(event.id)
        if known is not None and known.event == event:
            self._kept[event.id] = replace(known, heard=self._polls)
            return False
        self._check_version(event, issued_s, now_s, began)
        self._check_place(event)
        descriptors = self._descriptors.get(event.programID, ())
        kept = _Kept(event, issued_s, self._polls, share_of(self._ven, event.id), descriptors)
        self._check_times(kept, now_s)
        check(event, self._terms, descriptors)
        self._check_overlap(kept, now_s)
        if known is None and len(self._kept) >= MOST_EVENTS:
            raise RefusedEventError(f"event {event.id}: {MOST_EVENTS} events are followed already")
        self._kept[event.id] = kept
        return True

    def _check_version(
        self, event: Event, issued_s: float, now_s: float, began: int | None
    ) -> None:
        if issued_s > now_s + self._terms.skew_s:
            raise RefusedEventError(
                f"event {event.id}: it was written {issued_s - now_s:.0f} s in the future"
            )
        known = self._kept.get(event.id)
        if known is not None and issued_s < known.issued_s:
            raise RefusedEventError(f"event {event.id}: it is older than the one followed")
        if known is not None and issued_s == known.issued_s:
            raise RefusedEventError(
                f"event {event.id}: it changed without a new modificationDateTime"
            )
        gone = self._gone.get(event.id)
        if gone is not None and issued_s <= gone[0] and (began is None or gone[1] >= began):
            raise RefusedEventError(f"event {event.id}: it was deleted and is sent again")

    def _check_place(self, event: Event) -> None:
        if self._ours is not None and event.programID not in self._ours:
            raise RefusedEventError(f"event {event.id}: program {event.programID} is not ours")
        if event.targets and not self._targets & set(event.targets):
            names = ", ".join(event.targets)
            raise RefusedEventError(f"event {event.id}: its targets {names} are not ours")

    def _check_times(self, kept: _Kept, now_s: float) -> None:
        event, terms = kept.event, self._terms
        end_s = ends_s(event, kept.share)
        if end_s <= now_s:
            raise RefusedEventError(f"event {event.id}: it ended {now_s - end_s:.0f} s ago")
        start_s = starts_s(event, kept.share)
        if start_s > now_s + terms.farthest_s:
            days = terms.farthest_s / DAY_S
            raise RefusedEventError(f"event {event.id}: it starts more than {days:.0f} days ahead")
        from_s = max(now_s, start_s)
        ahead = slots(event, from_s, from_s + terms.horizon_s, kept.share)
        if len(ahead) > MOST_SLOTS:
            raise RefusedEventError(f"event {event.id}: more than {MOST_SLOTS} intervals ahead")

    def _check_overlap(self, kept: _Kept, now_s: float) -> None:
        mine = _spans(self._meaning(kept, now_s))
        for other in self._kept.values():
            if other.event.id == kept.event.id or other.event.programID != kept.event.programID:
                continue
            if other.event.priority != kept.event.priority:
                continue
            if found := _overlap(mine, _spans(self._meaning(other, now_s))):
                raise RefusedEventError(
                    f"event {kept.event.id}: its {found} overlaps that of event"
                    f" {other.event.id}, of the same program and priority"
                )

    def _is_over(self, kept: _Kept, now_s: float) -> bool:
        return ends_s(kept.event, kept.share) <= now_s

    def _bury(self, name: str, issued_s: float) -> None:
        self._gone[name] = (issued_s, self._polls)
        if len(self._gone) > _MOST_REMEMBERED:
            self._gone.popitem(last=False)

    def _tell(self, key: str, why: str) -> bool:
        if key in self._told:
            return False
        self._told[key] = None
        self.refusals.append(why)
        del self.refusals[:-100]
        if len(self._told) > _MOST_REMEMBERED:
            self._told.popitem(last=False)
        return True


def _issued_s(event: Event) -> float:
    try:
        issued_s = time_of(event.modificationDateTime)
        created_s = time_of(event.createdDateTime)
    except BadTimeError as error:
        raise RefusedEventError(f"event {event.id}: {error}") from error
    if created_s > issued_s:
        raise RefusedEventError(f"event {event.id}: it was changed before it was created")
    return issued_s


def _spans(meaning: Translation) -> list[tuple[str, float, float]]:
    """Return the spans in which only one event of a program and priority may count."""
    found: list[tuple[str, float, float]]
    found = [(e.kind, e.starts_s, e.ends_s) for e in meaning.events if e.kind != "emergency"]
    found += [("subscription", e.starts_s, e.ends_s) for e in meaning.subscriptions]
    return found + [(rate.type, rate.starts_s, rate.ends_s) for rate in meaning.rates]


def _overlap(
    mine: Sequence[tuple[str, float, float]], others: Sequence[tuple[str, float, float]]
) -> str | None:
    for kind, starts, ends in others:
        if any(kind == k and starts < e and s < ends for k, s, e in mine):
            return kind
    return None
