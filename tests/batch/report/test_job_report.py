from __future__ import annotations

from pathlib import Path

import pytest
from tests.batch.report.jobs import MADE_S, FakeRecords, about, job, points, row

from steppe.batch.job import JobState
from steppe.batch.report.job_report import report_of
from steppe.batch.row import make_row
from steppe.batch.store.job_store import JobStore
from steppe.errors import UsageError


def test_joules_tokens_and_rows_are_summed_and_the_wasted_stay_apart() -> None:
    rows = [
        row(0, 500.0, 510.0, 30.0),
        row(1, 500.0, 520.0, 50.0, attempts=2, wasted_j=15.0),
        row(2, 500.0, 501.0, 0.0, status=400, output_tokens=0, energy_source="", boundary=""),
    ]
    report = report_of(FakeRecords(job(), rows), "batch_1", [], MADE_S + 2000.0)
    assert (report.sums.energy_j, report.sums.wasted_j, report.sums.retried) == (80.0, 15.0, 1)
    assert report.output_tokens_per_joule == about(40 / 80)
    assert report.joules_per_row == about(40.0)
    assert report.wasted_share == about(15 / 95)
    assert report.top_reasons == (("HTTP 400", 1),)
    assert (report.sums.energy_source, report.sums.boundary) == ("emulated", "gpu")


def test_hours_waited_are_those_in_which_no_row_ran() -> None:
    rows = [row(0, 200.0, 300.0, 1.0), row(1, 250.0, 350.0, 1.0), row(2, 800.0, 900.0, 1.0)]
    times = report_of(FakeRecords(job(), rows), "batch_1", [], MADE_S + 2000.0).times
    assert (times.lasted_s, times.busy_s) == (1000.0, about(250.0))
    assert times.waited_s == about(750.0)
    assert times.begun_epoch_s == MADE_S + 200.0


def test_a_job_that_runs_lasts_until_now() -> None:
    running = job(state=JobState.IN_PROGRESS, entered={})
    times = report_of(FakeRecords(running, []), "batch_1", [], MADE_S + 60.0).times
    assert (times.lasted_s, times.waited_s, times.begun_epoch_s) == (60.0, 60.0, None)


def test_results_taken_over_from_an_older_job_count_but_did_not_run_in_this_one() -> None:
    rows = [row(0, -500.0, -400.0, 70.0), row(1, 100.0, 200.0, 30.0)]
    report = report_of(FakeRecords(job(), rows), "batch_1", [], MADE_S + 2000.0)
    assert (report.sums.energy_j, report.times.busy_s) == (100.0, about(100.0))
    assert report.at_once is not None
    assert report.at_once.energy_j == about(30.0)


def test_the_shares_say_what_the_supply_covered() -> None:
    # 100 W of the job beside 300 W of others, on 350 W: 350/400 of all, half of the job's own.
    rows = [row(0, 500.0, 700.0, 20_000.0)]
    timeline = points(supply_w={-1.0: 350.0}, draw_w=400.0)
    shares = report_of(FakeRecords(job(), rows), "batch_1", timeline, MADE_S + 2000.0).shares
    assert shares is not None
    assert (shares.renewable, shares.surplus, shares.known) == (
        about(0.875),
        about(0.5),
        about(1.0),
    )


def test_bought_power_is_neither_renewable_nor_surplus() -> None:
    rows = [row(0, 500.0, 700.0, 20_000.0)]
    timeline = points(supply_w={-1.0: 450.0}, draw_w=400.0, firm_w=100.0)
    shares = report_of(FakeRecords(job(), rows), "batch_1", timeline, MADE_S + 2000.0).shares
    assert shares is not None
    assert (shares.renewable, shares.surplus) == (about(0.875), about(0.5))


def test_running_at_once_is_compared_with_what_the_supply_left_then() -> None:
    # Without the job 400 W are drawn: for 500 s nothing is left, later 600 W.
    rows = [row(0, 600.0, 800.0, 20_000.0)]
    timeline = points(supply_w={-1.0: 300.0, 500.0: 1000.0}, draw_w=400.0)
    report = report_of(FakeRecords(job(), rows), "batch_1", timeline, MADE_S + 2000.0)
    would, shares = report.at_once, report.shares
    assert would is not None
    assert shares is not None
    assert (would.draw_w, would.runs_s) == (about(100.0), about(200.0))
    assert (would.surplus, would.uncovered_j) == (about(0.0), about(20_000.0))
    assert would.ends_epoch_s == about(MADE_S + 200.0)
    assert shares.surplus == about(1.0)


def test_without_a_timeline_the_shares_are_unknown() -> None:
    rows = [row(0, 600.0, 800.0, 20_000.0)]
    report = report_of(FakeRecords(job(), rows), "batch_1", [], MADE_S + 2000.0)
    assert report.shares is None
    assert report.at_once is not None
    assert (report.at_once.surplus, report.at_once.uncovered_j) == (None, None)


def test_without_joules_nothing_is_made_up() -> None:
    rows = [row(0, 600.0, 800.0, 0.0, energy_source="", boundary="")]
    report = report_of(FakeRecords(job(), rows), "batch_1", [], MADE_S + 2000.0)
    assert report.output_tokens_per_joule is None
    assert (report.joules_per_row, report.wasted_share, report.at_once) == (None, None, None)


def test_a_job_that_is_not_there_is_one_clear_line() -> None:
    with pytest.raises(UsageError, match="asked for the report of job other, found no such job"):
        report_of(FakeRecords(job(), []), "other", [], MADE_S)


def test_a_report_comes_from_the_store(tmp_path: Path) -> None:
    store = JobStore(str(tmp_path / "jobs.sqlite"))
    store.add_job(job(state=JobState.IN_PROGRESS, entered={}))
    rows = [make_row(number, f"row-{number}", "/v1/x", {"model": "m"}) for number in range(2)]
    store.add_rows("batch_1", rows)
    store.claim("batch_1", 2, "a")
    store.finish("batch_1", [row(0, 1.0, 2.0, 30.0)])
    report = report_of(store, "batch_1", [], MADE_S + 60.0)
    store.close()
    assert (report.counts.total, report.counts.completed, report.sums.energy_j) == (2, 1, 30.0)
