"""Reports that are made again from their rows and the inputs that were kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date
from typing import Any

import orjson
import pytest
from tests.grid.verify.made_report import FROZEN, LOAD, START_S, TIMES, made_report

from steppe.errors import UsageError
from steppe.grid.verify.audit import Kept, faults_of, kept_of
from steppe.grid.verify.like_days import HIGH_4_OF_5, freeze
from steppe.grid.verify.load import Load
from steppe.grid.verify.report import EventReport
from steppe.grid.verify.stated import ControlGroup, DeclaredBaseline, FirmLevel
from steppe.grid.verify.times import Calendar, Span
from steppe.ledger.receipt import canonical

SAID = Load(START_S - 3600, 900, (1_000_000,) * 24)
DECLARED = DeclaredBaseline(SAID, TIMES.foreseeable_s - 60, TIMES)
FIRM = FirmLevel(1_100_000, 700_000, 900)
GROUPS = ControlGroup(("a", "b"), ("c",), 7)
HIGH = freeze(
    HIGH_4_OF_5,
    TIMES,
    LOAD,
    Calendar(28_800, frozenset({date(2026, 6, 25)}), frozenset({date(2026, 6, 21)})),
    [Span(START_S - 86_400, START_S - 80_000)],
)


@pytest.mark.parametrize(
    "kept", [FROZEN, HIGH, DECLARED, FIRM, GROUPS], ids=lambda k: type(k).__name__
)
def test_the_inputs_of_a_baseline_are_read_back_as_they_were_kept(kept: Kept) -> None:
    assert kept_of(kept.entry) == kept


@pytest.mark.parametrize("baseline", [FROZEN, HIGH, DECLARED, FIRM], ids=lambda k: k.name)
def test_a_report_that_holds_has_no_faults(
    baseline: Any,
) -> None:
    report = made_report(baseline=baseline)
    assert faults_of(EventReport.read(report.entry), baseline.entry) == ()


def test_a_report_by_a_control_group_is_checked_but_for_its_baseline() -> None:
    measured = GROUPS.measured(replace(SAID, watts=(300_000,) * 24))
    report = made_report(baseline=measured)
    assert faults_of(report, GROUPS.entry) == ()
    wrong = replace(report, sums=replace(report.sums, delivered_j=1))
    assert len(faults_of(wrong, GROUPS.entry)) == 1


def row_changed(report: EventReport, **changes: int) -> EventReport:
    first, *others = report.rows
    return replace(report, rows=(replace(first, **changes), *others))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda r: row_changed(r, baseline_w=r.rows[0].baseline_w + 1), "asked for a baseline of"),
        (lambda r: row_changed(r, delivered_w=0), f"interval {START_S}: asked for Row"),
        (lambda r: replace(r, sums=replace(r.sums, counted_j=5)), "sums: asked for"),
        (lambda r: replace(r, rebound=replace(r.rebound, peak_ppm=0)), "rebound: asked for"),
        (lambda r: replace(r, error=replace(r.error, bias_ppm=0)), "placebo days: asked for"),
        (lambda r: replace(r, settlement=None), "settlement: asked for"),
        (lambda r: replace(r, rows=r.rows[:-1]), "event: asked for the rows of"),
        (lambda r: replace(r, after=r.after[:-1]), "intervals: asked for 24, found 23"),
        (
            lambda r: replace(r, baseline=replace(r.baseline, factor_ppm=5)),
            "baseline: asked for Method",
        ),
        (
            lambda r: replace(r, baseline=replace(r.baseline, sha256="00")),
            "inputs of the baseline: asked for 00, found",
        ),
        (
            lambda r: replace(r, times=replace(r.times, foreseeable_s=1)),
            "asked for those of this event",
        ),
    ],
)
def test_each_change_of_a_report_is_a_fault(
    change: Callable[[EventReport], EventReport], said: str
) -> None:
    faults = faults_of(change(made_report()), FROZEN.entry)
    assert any(said in fault for fault in faults)


def test_inputs_that_were_changed_afterwards_are_a_fault() -> None:
    raised = freeze(
        FROZEN.method,
        TIMES,
        replace(LOAD, watts=tuple(None if w is None else w + 9 for w in LOAD.watts)),
        FROZEN.calendar,
    )
    faults = faults_of(made_report(), raised.entry)
    assert faults[0].startswith("inputs of the baseline: asked for")
    assert len(faults) > 20


@pytest.mark.parametrize(
    "change",
    [
        {"method": "none"},
        {"load": {"start_s": 0}},
        {"times": "x"},
        {"events": 5},
        {"calendar": {"utc_offset_s": 0, "holidays": ["x"], "worked": []}},
        {"more": 1},
        {"kind": "receipt"},
    ],
)
def test_inputs_that_are_none_of_a_baseline_are_refused(change: dict[str, object]) -> None:
    values = orjson.loads(HIGH.entry) | change
    with pytest.raises(UsageError):
        kept_of(canonical(values))
