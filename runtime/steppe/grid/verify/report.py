"""The report of one event: all that it changed, in integers, as an entry of a log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

import orjson
from pydantic import TypeAdapter, ValidationError

from steppe.errors import UsageError
from steppe.grid.verify.delivery import Delivery, Direction, Row, delivery_of
from steppe.grid.verify.error import BaselineError, error_of
from steppe.grid.verify.like_days import PPM, LikeDayBaseline, placebo_pairs
from steppe.grid.verify.load import Load
from steppe.grid.verify.rebound import Rebound, rebound_of
from steppe.grid.verify.regulation import RegulationScore
from steppe.grid.verify.settlement import EnergyTerms, Settlement, Terms, WholeTerms, settle
from steppe.grid.verify.stated import Baseline, sha256_of
from steppe.grid.verify.times import EventTimes
from steppe.grid.verify.tracking import Following
from steppe.ledger.receipt import ENERGY_SOURCES, canonical, read_entry
from steppe.ledger.receipts_of import ascii_name

VERSION = 1
KIND = "grid_event"
"""What a log calls this kind of entry."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the grid asked for.

    Attributes:
        id: Id of the event.
        program: Its programme.
        kind: Its kind, such as `limit`.
        source: Where it came from.
        site: The site that it was for.
        issued_s: When it was issued, s since the Unix epoch.
    """

    id: str
    program: str
    kind: str
    source: str
    site: str
    issued_s: int


@dataclass(frozen=True, slots=True)
class Metered:
    """What the site drew, and what that is.

    Attributes:
        load: Draw by interval, from before the event to after it.
        energy_source: Where the energy is from, as in a receipt.
        boundary: What it encloses: `gpu`, `node` or `site`.
        utc_offset_s: Offset of local time from UTC, s; times of the page are in it.
    """

    load: Load
    energy_source: str
    boundary: str
    utc_offset_s: int = 0

    def __post_init__(self) -> None:
        if self.energy_source not in ENERGY_SOURCES:
            known = ", ".join(ENERGY_SOURCES)
            raise UsageError(
                f"event report: asked for an energy source of {known}, "
                f"found {self.energy_source!r:.60}"
            )


@dataclass(frozen=True, slots=True)
class Point:
    """One interval before or after the event.

    Attributes:
        start_s: Its begin, s since the Unix epoch.
        baseline_w: What would have been drawn, W.
        load_w: What was drawn, W; None without a reading.
    """

    start_s: int
    baseline_w: int
    load_w: int | None = None


@dataclass(frozen=True, slots=True)
class Method:
    """How the baseline was made.

    Attributes:
        name: What the field calls it.
        sha256: Hash of the inputs that were frozen.
        days: The days that made it, such as `2026-06-25`.
        factor_ppm: The factor of the day, 10^-6.
    """

    name: str
    sha256: str
    days: tuple[str, ...] = ()
    factor_ppm: int = PPM


@dataclass(frozen=True, slots=True)
class Sums:
    """What the whole event delivered.

    Attributes:
        baseline_j: Energy of the baseline, J.
        committed_j: Energy that was promised, J.
        delivered_j: Energy that was delivered, J.
        counted_j: The same, in each interval at most what was promised, J.
        deficiency_j: Energy that was missing, J.
        unmetered: Intervals without a reading.
        ratio_ppm: Delivered of promised, at most all, 10^-6; None if nothing was promised.
        over_ppm: Delivered beyond the promise, of it, 10^-6; None likewise.
    """

    baseline_j: int
    committed_j: int
    delivered_j: int
    counted_j: int
    deficiency_j: int
    unmetered: int
    ratio_ppm: int | None = None
    over_ppm: int | None = None


@dataclass(frozen=True, slots=True)
class Regulation:
    """PJM's score in integers, 10^-6.

    Attributes:
        windows: How many windows were scored.
        score_ppm: Mean of the three parts.
        correlation_ppm: Whether the response has the shape of the signal.
        delay_ppm: Whether it comes at once.
        precision_ppm: Whether it is equal to it.
    """

    windows: int
    score_ppm: int
    correlation_ppm: int
    delay_ppm: int
    precision_ppm: int


@dataclass(frozen=True, slots=True)
class EventReport:
    """All that an event changed.

    Attributes:
        asked: What the grid asked for.
        times: When.
        direction: Whether less or more was asked for.
        interval_s: Length of an interval, s.
        utc_offset_s: Offset of local time from UTC, s.
        energy_source: Where the energy is from, as in a receipt.
        boundary: What it encloses.
        load_sha256: Hash of the load that was metered.
        baseline: How the baseline was made.
        sums: What was delivered in all.
        rows: The intervals of the event.
        before: The intervals before it.
        after: The intervals after it.
        rebound: What came back after it.
        error: The error of the baseline on days without an event; None if that is unknown.
        terms: What is paid and owed for it; None if nothing is.
        settlement: What it earned; None without terms.
        following: How the draw followed the target by the second; None if that was not measured.
        regulation: Its score as regulation; None for other events.
    """

    asked: Asked
    times: EventTimes
    direction: Direction
    interval_s: int
    utc_offset_s: int
    energy_source: str
    boundary: str
    load_sha256: str
    baseline: Method
    sums: Sums
    rows: tuple[Row, ...]
    before: tuple[Point, ...]
    after: tuple[Point, ...]
    rebound: Rebound
    error: BaselineError | None = None
    terms: EnergyTerms | WholeTerms | None = None
    settlement: Settlement | None = None
    following: Following | None = None
    regulation: Regulation | None = None

    @property
    def bias_j(self) -> int | None:
        """What the bias of the baseline makes of the delivered energy, J; None if unknown.

        It is above 0 where too much is claimed.
        """
        if self.error is None:
            return None
        too_high_j = self.sums.baseline_j * self.error.bias_ppm // PPM
        return too_high_j if self.direction is Direction.LESS else -too_high_j

    @property
    def entry(self) -> bytes:
        """Its bytes as an entry of a log; what is unknown has no key."""
        return canonical({"kind": KIND, "v": VERSION, **_plain(asdict(self))})

    @classmethod
    def read(cls, entry: bytes) -> EventReport:
        """Return the report of an entry.

        Raises:
            UsageError: It is none, or a field is missing, unknown or of another type.
        """
        values = orjson.dumps(read_entry(entry, KIND, VERSION))
        try:
            report = TypeAdapter(cls).validate_json(values, strict=True)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise UsageError(f"event report: {where}: {first['msg']}") from error
        if report.entry != entry:
            raise UsageError("event report: asked for its known fields, found others")
        return report


def report_of(
    asked: Asked,
    times: EventTimes,
    direction: Direction,
    *,
    baseline: Baseline,
    metered: Metered,
    committed: Sequence[int],
    terms: Terms | None = None,
    placebo: Sequence[tuple[Sequence[int], Sequence[int]]] = (),
    following: Following | None = None,
    regulation: RegulationScore | None = None,
) -> EventReport:
    """Return the report of an event.

    Args:
        asked: What the grid asked for.
        times: When; the baseline has to reach from `before_s` before it to `after_s` after it.
        direction: Whether less or more was asked for.
        baseline: What would have been drawn.
        metered: What was drawn.
        committed: What was promised for each interval of the event, W.
        terms: What is paid; None if nothing is.
        placebo: Baseline and draw on days without an event, W. A baseline from like days finds its
            own.
        following: How the draw followed the target.
        regulation: The score as regulation.

    Raises:
        UsageError: The baseline is not defined there, or there is no promise for an interval.
    """
    load, start_s, end_s = metered.load, times.start_s, times.end_s
    watts, drawn = baseline.watts(start_s, end_s), load.between(start_s, end_s)
    size = load.interval_s
    delivery = delivery_of(
        direction, start_s, size, baseline=watts, load=drawn, committed=committed
    )
    after = _points(baseline, load, end_s, end_s + times.after_s)
    own = placebo_pairs(baseline) if isinstance(baseline, LikeDayBaseline) else placebo
    return EventReport(
        asked=_in_ascii(asked),
        times=times,
        direction=direction,
        interval_s=size,
        utc_offset_s=metered.utc_offset_s,
        energy_source=metered.energy_source,
        boundary=metered.boundary,
        load_sha256=load.sha256,
        baseline=method_of(baseline),
        sums=sums_of(delivery),
        rows=delivery.rows,
        before=_points(baseline, load, start_s - times.before_s, start_s),
        after=after,
        rebound=rebound_of(
            direction, size, [p.baseline_w for p in after], [p.load_w for p in after]
        ),
        error=error_of(own),
        terms=terms,
        settlement=settle(delivery, terms) if terms else None,
        following=following,
        regulation=_regulation(regulation) if regulation else None,
    )


def _in_ascii(asked: Asked) -> Asked:
    return Asked(
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
    if not isinstance(baseline, LikeDayBaseline):
        return Method(baseline.name, sha256_of(baseline))
    chosen = baseline.chosen
    days = tuple(day.isoformat() for day in chosen.days)
    return Method(baseline.name, sha256_of(baseline), days, chosen.factor_ppm)


def sums_of(delivery: Delivery) -> Sums:
    """Return what a whole delivery is."""
    return Sums(
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


def _plain(value: Any) -> Any:
    """Return values for `canonical`: no null, and plain text instead of enumerations."""
    match value:
        case dict():
            return {name: _plain(inner) for name, inner in value.items() if inner is not None}
        case list() | tuple():
            return [_plain(inner) for inner in value]
        case StrEnum():
            return str(value)
        case _:
            return value
