from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.fixtures.made_run import make_run

import fault_fleet
import fault_table
import faults
from steppe.config import load_config
from steppe.report.record_folder import Recorder


def row(**changes: Any) -> dict[str, Any]:
    made: dict[str, Any] = {
        "case": "raylet SIGKILL",
        "fleet_of": ["raylet SIGKILL"],
        "obeyed_after_s": 2.5,
        "ended_by_itself": 1,
        "whole_after_s": None,
        "streams": {"completed": 9},
        "left": {"processes": [], "files": [], "locked_gpus": []},
        "books": {"summary": True, "parts_over_whole": 1.0},
    }
    return made | changes


def met(rows: list[dict[str, Any]]) -> list[bool]:
    return [target["met"] for target in fault_table.document(rows)["targets"]]


def test_a_run_that_obeys_ends_clean_and_closes_its_books_meets_every_target() -> None:
    assert met([row()]) == [True] * 6
    assert met([row(engine="vllm")]) == [True] * 6


@pytest.mark.parametrize(
    ("changes", "missed"),
    [
        ({"obeyed_after_s": 6.0}, [0, 1]),
        ({"left": {"processes": ["ray::Node"], "files": [], "locked_gpus": []}}, [2]),
        ({"books": {"summary": False}}, [3]),
        ({"streams": {"stuck": 2}}, [4]),
        ({"streams": {"cut": 1}, "ended_by_itself": None}, [5]),
        ({"streams": {"failed with an error event": 1}, "ended_by_itself": None}, [5]),
    ],
)
def test_what_goes_wrong_in_one_case_misses_its_target(
    changes: dict[str, Any], missed: list[int]
) -> None:
    found = met([row(), row(case="GCS SIGKILL", **changes)])
    assert [number for number, is_met in enumerate(found) if not is_met] == missed


def test_streams_that_went_on_are_counted_across_a_restart_of_the_gateway() -> None:
    assert faults._since(2.0, 5.0) == 3
    assert faults._since(7.0, 4.0) == 4
    assert faults._since(7.0, None) == 0
    assert fault_table.lost_of(row(case="gateway SIGKILL", ended_by_itself=None)) == 0


def test_the_budget_is_obeyed_once_the_draw_is_within_it_for_good() -> None:
    witness = object.__new__(fault_fleet.Witness)
    witness.samples = [(0.0, 90.0), (1.0, 90.0), (2.0, 40.0), (3.0, 60.0), (4.0, 40.0)]
    assert witness.over_for_s(1.0, 45.0) == 2.0
    assert witness.over_for_s(4.0, 45.0) == 0.0


def test_the_books_of_a_record_sum_to_the_whole(tmp_path: Path) -> None:
    assert fault_table.books_of(tmp_path) == {"summary": False}
    made = make_run()
    with Recorder(tmp_path / "run") as recorder:
        for request in made.requests:
            recorder.request(request)
        summary = recorder.finish(made.totals, made.slo)
    books = fault_table.books_of(tmp_path / "run")
    parts_j = sum(request.energy_j or 0.0 for request in made.requests)
    parts_j += summary["idle_energy_j"] + summary["transition_energy_j"]
    assert books["parts_over_whole"] == pytest.approx(parts_j / summary["energy_j"])
    assert json.dumps(books)


def test_the_longest_time_without_an_answer_counts_from_the_fault_to_the_end() -> None:
    clients = fault_fleet.Clients("")
    ended = {"completed": (0.5, 2.0, 3.0), "cut": (5.0,)}
    clients.streams = [
        fault_fleet.Stream(0.0, end, 1, at_s) for end, times in ended.items() for at_s in times
    ]
    assert clients.longest_gap_s(1.0, 4.5) == 1.5
    assert clients.longest_gap_s(1.0, 9.0) == 6.0
    assert clients.longest_gap_s(6.0, 9.0) == 3.0


def test_only_vllm_has_an_engine_to_kill() -> None:
    chosen = faults.chosen_cases(["engine SIGKILL", "GCS SIGKILL"], "vllm")
    assert [case.name for case in chosen] == ["engine SIGKILL", "GCS SIGKILL"]
    assert faults.chosen_cases(None, "vllm") == [*faults.ENGINE_CASES, *faults.CASES]
    with pytest.raises(ValueError, match=r"no process of its own: .'engine SIGKILL'."):
        faults.chosen_cases(["engine SIGKILL"], "synthetic")


def test_a_standby_and_a_gcs_that_comes_back_are_tried_on_fleets_of_their_own() -> None:
    cases = {case.name: case for case in faults.CASES}
    standby, gcs = cases["driver SIGKILL with a standby"], cases["GCS SIGKILL with restart_gcs"]
    assert not standby.shares_fleet_with(gcs)
    assert not gcs.shares_fleet_with(cases["GCS SIGKILL"])
    assert gcs.shares_fleet_with(cases["GCS SIGSTOP with restart_gcs"])


@pytest.mark.parametrize("engine", [fault_fleet.SYNTHETIC, fault_fleet.vllm_engine(Path("m"))])
def test_the_config_of_each_engine_is_valid(tmp_path: Path, engine: fault_fleet.Engine) -> None:
    path = fault_fleet.make_config(tmp_path, 8000, **engine.sections, **faults.GOES_ON)
    config = load_config(path)
    assert config.engine.kind == engine.kind
    assert config.ray.restart_gcs


def test_every_part_of_a_run_is_killed_and_stopped() -> None:
    names = {case.name for case in faults.CASES}
    for part in ("replica", "controller", "gateway", "node actor", "raylet", "GCS"):
        assert {f"{part} SIGKILL", f"{part} SIGSTOP"} <= names
    assert {"driver SIGKILL", "driver SIGSTOP for 8 s", "disk full", "budget to zero"} <= names
    assert {"signal garbage", "signal stale", "signal deleted"} <= names
