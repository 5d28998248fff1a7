"""The intervals of an event as spans of time: defaults, order, loops and a random start."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from steppe.errors import SteppeError
from steppe.grid.openadr.messages import Event, Interval, Payload, Period
from steppe.grid.openadr.times import BadTimeError, duration_of, is_now, time_of

DAY_S = 86400.0
MOST_SLOTS = 20_000
"""Most intervals of one event within the horizon."""
_TOO_MANY = 2 * MOST_SLOTS
_SAME_S = 1e-6


class RefusedEventError(SteppeError):
    """An event is not followed; the line says which and why."""


@dataclass(frozen=True, slots=True)
class Slot:
    """One interval in time.

    Attributes:
        name: Identity within the event: the interval, the round of a loop after `/`, the day of a
            long one after `@`.
        starts_s: Start, s since the Unix epoch.
        ends_s: End, s since the Unix epoch.
        payloads: What holds in it.
    """

    name: str
    starts_s: float
    ends_s: float
    payloads: tuple[Payload, ...]


def share_of(ven: str, event_id: str) -> float:
    """Return where in the range of `randomizeStart` this client starts, in [0, 1).

    It depends on the names alone, so that a restart or a second poll does not draw again, and
    differs between clients.
    """
    digest = hashlib.sha256(f"{ven}\n{event_id}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def slots(event: Event, now_s: float, until_s: float, share: float) -> tuple[Slot, ...]:
    """Return the intervals of an event that end after `now_s` and start before `until_s`.

    A start of `0001-01-01`, or none, is the moment at which the server wrote the event. An interval
    without a start of its own follows the one before. An event whose `duration` is longer than
    its intervals repeats them; one that is shorter ends them.

    Args:
        event: The event.
        now_s: Time, s since the Unix epoch.
        until_s: Only what starts before is returned, s since the Unix epoch.
        share: Where in the range of `randomizeStart` the client starts, in [0, 1).

    Raises:
        RefusedEventError: Its times cannot be read, lack a length, overlap, or are too many.
    """
    try:
        round_ = _first_round(event, share)
        ends_s = _end_of(event, round_)
    except BadTimeError as error:
        raise RefusedEventError(f"event {event.id}: {error}") from error
    _check_order(event, round_)
    found: list[Slot] = []
    repeats = event.duration is not None
    ahead_s = min(ends_s, until_s) - max(now_s, min(slot.starts_s for slot in round_))
    if repeats and len(round_) * ahead_s > _TOO_MANY * _length_s(round_):
        raise RefusedEventError(f"event {event.id}: more than {MOST_SLOTS} intervals ahead")
    for slot in _rounds(round_, now_s, min(ends_s, until_s), repeats=repeats):
        if slot.ends_s <= now_s or slot.starts_s >= min(until_s, ends_s):
            continue
        whole = Slot(slot.name, slot.starts_s, min(slot.ends_s, ends_s), slot.payloads)
        found += [each for each in _days(whole, now_s, until_s) if each.ends_s > now_s]
        if len(found) > _TOO_MANY:
            raise RefusedEventError(f"event {event.id}: more than {MOST_SLOTS} intervals ahead")
    return tuple(found)


def ends_s(event: Event, share: float) -> float:
    """Return the end of an event, s since the Unix epoch; infinite if it has none.

    Raises:
        RefusedEventError: As for `slots`.
    """
    try:
        return _end_of(event, _first_round(event, share))
    except BadTimeError as error:
        raise RefusedEventError(f"event {event.id}: {error}") from error


def starts_s(event: Event, share: float) -> float:
    """Return the start of an event, s since the Unix epoch.

    Raises:
        RefusedEventError: As for `slots`.
    """
    try:
        return min(slot.starts_s for slot in _first_round(event, share))
    except BadTimeError as error:
        raise RefusedEventError(f"event {event.id}: {error}") from error


@dataclass(frozen=True, slots=True)
class Timeline:
    """The intervals of an event by number, with those of its repetitions; the first is 0.

    Attributes:
        round: The intervals as they are listed, in the order of time.
        ends_s: End of the event, s since the Unix epoch; infinite if it has none.
        repeats: Whether the intervals are repeated until the end.
    """

    round: tuple[Slot, ...]
    ends_s: float
    repeats: bool

    @property
    def count(self) -> int | None:
        """How many intervals there are; None if they have no end."""
        if not self.repeats:
            return sum(slot.starts_s < self.ends_s for slot in self.round)
        if math.isinf(self.ends_s):
            return None
        rounds = max(0, math.ceil((self.ends_s - self.round[0].starts_s) / self.length_s) - 1)
        moved_s = rounds * self.length_s
        rest = sum(slot.starts_s + moved_s < self.ends_s for slot in self.round)
        return rounds * len(self.round) + rest

    @property
    def length_s(self) -> float:
        """Length of a round, s."""
        return _length_s(self.round)

    def span(self, number: int) -> tuple[float, float]:
        """Return start and end of an interval, s since the Unix epoch."""
        turn, place = divmod(number, len(self.round))
        moved_s = turn * self.length_s if turn else 0.0
        slot = self.round[place]
        return slot.starts_s + moved_s, min(slot.ends_s + moved_s, self.ends_s)

    def before(self, at_s: float) -> int:
        """Return the number of an interval that starts at a time or earlier, not far before it."""
        begins_s = self.round[0].starts_s
        if not self.repeats or at_s <= begins_s:
            return 0
        return max(0, math.floor((at_s - begins_s) / self.length_s)) * len(self.round)


def timeline(event: Event, share: float) -> Timeline:
    """Return the intervals of an event by number.

    Args:
        event: The event.
        share: Where in the range of `randomizeStart` the client starts, in [0, 1).

    Raises:
        RefusedEventError: Its times cannot be read, lack a length, or overlap.
    """
    try:
        round_ = _first_round(event, share)
        ends_s = _end_of(event, round_)
    except BadTimeError as error:
        raise RefusedEventError(f"event {event.id}: {error}") from error
    _check_order(event, round_)
    ordered = tuple(sorted(round_, key=lambda slot: slot.starts_s))
    repeats = event.duration is not None and math.isfinite(_length_s(round_))
    return Timeline(ordered, ends_s, repeats)


def _first_round(event: Event, share: float) -> tuple[Slot, ...]:
    if not event.intervals:
        raise RefusedEventError(f"event {event.id}: it has no intervals")
    default = event.intervalPeriod or Period()
    next_s = _start(event, default.start) + _offset_s(default, share)
    found = []
    for interval in event.intervals:
        own = interval.intervalPeriod or Period()
        starts_s = next_s
        if own.start is not None:
            starts_s = _start(event, own.start) + _offset_s(own, share)
        next_s = _length_end(event, interval, own.duration or default.duration, starts_s)
        found.append(Slot(str(interval.id), starts_s, next_s, interval.payloads))
    return tuple(found)


def _start(event: Event, text: str | None) -> float:
    if text is None or is_now(text):
        return time_of(event.modificationDateTime)
    return time_of(text)


def _offset_s(period: Period, share: float) -> float:
    if period.randomizeStart is None:
        return 0.0
    span = duration_of(period.randomizeStart)
    if span.months or span.rest_s > DAY_S:
        raise BadTimeError(f"randomizeStart {period.randomizeStart} is longer than a day")
    return span.rest_s * share


def _length_end(event: Event, interval: Interval, text: str | None, starts_s: float) -> float:
    if text is None:
        raise RefusedEventError(f"event {event.id}: interval {interval.id} has no duration")
    span = duration_of(text)
    if span.is_nothing:
        raise RefusedEventError(f"event {event.id}: interval {interval.id} has no length")
    return span.after(starts_s)


def _end_of(event: Event, round_: Sequence[Slot]) -> float:
    if event.duration is None:
        return max(slot.ends_s for slot in round_)
    span = duration_of(event.duration)
    if span.is_nothing:
        return max(slot.ends_s for slot in round_)
    return span.after(min(slot.starts_s for slot in round_))


def _check_order(event: Event, round_: Sequence[Slot]) -> None:
    names = {slot.name for slot in round_}
    if len(names) < len(round_):
        raise RefusedEventError(f"event {event.id}: two intervals have the same id")
    ordered = sorted(round_, key=lambda slot: slot.starts_s)
    for before, after in pairwise(ordered):
        if before.ends_s > after.starts_s + _SAME_S:
            raise RefusedEventError(
                f"event {event.id}: intervals {before.name} and {after.name} overlap"
            )


def _days(slot: Slot, now_s: float, until_s: float) -> Iterator[Slot]:
    """Cut what is longer than a day into days, so that each part has an end."""
    if slot.ends_s - slot.starts_s <= DAY_S:
        yield slot
        return
    number = max(0, math.floor((now_s - slot.starts_s) / DAY_S))
    while (starts_s := slot.starts_s + number * DAY_S) < min(slot.ends_s, until_s):
        end_s = min(slot.ends_s, starts_s + DAY_S)
        yield Slot(f"{slot.name}@{number}", starts_s, end_s, slot.payloads)
        number += 1


def _length_s(round_: Sequence[Slot]) -> float:
    return max(slot.ends_s for slot in round_) - min(slot.starts_s for slot in round_)


def _rounds(
    round_: Sequence[Slot], now_s: float, until_s: float, *, repeats: bool
) -> Iterator[Slot]:
    begins_s = min(slot.starts_s for slot in round_)
    length_s = _length_s(round_)
    if not repeats or math.isinf(length_s):
        yield from round_
        return
    number = max(0, math.floor((now_s - begins_s) / length_s))
    while begins_s + number * length_s < until_s:
        moved_s = number * length_s
        for slot in round_:
            name = f"{slot.name}/{number}" if number else slot.name
            yield Slot(name, slot.starts_s + moved_s, slot.ends_s + moved_s, slot.payloads)
        number += 1
