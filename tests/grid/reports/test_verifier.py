"""Events over days: what their baselines are made from, and what is kept of them."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.fixtures.grid_run import DAY_S, HOUR_S, START_S, GridRun, asked, held_w, one_event

from steppe.errors import UsageError
from steppe.grid.events.event import Share, Watts
from steppe.grid.reports.checking import checked_event
from steppe.grid.reports.event_folder import EventFolder
from steppe.grid.reports.record import ReportState
from steppe.grid.reports.terms import declared_load
from steppe.grid.verify.audit import faults_of
from steppe.grid.verify.report import EventReport


def days_of(run: GridRun, days: int) -> None:
    """Let days pass by the hour, up to 10 min before 14:00."""
    run.draw(run.now_s + days * DAY_S, lambda _: 1000.0, HOUR_S)
    run.history.tidy(run.now_s)


def report_in(folder: EventFolder) -> EventReport:
    report = folder.report()
    assert report is not None
    return report


@pytest.fixture(scope="module")
def many_days(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The record of a run of nine days without an event, up to two hours before 14:00."""
    folder = tmp_path_factory.mktemp("many-days")
    run = GridRun(folder, START_S - 9 * DAY_S - 2 * HOUR_S)
    days_of(run, 9)
    return folder


@pytest.fixture
def long_run(many_days: Path, tmp_path: Path) -> GridRun:
    """A run with nine days of draw before the event."""
    shutil.copytree(many_days, tmp_path, dirs_exist_ok=True)
    run = GridRun(tmp_path, START_S - 2 * HOUR_S, baseline="high 4-of-5")
    run.draw(START_S - 600, lambda _: 1000.0)
    return run


def test_the_baseline_is_from_days_that_were_kept_in_files(long_run: GridRun) -> None:
    event = asked()
    long_run.note(event)
    long_run.draw(START_S + 5 * HOUR_S, held_w(event, 1100.0, 690.0))
    (folder,) = long_run.made()
    report = report_in(folder)
    assert (report.baseline.name, report.baseline.in_place_of) == ("high 4-of-5", "")
    assert len(report.baseline.days) == 4
    assert report.sums.delivered_j == 310 * 2 * HOUR_S
    assert report.error is not None
    assert (report.error.bias_ppm, report.energy_source) == (0, "emulated")
    inputs = folder.baseline()
    assert inputs is not None
    assert faults_of(report, inputs) == ()


def test_days_with_an_event_make_no_later_baseline(long_run: GridRun) -> None:
    for day in range(0, 6):
        event = asked(f"e{day}", START_S + day * DAY_S - 60)
        is_asked = day in (0, 4, 5)  # Friday, Tuesday, Wednesday
        if is_asked:
            long_run.note(event)
        held = held_w(event, 1000.0, 690.0 if is_asked else 1000.0)
        long_run.draw(START_S + day * DAY_S + 23 * HOUR_S, held)
    reports = [report_in(folder) for folder in long_run.made()]
    assert [report.asked.id for report in reports] == ["e0", "e4", "e5"]
    assert reports[1].baseline.days[:2] == ("2026-06-29", "2026-06-25")
    assert reports[2].baseline.days[:2] == ("2026-06-29", "2026-06-25")


def test_the_inputs_are_on_disk_when_the_event_is_noted(long_run: GridRun) -> None:
    long_run.note(asked())
    ((name, record),) = long_run.verifier.records.items()
    before = long_run.verifier.folder_of(name).baseline()
    assert before is not None
    assert record.times is not None
    assert record.times.foreseeable_s == START_S - 600
    long_run.draw(START_S + 5 * HOUR_S, lambda _: 3000.0)
    long_run.open()
    long_run.made()
    assert long_run.verifier.folder_of(name).baseline() == before


def test_what_was_emulated_is_no_history_for_what_is_measured(long_run: GridRun) -> None:
    run = GridRun(long_run.folder, START_S - HOUR_S, source="counter")
    run.draw(START_S - 600, lambda _: 500.0)
    event = asked()
    run.note(event)
    run.draw(START_S + 5 * HOUR_S, held_w(event, 500.0, 350.0))
    (folder,) = run.made()
    report = report_in(folder)
    assert report.baseline.name == "meter before"
    assert "found 0" in report.baseline.in_place_of
    assert report.energy_source == "counter"


def test_a_firm_level_is_owed_whatever_the_event_asks(tmp_path: Path) -> None:
    run = one_event(
        tmp_path,
        baseline="firm level",
        firm_level={"subscribed_w": 1200, "firm_w": 700},
        programs={"peak": {"currency": "CNY", "price_nano": 10, "penalty_nano": 4}},
    )
    ((name, _),) = run.verifier.records.items()
    report = report_in(run.verifier.folder_of(name))
    assert {row.committed_w for row in report.rows} == {500}
    assert report.settlement is not None
    assert report.settlement.net_nano == 10


def test_a_declared_baseline_is_read_from_its_file(tmp_path: Path) -> None:
    declared = tmp_path / "declared.csv"
    declared.write_text(f"start_s,watts\n{START_S - DAY_S},950\n{START_S + DAY_S},950\n")
    os.utime(declared, (START_S - DAY_S, START_S - DAY_S))
    run = one_event(tmp_path, baseline="declared", declared=str(declared))
    ((name, _),) = run.verifier.records.items()
    report = report_in(run.verifier.folder_of(name))
    assert report.baseline.name == "declared"
    assert {row.baseline_w for row in report.rows} == {950}


