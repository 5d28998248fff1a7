"""The baseline of an event: its inputs are fixed when it was accepted, and only its hours change.

Where the method that was asked for cannot be used, `meter before` takes its place and says why.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import floor

from steppe.errors import UsageError
from steppe.grid.history.history import History
from steppe.grid.history.steps import Span as Asked
from steppe.grid.reports.record import EventRecord
from steppe.grid.reports.terms import LIKE_DAYS, VerifyTerms, declared_load
from steppe.grid.verify.audit import Kept
from steppe.grid.verify.like_days import PLACEBO_DAYS, LikeDayBaseline, freeze
from steppe.grid.verify.load import Load
from steppe.grid.verify.meter_before import (
    METER_BEFORE,
    PLACEBO_TIMES,
    MeterBefore,
    meter_before,
)
from steppe.grid.verify.of_event import times_of
from steppe.grid.verify.stated import ControlGroup, DeclaredBaseline, FirmLevel
from steppe.grid.verify.times import DAY_S, EventTimes, Span


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a baseline is made from.

    Attributes:
        terms: How events are measured.
        history: What the site drew.
        others: Times of other events.
    """

    terms: VerifyTerms
    history: History
    others: tuple[Span, ...] = ()

    def drawn(self, record: EventRecord, start_s: int, end_s: int) -> Load:
        """Return the draw of a span, in whole intervals of an event and from its kind of source.

        Raises:
            UsageError: The history cannot be read.
        """
        size = record.interval_s
        asked = Asked(start_s // size * size, end_s // size * size, size, record.rank)
        return self.history.drawn(asked).load


def times_of_record(record: EventRecord, terms: VerifyTerms) -> EventTimes:
    """Return the times of an event: it could be foreseen when its first version was accepted.

    Raises:
        UsageError: Its hold is shorter than an interval, or it sets no limit.
    """
    section, event = terms.section, record.event
    known_s = min(record.accepted_s, event.issued_s)
    return times_of(
        event,
        record.interval_s,
        foreseen_s=known_s,
        before_s=section.before_s,
        after_s=section.rebound_s,
    )


def fixed_baseline(
    record: EventRecord, times: EventTimes, inputs: Inputs
) -> LikeDayBaseline | MeterBefore | DeclaredBaseline | FirmLevel:
    """Return the baseline of an event, with its inputs as they are known when it is accepted.

    Args:
        record: The event.
        times: When it is.
        inputs: What it is made from.
    """
    name = inputs.terms.baseline(record.event)
    if name == METER_BEFORE:
        return _meter_before(record, times, inputs, "")
    try:
        found = _asked(name, record, times, inputs)
        found.watts(times.start_s - times.before_s, times.end_s + times.after_s)
    except UsageError as error:
        why = str(error).removeprefix("baseline ").encode("ascii", "backslashreplace").decode()
        return _meter_before(record, times, inputs, why)
    return found


def with_times(
    kept: Kept, record: EventRecord, times: EventTimes, inputs: Inputs
) -> LikeDayBaseline | MeterBefore | DeclaredBaseline | FirmLevel:
    """Return a baseline for other hours of the same event, from the inputs that were fixed.

    Where these do not suffice, what was known then takes their place.
    """
    match kept:
        case FirmLevel():
            return kept
        case ControlGroup():
            return fixed_baseline(record, times, inputs)
        case _:
            try:
                moved = replace(kept, times=times)
                moved.watts(times.start_s - times.before_s, times.end_s + times.after_s)
            except UsageError:
                return fixed_baseline(record, times, inputs)
            return moved


def _asked(
    name: str, record: EventRecord, times: EventTimes, inputs: Inputs
) -> LikeDayBaseline | DeclaredBaseline | FirmLevel:
    section, method = inputs.terms.section, LIKE_DAYS.get(name)
    if method is not None:
        back_s = (method.lookback_days + PLACEBO_DAYS + 1) * DAY_S
        load = inputs.drawn(record, times.start_s - back_s, times.foreseeable_s)
        return freeze(method, times, load, inputs.terms.calendar, inputs.others)
    if name == "firm level":
        assert section.firm_level is not None, "the configuration has checked it"
        levels = section.firm_level
        return FirmLevel(levels.subscribed_w, levels.firm_w, record.interval_s)
    assert section.declared is not None, "the configuration has checked it"
    return DeclaredBaseline(*declared_load(section.declared, record.interval_s), times)


def _meter_before(
    record: EventRecord, times: EventTimes, inputs: Inputs, in_place_of: str
) -> MeterBefore:
    window_s = inputs.terms.window_s
    length_s = times.end_s - times.foreseeable_s + window_s + 2 * record.interval_s
    back_s = (PLACEBO_TIMES + 1) * length_s + window_s
    load = inputs.drawn(record, floor(times.foreseeable_s - back_s), times.foreseeable_s)
    return meter_before(
        times,
        load,
        window_s,
        record.stated_w,
        events=inputs.others,
        in_place_of=in_place_of,
    )
