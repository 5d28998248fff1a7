"""Whether a report holds: it is made again from its rows and from the inputs that were kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from datetime import date
from hashlib import sha256
from typing import Any, TypeVar

import orjson
from pydantic import TypeAdapter, ValidationError

from steppe.errors import UsageError
from steppe.grid.verify.delivery import Row, delivery_of
from steppe.grid.verify.error import error_of
from steppe.grid.verify.like_days import LikeDayBaseline, LikeDays
from steppe.grid.verify.load import NO_READING, Load
from steppe.grid.verify.making import method_of, placebo_of, rebound_after, sums_of
from steppe.grid.verify.meter_before import MeterBefore
from steppe.grid.verify.report import EventReport, Point
from steppe.grid.verify.settlement import settle
from steppe.grid.verify.stated import ControlGroup, DeclaredBaseline, FirmLevel
from steppe.grid.verify.times import Calendar, EventTimes, Span
from steppe.ledger.receipt import read_entry

T = TypeVar("T")
Kept = LikeDayBaseline | MeterBefore | DeclaredBaseline | FirmLevel | ControlGroup
"""What the kept inputs of a baseline hold."""


def kept_of(inputs: bytes) -> Kept:
    """Return what the kept inputs of a baseline hold.

    Args:
        inputs: The bytes that `entry` of the baseline gave.

    Raises:
        UsageError: They are none.
    """
    values = read_entry(inputs, "baseline", 1)
    try:
        kept = _kept(values)
    except (KeyError, TypeError, ValueError) as error:
        what = type(error).__name__
        raise UsageError(
            f"baseline: asked for the fields of its method, found {what}: {error!s:.60}"
        ) from error
    if kept.entry != inputs:
        raise UsageError("baseline: asked for its known fields, found others")
    return kept


def faults_of(report: EventReport, inputs: bytes) -> tuple[str, ...]:
    """Return what does not hold in a report, one line each; nothing if all of it does.

    The draw of a control group is not part of its inputs, so its baseline is not made again.

    Args:
        report: The report.
        inputs: The kept inputs of its baseline.

    Raises:
        UsageError: The inputs are none of a baseline.
    """
    return (*_faults_of_baseline(report, inputs), *_faults_of_figures(report))


def _faults_of_baseline(report: EventReport, inputs: bytes) -> Iterator[str]:
    found = sha256(inputs).hexdigest()
    if found != report.baseline.sha256:
        yield f"inputs of the baseline: asked for {report.baseline.sha256}, found {found}"
    kept = kept_of(inputs)
    if isinstance(kept, ControlGroup):
        return
    if (
        isinstance(kept, LikeDayBaseline | MeterBefore | DeclaredBaseline)
        and kept.times != report.times
    ):
        yield "inputs of the baseline: asked for those of this event, found others"
        return
    times = report.times
    both: tuple[Point | Row, ...] = (*report.before, *report.rows, *report.after)
    again = kept.watts(times.start_s - times.before_s, times.end_s + times.after_s)
    if len(again) != len(both):
        yield f"intervals: asked for {len(again)}, found {len(both)}"
    for point, watts in zip(both, again, strict=False):
        if point.baseline_w != watts:
            place = f"interval {point.start_s}"
            yield f"{place}: asked for a baseline of {watts} W, found {point.baseline_w} W"
    if method_of(kept) != report.baseline:
        yield f"baseline: asked for {method_of(kept)}, found {report.baseline}"
    if isinstance(kept, LikeDayBaseline | MeterBefore):
        error = error_of(placebo_of(kept))
        if error != report.error:
            yield f"placebo days: asked for {error}, found {report.error}"


def _faults_of_figures(report: EventReport) -> Iterator[str]:
    rows = report.rows
    delivery = delivery_of(
        report.direction,
        report.times.start_s,
        report.interval_s,
        baseline=[row.baseline_w for row in rows],
        load=[row.load_w for row in rows],
        committed=[row.committed_w for row in rows],
    )
    length_s = len(rows) * report.interval_s
    if length_s != report.times.end_s - report.times.start_s:
        yield f"event: asked for the rows of {report.times}, found {len(rows)}"
    for made, row in zip(delivery.rows, rows, strict=True):
        if made != row:
            yield f"interval {row.start_s}: asked for {made}, found {row}"
    rebound = rebound_after(report.direction, report.interval_s, report.after)
    settlement = settle(delivery, report.terms) if report.terms else None
    pairs = (
        ("sums", sums_of(delivery), report.sums),
        ("rebound", rebound, report.rebound),
        ("settlement", settlement, report.settlement),
    )
    for name, asked, found in pairs:
        if asked != found:
            yield f"{name}: asked for {asked}, found {found}"


def _kept(values: dict[str, Any]) -> Kept:
    match values["method"]:
        case "declared":
            return DeclaredBaseline(
                _load(values["load"]), values["declared_s"], _exactly(EventTimes, values["times"])
            )
        case "meter before":
            return MeterBefore(
                values["in_place_of"],
                _exactly(EventTimes, values["times"]),
                values["window_s"],
                tuple(_exactly(Span, span) for span in values["events"]),
                _load(values["load"]),
                values["stated_w"],
            )
        case "firm level":
            return FirmLevel(values["subscribed_w"], values["firm_w"], values["interval_s"])
        case "control group":
            groups = tuple(values["dispatched"]), tuple(values["alone"])
            return ControlGroup(*groups, values["others_w"])
        case _:
            return LikeDayBaseline(
                _method(values["method"]),
                _exactly(EventTimes, values["times"]),
                _calendar(values["calendar"]),
                tuple(_exactly(Span, span) for span in values["events"]),
                _load(values["load"]),
            )


def _method(values: dict[str, Any]) -> LikeDays:
    adjustment = values["adjustment"]
    return _exactly(LikeDays, values | {"adjustment": None if adjustment == "none" else adjustment})


def _calendar(values: dict[str, Any]) -> Calendar:
    holidays, worked = (
        frozenset(date.fromisoformat(day) for day in values[name])
        for name in ("holidays", "worked")
    )
    return Calendar(values["utc_offset_s"], holidays, worked)


def _load(values: dict[str, Any]) -> Load:
    watts = [None if each == NO_READING else each for each in values["watts"]]
    return _exactly(Load, values | {"watts": watts})


def _exactly(kind: type[T], values: Any) -> T:
    """Return a value with exactly its fields."""
    names = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    if not isinstance(values, dict):
        raise TypeError(f"{values!r:.60}")
    if values.keys() != names:
        raise KeyError(", ".join(sorted(values.keys() ^ names)))
    try:
        return TypeAdapter(kind).validate_json(orjson.dumps(values), strict=True)
    except ValidationError as error:
        raise ValueError(error.errors()[0]["msg"]) from error
