"""The report of one event: all that it changed, in integers, in its own bytes and for a log."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from hashlib import sha256
from typing import Any

import orjson
from pydantic import TypeAdapter, ValidationError

from steppe.errors import UsageError
from steppe.grid.verify.delivery import Direction, Row
from steppe.grid.verify.error import BaselineError
from steppe.grid.verify.like_days import PPM
from steppe.grid.verify.load import Load
from steppe.grid.verify.rebound import Rebound
from steppe.grid.verify.settlement import EnergyTerms, EventSettlement, WholeTerms
from steppe.grid.verify.times import EventTimes
from steppe.grid.verify.tracking import Following
from steppe.ledger.receipt import ENERGY_SOURCES, canonical, read_entry
from steppe.ledger.service_entry import GRID_EVENT

VERSION = 1
KIND = "event_report"
"""What its file calls it. In the log it is `GRID_EVENT`, without its intervals."""


@dataclass(frozen=True, slots=True)
class ReportedEvent:
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
        in_place_of: The method that was asked for, and why it could not be used; empty if it is
            this one.
    """

    name: str
    sha256: str
    days: tuple[str, ...] = ()
    factor_ppm: int = PPM
    in_place_of: str = ""


@dataclass(frozen=True, slots=True)
class EventSums:
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
        beside: Other events that asked for something at the same time, `LINK/ID`: what was
            delivered was delivered to all of them.
        computed_s: For how long of the event the draw was computed, not read at the meter of the
            site, s; None without such a meter.
        baseline_computed_s: The same of all readings that are inputs of the baseline and of its
            placebo days; None likewise, and where no reading is.
    """

    asked: ReportedEvent
    times: EventTimes
    direction: Direction
    interval_s: int
    utc_offset_s: int
    energy_source: str
    boundary: str
    load_sha256: str
    baseline: Method
    sums: EventSums
    rows: tuple[Row, ...]
    before: tuple[Point, ...]
    after: tuple[Point, ...]
    rebound: Rebound
    error: BaselineError | None = None
    terms: EnergyTerms | WholeTerms | None = None
    settlement: EventSettlement | None = None
    following: Following | None = None
    regulation: Regulation | None = None
    beside: tuple[str, ...] = ()
    computed_s: int | None = None
    baseline_computed_s: int | None = None

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
        """Its bytes; what is unknown has no key."""
        return canonical({"kind": KIND, "v": VERSION, **_plain(asdict(self))})

    @property
    def log_entry(self) -> bytes:
        """Its bytes as an entry of a log: all but the intervals, and the hash of the whole.

        The intervals of a long event are more than an entry of a log may have.
        """
        values = _plain(asdict(self))
        for name in ("rows", "before", "after"):
            values[f"{name}_count"] = len(values.pop(name))
        values["report_sha256"] = sha256(self.entry).hexdigest()
        return canonical({"kind": GRID_EVENT, "v": VERSION, **values})

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
