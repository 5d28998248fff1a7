"""A run goes on with the record of an earlier one."""

from __future__ import annotations

import pickle
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from tests.fixtures.made_run import MadeRun

from steppe.errors import UsageError
from steppe.report.ledger_totals import LedgerTotals
from steppe.report.record_folder import RECORD_FILE, SUMMARY_FILE, Recorder, read_run
from steppe.report.summary import Summary
from steppe.run.output_folders import refuse_record


def record(folder: Path, made_run: MadeRun, *, resume: bool = False) -> Summary:
    with Recorder(folder, resume=resume) as recorder:
        for tick in made_run.ticks:
            recorder.tick(tick)
        for request in made_run.requests:
            recorder.request(request)
        return recorder.finish(made_run.totals, made_run.slo)


def test_a_resumed_record_has_the_lines_and_the_totals_of_both_runs(
    tmp_path: Path, made_run: MadeRun
) -> None:
    first = record(tmp_path, made_run)
    refuse_record(tmp_path, resume=True)
    both = record(tmp_path, made_run, resume=True)
    run = read_run(tmp_path)
    assert run.summary == both
    times_s = [tick.t_s for tick in run.ticks]
    assert len(times_s) == 2 * len(made_run.ticks) + 1  # and the gap
    assert times_s == sorted(times_s)
    assert len(run.requests) == 2 * len(made_run.requests)
    assert run.requests[-1].arrival_s > made_run.ticks[-1].t_s
    assert both["energy_j"] == 2 * first["energy_j"]
    assert both["output_tokens"] == 2 * first["output_tokens"]
    assert both["requests"]["completed"] == 2 * first["requests"]["completed"]
    assert both["output_tokens_per_joule"] == pytest.approx(first["output_tokens_per_joule"])
    assert both["duration_s"] > 2 * first["duration_s"]
    assert both["tracking"]["relative_mae"] == pytest.approx(first["tracking"]["relative_mae"])


def test_another_process_goes_on_from_where_a_record_was_known_to_be(
    tmp_path: Path, made_run: MadeRun
) -> None:
    whole = record(tmp_path / "whole", made_run)
    first = Recorder(tmp_path / "cut")
    half = len(made_run.ticks) // 2
    for tick in made_run.ticks[:half]:
        first.tick(tick)
    for request in made_run.requests[:-1]:
        first.request(request)
    known = pickle.loads(pickle.dumps(first.position))
    first.tick(made_run.ticks[half])  # it is killed before it has written down where it is
    first.request(made_run.requests[-1])
    first.close()
    with Recorder.go_on(tmp_path / "cut", known) as second:
        for tick in made_run.ticks[half:]:
            second.tick(tick)
        second.request(made_run.requests[-1])
        summary = second.finish(made_run.totals, made_run.slo)
    assert summary == whole
    assert read_run(tmp_path / "cut") == read_run(tmp_path / "whole")


def test_a_record_has_what_each_of_its_runs_has_booked_for_a_ledger_also_a_killed_one(
    tmp_path: Path, made_run: MadeRun
) -> None:
    assert record(tmp_path / "without", made_run)["ledger"] == []
    folder = tmp_path / "with"
    booked = LedgerTotals("ledger", "hohhot", "run-1", 3, 2, 20, 50, 20, 5, 5)
    killed = Recorder(folder)
    for tick in made_run.ticks:
        killed.tick(tick)
    killed.checkpoint(replace(made_run.totals, ledger=(booked,)), made_run.slo)
    killed.close()
    refuse_record(folder, resume=True)
    second = replace(booked, run="run-2", has_ended=True)
    both = record(
        folder, replace(made_run, totals=replace(made_run.totals, ledger=(second,))), resume=True
    )
    assert both["ledger"] == [asdict(booked), asdict(second)]
    assert read_run(folder).summary == both


def test_a_line_that_was_cut_is_replaced_by_the_next_run(tmp_path: Path, made_run: MadeRun) -> None:
    record(tmp_path, made_run)
    with (tmp_path / RECORD_FILE).open("ab") as file:
        file.write(b'{"t_s":99.0,"bud')
    record(tmp_path, made_run, resume=True)
    assert len(read_run(tmp_path).ticks) == 2 * len(made_run.ticks) + 1


def test_a_run_that_was_killed_is_closed_before_the_next_one_goes_on(
    tmp_path: Path, made_run: MadeRun
) -> None:
    killed = Recorder(tmp_path)
    for tick in made_run.ticks:
        killed.tick(tick)
    killed.checkpoint(made_run.totals, made_run.slo)
    killed.close()
    refuse_record(tmp_path, resume=True)
    assert (tmp_path / SUMMARY_FILE).is_file()
    both = record(tmp_path, made_run, resume=True)
    assert both["energy_j"] > made_run.totals.energy_j
    assert both["broke_off"].startswith("the process of the run was killed with ")


def test_a_record_whose_runs_were_killed_one_after_the_other_says_so_of_each(
    tmp_path: Path, made_run: MadeRun
) -> None:
    for _ in range(2):
        refuse_record(tmp_path, resume=True)
        killed = Recorder(tmp_path, resume=True)
        killed.tick(replace(made_run.ticks[0], running=2, waiting=1))
        killed.checkpoint(made_run.totals, made_run.slo)
        killed.close()
    refuse_record(tmp_path, resume=True)
    summary = record(tmp_path, made_run, resume=True)
    lost = "the process of the run was killed with 3 requests under way"
    assert summary["broke_off"] == f"{lost}; {lost}"


def test_a_folder_that_is_recorded_in_now_is_refused(tmp_path: Path, made_run: MadeRun) -> None:
    with Recorder(tmp_path) as recorder:
        recorder.tick(made_run.ticks[0])
        recorder.checkpoint(made_run.totals, made_run.slo)
        with pytest.raises(UsageError, match="still recording"):
            refuse_record(tmp_path, resume=True)


def test_a_full_folder_is_refused_unless_it_has_a_run_to_go_on_with(
    tmp_path: Path, made_run: MadeRun
) -> None:
    refuse_record(tmp_path, resume=True)  # an empty one is a new one
    (tmp_path / "notes").touch()
    for resume in (False, True):
        with pytest.raises(UsageError, match="asked for a new or empty folder"):
            refuse_record(tmp_path, resume=resume)
    (tmp_path / "notes").unlink()
    record(tmp_path, made_run)
    with pytest.raises(UsageError, match="asked for a new or empty folder"):
        refuse_record(tmp_path, resume=False)
