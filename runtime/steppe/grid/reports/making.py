"""The report of a recorded event: from the inputs that were fixed, and from the history."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby
from math import ceil, floor

from steppe.errors import UsageError
from steppe.grid.events.event import GridEvent
from steppe.grid.history.history import History
from steppe.grid.history.steps import Span
from steppe.grid.reports.metered_times import MeteredTimes
from steppe.grid.reports.record import EventRecord
from steppe.grid.reports.terms import VerifyTerms
from steppe.grid.verify.audit import Kept
from steppe.grid.verify.delivery import PPM, Direction
from steppe.grid.verify.like_days import LikeDayBaseline
from steppe.grid.verify.load import Load
from steppe.grid.verify.making import Promise, Scores, report_of
from steppe.grid.verify.meter_before import MeterBefore
from steppe.grid.verify.of_event import asked_of, committed_of, targets_of
from steppe.grid.verify.regulation import RegulationScore, regulation_score
from steppe.grid.verify.report import EventReport, Metered
from steppe.grid.verify.stated import Baseline, ControlGroup, FirmLevel
from steppe.grid.verify.times import EventTimes
from steppe.grid.verify.tracking import Following, following_of
from steppe.ledger.receipt import ENERGY_SOURCES
from steppe.ledger.receipts_of import ascii_name
from steppe.report.pjm import SAMPLE_S, WINDOW_SAMPLES


def report_of_record(
    record: EventRecord, kept: Kept, history: History, terms: VerifyTerms
) -> EventReport:
    """Return the report of an event that is over.

    Args:
        record: The event; it has times.
        kept: Its baseline.
        history: What the site drew.
        terms: How it is measured.

    Raises:
        UsageError: The baseline cannot be used, or the history cannot be read.
    """
    times = record.times
    assert times is not None, "something of it is measured"
    if isinstance(kept, ControlGroup):
        raise UsageError(
            "control group: asked for the draw of its replicas, found that of the site"
        )
    around = Span(
        times.start_s - times.before_s, times.end_s + times.after_s, record.interval_s, record.rank
    )
    drawn = history.drawn(around)
    offset_s = terms.section.utc_offset_s
    metered = Metered(drawn.load, ENERGY_SOURCES[drawn.rank], "site", offset_s)
    return report_of(
        asked_of(record.event, terms.site),
        times,
        Direction.LESS,
        baseline=kept,
        metered=metered,
        promise=Promise(promised_of(record, kept, times), terms.price(record.event)),
        scores=Scores(
            _following(record, history, terms.section.band), _regulation(record, history)
        ),
    )


def with_meter(report: EventReport, kept: Kept, metered: MeteredTimes) -> EventReport:
    """Return a report that says for how long the draw was not read at the meter of the site.

    Args:
        report: The report.
        kept: Its baseline.
        metered: When the draw was read at the meter.
    """
    times, baseline_s = report.times, None
    if isinstance(kept, LikeDayBaseline | MeterBefore):
        spans = _with_readings(kept.load)
        baseline_s = sum(metered.computed_s(begin_s, end_s) for begin_s, end_s in spans)
    return replace(
        report,
        computed_s=metered.computed_s(times.start_s, times.end_s),
        baseline_computed_s=baseline_s,
    )


def _with_readings(load: Load) -> Iterator[tuple[int, int]]:
    """Yield begin and end of each time that has readings throughout, s."""
    at_s = load.start_s
    for has_reading, group in groupby(load.watts, lambda watts: watts is not None):
        end_s = at_s + load.interval_s * len(list(group))
        if has_reading:
            yield at_s, end_s
        at_s = end_s


def promised_of(record: EventRecord, kept: Baseline, times: EventTimes) -> tuple[int, ...]:
    """Return what is owed in each interval of an event, W."""
    watts = kept.watts(times.start_s, times.end_s)
    if isinstance(kept, FirmLevel):
        return (kept.committed_w,) * len(watts)
    return committed_of(record.event, watts)


def _following(record: EventRecord, history: History, band: float) -> Following | None:
    """Return how the draw followed the limits of an event by the second, with its ramps.

    The limits are those that the controller followed: by the baseline that it stated.
    """
    event = record.event
    start_s, end_s = floor(event.starts_s), ceil(event.hold_until_s + event.ramp_up_s)
    targets = targets_of(event, start_s, end_s, 1, record.stated_w)
    load = _load(history, record, start_s, end_s, 1)
    return following_of(1, targets, load.watts, round(band * PPM))


def _regulation(record: EventRecord, history: History) -> RegulationScore | None:
    """Return PJM's score of an event that is a signal: a set point that moves for five minutes.

    The signal is the change from the stated baseline that its ramps and its hold ask for.
    """
    event = record.event
    if event.kind != "setpoint":
        return None
    start_s = ceil(event.starts_s / SAMPLE_S) * SAMPLE_S
    count = (floor(event.hold_until_s + event.ramp_up_s) - start_s) // SAMPLE_S
    if count < WINDOW_SAMPLES:
        return None
    end_s = start_s + count * SAMPLE_S
    targets = targets_of(event, start_s, end_s, SAMPLE_S, record.stated_w)
    drawn = _load(history, record, start_s, end_s, SAMPLE_S).watts
    both = [(t, w) for t, w in zip(targets, drawn, strict=True) if t is not None and w is not None]
    if len(both) < count:
        return None
    signal_w = [target - record.stated_w for target, _ in both]
    return regulation_score(signal_w, [watts - record.stated_w for _, watts in both])


def _load(history: History, record: EventRecord, start_s: int, end_s: int, size_s: int) -> Load:
    return history.drawn(Span(start_s, end_s, size_s, record.rank)).load


def overlapping(event: GridEvent, others: list[GridEvent]) -> tuple[str, ...]:
    """Return the ids of other events that asked for something while one did."""
    return tuple(
        sorted(
            ascii_name(f"{each.source}/{each.id}")
            for each in others
            if each.target is not None
            and each.starts_s < event.ends_s
            and event.starts_s < each.ends_s
        )
    )