def test_a_declaration_that_came_after_the_notice_does_not_count(tmp_path: Path) -> None:
    declared = tmp_path / "declared.csv"
    declared.write_text(f"start_s,watts\n{START_S - DAY_S},5000\n{START_S + DAY_S},5000\n")
    run = one_event(tmp_path, baseline="declared", declared=str(declared))
    ((name, _),) = run.verifier.records.items()
    made = report_in(run.verifier.folder_of(name)).baseline
    assert made.name == "meter before"
    assert "asked for one from before the event could be foreseen" in made.in_place_of


@pytest.mark.parametrize(
    ("changes", "interval_s"),
    [({}, 300), ({"hold_until_s": START_S + 300.0}, 60), ({"hold_until_s": START_S + 25.0}, 10)],
)
def test_a_short_event_is_settled_in_shorter_intervals(
    tmp_path: Path, changes: dict[str, Any], interval_s: int
) -> None:
    run = GridRun(tmp_path, START_S - 3 * HOUR_S)
    run.draw(START_S - 600, lambda _: 1000.0, 10.0)
    run.note(asked(**changes))
    (record,) = run.verifier.records.values()
    assert record.interval_s == interval_s
    assert record.state is ReportState.WAITS


def test_an_event_without_a_hold_is_noted_and_not_measured(tmp_path: Path) -> None:
    run = GridRun(tmp_path, START_S - HOUR_S)
    run.note(asked(hold_until_s=START_S + 3.0))
    (record,) = run.verifier.records.values()
    assert record.state is ReportState.NOTHING
    assert "asked for a limit that is held for an interval of 10 s" in record.note


def test_a_price_is_noted_and_not_measured(tmp_path: Path) -> None:
    run = GridRun(tmp_path, START_S - HOUR_S)
    run.note(asked(kind="price", target=None))
    (record,) = run.verifier.records.values()
    assert (record.state, record.note) == (ReportState.NOTHING, "it sets no limit")


def test_a_version_that_is_seen_again_changes_nothing(long_run: GridRun) -> None:
    event = asked()
    long_run.note(event)
    (folder,) = [long_run.verifier.folder_of(name) for name in long_run.verifier.records]
    before = {path.name: path.stat().st_mtime_ns for path in folder.path.iterdir()}
    long_run.note(event)
    long_run.open()
    long_run.note(event)
    assert {path.name: path.stat().st_mtime_ns for path in folder.path.iterdir()} == before


def test_a_report_is_not_made_again(tmp_path: Path) -> None:
    run = one_event(tmp_path)
    assert (run.made(), run.log()) == ([], 0)
    run.note(asked())
    run.draw(run.now_s + DAY_S, lambda _: 1.0)
    assert (run.made(), len(run.verifier.records)) == ([], 1)


def test_a_crash_after_the_report_was_written_keeps_its_bytes(tmp_path: Path) -> None:
    run = one_event(tmp_path)
    ((name, record),) = run.verifier.records.items()
    folder = run.verifier.folder_of(name)
    before = (folder.path / "report.json").read_bytes()
    folder.keep(replace(record, state=ReportState.WAITS))  # as if the record had not been written
    run.open()
    run.draw(run.now_s + HOUR_S, lambda _: 1.0)
    assert len(run.made()) == 1
    assert (folder.path / "report.json").read_bytes() == before
    assert run.log() == 0


def test_an_event_that_cannot_be_read_hinders_no_other(tmp_path: Path) -> None:
    run = one_event(tmp_path)
    other = tmp_path / "grid" / "events" / "20260101T000000Z-x-0"
    other.mkdir()
    (other / "event.json").write_text("{")
    run.open()
    assert len(run.verifier.records) == 1


def test_inputs_that_were_lost_are_noted_and_hinder_no_other(tmp_path: Path) -> None:
    run = GridRun(tmp_path, START_S - 3 * HOUR_S)
    run.draw(START_S - 600, lambda _: 1000.0)
    run.note(asked("e1"), asked("e2", target=Watts(100.0)))
    first, second = run.verifier.records
    (run.verifier.folder_of(first).path / "baseline.json").unlink()
    run.draw(START_S + 5 * HOUR_S, lambda _: 700.0)
    assert [folder.name for folder in run.made()] == [second]
    assert "asked for the inputs of a baseline" in run.verifier.records[first].note


def test_a_report_holds_until_something_of_it_is_changed(tmp_path: Path) -> None:
    run = one_event(tmp_path)
    ((name, record),) = run.verifier.records.items()
    folder = run.verifier.folder_of(name)
    logged = [report_in(folder).log_entry]
    assert checked_event(folder, logged).faults == ()
    assert checked_event(folder, []).faults == (
        "log: asked for its entry, found none with these bytes",
    )
    folder.page.write_text("another page")
    folder.keep(replace(record, event=replace(record.event, target=Share(0.5))))
    faults = checked_event(folder, logged).faults
    assert [fault.partition(":")[0] for fault in faults] == ["promised", "report.html"]


def test_an_unknown_currency_is_refused() -> None:
    with pytest.raises(ValueError, match="asked for a currency and one of price_nano_per_kwh"):
        GridRun(Path("unused"), 0.0, programs={"peak": {"price_nano": 1}})


def test_a_declared_file_has_rising_times(tmp_path: Path) -> None:

    path = tmp_path / "declared.csv"
    path.write_text("start_s,watts\n600,1\n0,2\n")
    with pytest.raises(UsageError, match="asked for lines by rising start_s"):
        declared_load(path, 300)
    path.write_text("start_s,watts\n0,x\n")
    with pytest.raises(UsageError, match="line 2: asked for start_s and watts"):
        declared_load(path, 300)
