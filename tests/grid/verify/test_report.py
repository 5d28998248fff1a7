"""The report of an event."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256

import orjson
import pytest
from tests.grid.verify.made_report import (
    FROZEN,
    LOAD,
    START_S,
    TIMES,
    made_report,
    named,
)

from steppe.errors import UsageError
from steppe.grid.verify.delivery import Direction
from steppe.grid.verify.like_days import Adjustment
from steppe.grid.verify.load import Load
from steppe.grid.verify.report import EventReport, Metered
from steppe.grid.verify.settlement import WholeTerms
from steppe.grid.verify.stated import DeclaredBaseline, FirmLevel, sha256_of
from steppe.ledger.log.tiles import MOST_BYTES
from steppe.ledger.receipt import canonical, read_entry
from steppe.ledger.service_entry import GRID_EVENT, ServiceEntry


def test_a_report_is_read_back_as_it_was_written() -> None:
    report = made_report()
    assert EventReport.read(report.entry) == report
    bare = made_report(terms=None, following=None, regulation=None)
    assert EventReport.read(bare.entry) == bare


def test_its_bytes_are_sorted_integers_and_text_only() -> None:
    report = made_report()
    values = orjson.loads(report.entry)
    assert canonical(values) == report.entry
    assert values["kind"] == "event_report"
    assert b"null" not in report.entry


def test_its_figures_are_those_of_its_rows() -> None:
    report = made_report()
    drawn = LOAD.between(TIMES.start_s, TIMES.end_s)
    baseline = FROZEN.watts(TIMES.start_s, TIMES.end_s)
    assert [row.load_w for row in report.rows] == list(drawn)
    assert report.sums.baseline_j == 900 * sum(baseline)
    assert report.sums.delivered_j == 900 * sum(
        max(0, b - w) for b, w in zip(baseline, drawn, strict=True) if w is not None
    )
    assert report.sums.unmetered == 1
    assert report.settlement is not None
    assert report.settlement.net_nano == (
        report.settlement.price_nano - report.settlement.penalty_nano
    )
    assert len(report.before) == 4
    assert len(report.after) == 8
    assert report.rebound.peak_ppm > 0


def test_it_names_the_days_and_the_hash_of_its_baseline() -> None:
    report = made_report()
    assert report.baseline.sha256 == sha256_of(FROZEN)
    assert len(report.baseline.days) == 10
    assert report.baseline.factor_ppm == FROZEN.chosen.factor_ppm
    method = replace(FROZEN.method, adjustment=Adjustment(highest_ppm=1_100_000))
    other = made_report(baseline=replace(FROZEN, method=method))
    assert other.baseline.sha256 != report.baseline.sha256


def test_the_error_of_the_baseline_stands_beside_it() -> None:
    report = made_report()
    assert report.error is not None
    assert report.error.days >= 20
    assert 0 < report.error.cvrmse_ppm < 40_000
    assert report.bias_j == report.sums.baseline_j * report.error.bias_ppm // 10**6


def test_a_bias_claims_the_other_way_where_more_was_asked_for() -> None:
    less, more = made_report(), made_report(direction=Direction.MORE)
    assert less.bias_j is not None
    assert more.bias_j == -less.bias_j


def test_a_firm_level_has_no_error_and_is_paid_as_a_whole() -> None:
    firm = FirmLevel(1_100_000, 700_000, 900)
    report = made_report(
        baseline=firm, committed=[firm.committed_w] * 12, terms=WholeTerms("CNY", 10, 4)
    )
    assert report.error is None
    assert report.bias_j is None
    assert report.settlement is not None
    assert report.settlement.net_nano == -4
    assert EventReport.read(report.entry) == report


def test_a_declared_baseline_may_bring_its_placebo_days() -> None:
    said = Load(START_S, 900, (1_000_000,) * 12)
    times = replace(TIMES, before_s=0, after_s=0)
    report = made_report(
        times=times,
        baseline=DeclaredBaseline(said, TIMES.foreseeable_s - 1, times),
        placebo=[((110,), (100,))],
    )
    assert report.error is not None
    assert report.error.bias_ppm == 100_000
    assert report.after == ()
    assert report.rebound.span_s == 0


def test_names_that_are_not_ascii_are_written_with_escapes() -> None:
    report = made_report(asked=named(site="呼和浩特"))
    assert report.asked.site == "\\u547c\\u548c\\u6d69\\u7279"
    assert EventReport.read(report.entry) == report


@pytest.mark.parametrize(
    "change",
    [
        {"interval_s": "900"},
        {"direction": "up"},
        {"rows": [{"start_s": 1}]},
        {"more": 1},
        {"v": 2},
    ],
)
def test_an_entry_that_is_no_report_is_refused(change: dict[str, object]) -> None:
    values = orjson.loads(made_report().entry) | change
    with pytest.raises(UsageError):
        EventReport.read(canonical(values))


def test_a_field_that_is_missing_is_named() -> None:
    values = orjson.loads(made_report().entry)
    del values["sums"]["delivered_j"]
    with pytest.raises(UsageError, match=r"event report: sums\.delivered_j"):
        EventReport.read(canonical(values))


def test_an_unknown_source_of_energy_is_refused() -> None:
    with pytest.raises(UsageError, match="asked for an energy source of counter"):
        Metered(LOAD, "measured", "site")


def test_the_log_has_all_but_the_intervals_and_the_hash_of_the_whole() -> None:
    report = made_report()
    values = read_entry(report.log_entry, GRID_EVENT, 1)
    assert values["report_sha256"] == sha256(report.entry).hexdigest()
    assert values["rows_count"] == len(report.rows)
    assert values["sums"]["delivered_j"] == report.sums.delivered_j
    assert not {"rows", "before", "after"} & values.keys()
    assert values["energy_source"] == "emulated"


def test_a_day_by_the_second_is_small_enough_for_a_log() -> None:
    report = made_report()
    long = replace(report, rows=report.rows * 7200)
    assert len(long.entry) > MOST_BYTES
    ServiceEntry(GRID_EVENT, "e-17", 0, long.log_entry)
