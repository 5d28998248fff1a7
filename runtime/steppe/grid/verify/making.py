"""How the report of an event is made: from its times, a baseline, and what was drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from steppe.grid.verify.delivery import Delivery, Direction, delivery_of
from steppe.grid.verify.error import error_of
from steppe.grid.verify.like_days import PPM, LikeDayBaseline, placebo_pairs
from steppe.grid.verify.load import Load
from steppe.grid.verify.meter_before import MeterBefore
from steppe.grid.verify.rebound import Rebound, rebound_of
from steppe.grid.verify.regulation import RegulationScore
from steppe.grid.verify.report import (
    EventReport,
    EventSums,
    Metered,
    Method,
    Point,
    Regulation,
    ReportedEvent,
)
from steppe.grid.verify.settlement import Terms, settle
from steppe.grid.verify.stated import Baseline, sha256_of
from steppe.grid.verify.times import EventTimes
from steppe.grid.verify.tracking import Following
from steppe.ledger.receipts_of import ascii_name

Pairs = Sequence[tuple[Sequence[int], Sequence[int]]]


@dataclass(frozen=True, slots=True)
class Promise:
    """What was promised, and what is paid for it.

    Attributes:
        committed: What was promised for each interval of the event, W.
        terms: What is paid; None if nothing is.
    """

    committed: Sequence[int]
    terms: Terms | None = None


@dataclass(frozen=True, slots=True)
class Scores:
    """How the draw followed the event by the second.

    Attributes:
        following: How it followed the target; None if that was not measured.
        regulation: The score as regulation; None for other events.
    """

    following: Following | None = None
    regulation: RegulationScore | None = None


NO_SCORES = Scores()


def report_of(
    asked: ReportedEvent,
    times: EventTimes,
    direction: Direction,
    *,
    baseline: Baseline,
    metered: Metered,
    promise: Promise,
    scores: Scores = NO_SCORES,
    placebo: Pairs = (),
) -> EventReport:
    """Return the report of an event.

    Args:
        asked: What the grid asked for.
        times: When; the baseline has to reach from `before_s` before it to `after_s` after it.
        direction: Whether less or more was asked for.
        baseline: What would have been drawn.
        metered: What was drawn.
        promise: What was promised.
        scores: How the draw followed by the second.
        placebo: Baseline and draw on days without an event, W. A baseline from like days finds its
            own.

    Raises:
        UsageError: The baseline is not defined there, or there is no promise for an interval.
    """
    load, terms = metered.load, promise.terms
    before, after = _around(baseline, load, times)
    delivery = _delivery(direction, times, baseline, load, promise.committed)
    return EventReport(
        asked=_in_ascii(asked),
        times=times,
        direction=direction,
        interval_s=load.interval_s,
        utc_offset_s=metered.utc_offset_s,
        energy_source=metered.energy_source,
        boundary=metered.boundary,
        load_sha256=load.sha256,
        baseline=method_of(baseline),
        sums=sums_of(delivery),
        rows=delivery.rows,
        before=before,
        after=after,
        rebound=rebound_after(direction, load.interval_s, after),
        error=error_of(placebo_of(baseline) or placebo),
        terms=terms,
        settlement=settle(delivery, terms) if terms else None,
        following=scores.following,
        regulation=_regulation(scores.regulation) if scores.regulation else None,
    )


def placebo_of(baseline: Baseline) -> Pairs:
    """Return baseline and draw on days without an event, as far as a baseline knows them, W."""
    match baseline:
        case LikeDayBaseline():
            return placebo_pairs(baseline)
        case MeterBefore():
            return baseline.placebo_pairs()
        case _:
            return ()


def rebound_after(direction: Direction, interval_s: int, after: Sequence[Point]) -> Rebound:
    """Return the rebound in the intervals after an event."""
    baseline, load = [point.baseline_w for point in after], [point.load_w for point in after]
    return rebound_of(direction, interval_s, baseline, load)


def _delivery(
    direction: Direction,
    times: EventTimes,
    baseline: Baseline,
    load: Load,
    committed: Sequence[int],
) -> Delivery:
    start_s, end_s = times.start_s, times.end_s
    return delivery_of(
        direction,
        start_s,
        load.interval_s,
        baseline=baseline.watts(start_s, end_s),
        load=load.between(start_s, end_s),
        committed=committed,
    )


def _around(
    baseline: Baseline, load: Load, times: EventTimes
) -> tuple[tuple[Point, ...], tuple[Point, ...]]:
    """Return the intervals before and after an event."""
    start_s, end_s = times.start_s, times.end_s
    before = _points(baseline, load, start_s - times.before_s, start_s)
    return before, _points(baseline, load, end_s, end_s + times.after_s)


def _in_ascii(asked: ReportedEvent) -> ReportedEvent:
    return ReportedEvent(
        id=ascii_name(asked.id),
        program=ascii_name(asked.program),
        kind=ascii_name(asked.kind),
        source=ascii_name(asked.source),
        site=ascii_name(asked.site),
        issued_s=asked.issued_s,
    )


def _points(baseline: Baseline, load: Load, start_s: int, end_s: int) -> tuple[Point, ...]:
    both = zip(baseline.watts(start_s, end_s), load.between(start_s, end_s), strict=True)
    size = load.interval_s
    return tuple(
        Point(start_s + n * size, base_w, load_w) for n, (base_w, load_w) in enumerate(both)
    )


def method_of(baseline: Baseline) -> Method:
    """Return how a baseline was made."""
    digest = sha256_of(baseline)
    match baseline:
        case LikeDayBaseline():
            chosen = baseline.chosen
            days = tuple(day.isoformat() for day in chosen.days)
            return Method(baseline.name, digest, days, chosen.factor_ppm)
        case MeterBefore():
            return Method(baseline.name, digest, in_place_of=baseline.in_place_of)
        case _:
            return Method(baseline.name, digest)


def sums_of(delivery: Delivery) -> EventSums:
    """Return what a whole delivery is."""
    return EventSums(
        delivery.interval_s * sum(row.baseline_w for row in delivery.rows),
        delivery.committed_j,
        delivery.delivered_j,
        delivery.counted_j,
        delivery.deficiency_j,
        delivery.unmetered,
        delivery.ratio_ppm,
        delivery.over_ppm,
    )


def _regulation(score: RegulationScore) -> Regulation:
    parts = (score.score, score.correlation, score.delay, score.precision)
    return Regulation(score.windows, *(round(part * PPM) for part in parts))
