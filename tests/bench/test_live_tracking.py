from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from steppe.config import ControlSection
from steppe.frontier.pareto import Frontier
from steppe.load.traces import read_trace
from steppe.power.budget import budget_from_config
from steppe.report.records import TickRecord
from steppe.roofline.point import OperatingPoint

POINTS = (OperatingPoint(990, 16, 40.0, 290.0), OperatingPoint(1980, 16, 80.0, 630.0))
FRONTIER = Frontier.of(POINTS, asleep_w=95.0, idle_w=97.0, source="emulated")
DURATION_S = 60.0


def tick(t_s: float, budget_w: float, draw_w: float) -> TickRecord:
    return TickRecord(t_s, budget_w, draw_w, budget_w, 9.0, 9.0, draw_w, 9, 3, 1, ())


def played(stage: ModuleType, completed: int) -> Any:
    answer = {"completed": completed, "retries": 0, "p99_send_lag_ms": 4.0}
    ticks = tuple(tick(float(t_s), 100.0, 98.0) for t_s in range(1, 11))
    return stage.Played(ticks, 10, answer, {"busy_share": 0.5})


def test_every_happening_becomes_a_supply_file_with_its_budget(bench: Any, tmp_path: Path) -> None:
    stage, scenarios = bench("live_stage"), bench("scenarios")
    full_w = stage.full_draw_w(FRONTIER)
    stage.write_supply(tmp_path, scenarios.ample(full_w, DURATION_S))
    config = stage.config_of(tmp_path, FRONTIER, DURATION_S)
    for make in scenarios.HAPPENINGS:
        happening = make(full_w, DURATION_S)
        stage.write_supply(tmp_path, happening)
        budget = budget_from_config(config.power, config.site)
        assert budget.at(0.0).gpu_budget_w == pytest.approx(happening.budget.watts[0], abs=0.1)
        for share in (0.1, 0.3, 0.45):
            at_s = share * DURATION_S
            found_w = budget.at(stage.LEAD_S + at_s).gpu_budget_w
            assert found_w == pytest.approx(happening.budget.at(at_s), rel=1e-3)
        is_lost = budget.at(stage.LEAD_S + DURATION_S).stale
        assert is_lost == (make is scenarios.signal_lost)


def test_the_load_begins_with_a_burst_that_fills_the_fleet(bench: Any, tmp_path: Path) -> None:
    stage = bench("live_stage")
    stage.write_load(tmp_path, FRONTIER, 1.0, DURATION_S)
    arrivals = read_trace(tmp_path / "load.jsonl")
    assert sum(arrival.at_s == 0 for arrival in arrivals) == stage.BURST > 8 * 8
    assert 0.9 * DURATION_S < arrivals[-1].at_s - stage.LEAD_S < DURATION_S


def test_the_targets_are_those_of_the_worst_happening(bench: Any) -> None:
    tracking, stage = bench("live_tracking"), bench("live_stage")
    rows = [tracking.row_of(f"day {lost}", played(stage, 10 - lost)) for lost in (0, 2)]
    assert rows[0]["relative_mae"] == pytest.approx(0.02)
    assert [row["lost"] for row in rows] == [0, 2]
    found = {target["name"]: target for target in tracking.targets(rows)}
    assert found["worst relative_mae"]["met"]
    assert found["most over budget beyond the meter's delay"]["met"]
    assert (found["requests lost"]["value"], found["requests lost"]["met"]) == (2, False)
    asked = Namespace(folder=Path("runs/live"), duration=60.0, utilisation=1.0, happening=None)
    control = ControlSection(margin_share=0.014)
    document = tracking.document_of(rows, FRONTIER, control, asked)
    assert (document["duration_s"], document["utilisation"]) == (60.0, 1.0)
    assert document["arguments"] == {"duration": 60.0, "utilisation": 1.0, "happening": None}
    assert document["energy_source"] == "emulated"
    assert ControlSection.model_validate(document["control"]) == control
    assert document["results"] == rows


def test_a_window_may_draw_the_old_budget_for_the_meters_delay_and_no_longer(bench: Any) -> None:
    tracking = bench("live_tracking")
    before, within, over = tick(1.0, 200.0, 200.0), tick(2.0, 100.0, 110.0), tick(2.0, 100.0, 113.0)
    assert tracking.over_allowance_j([before, within]) == pytest.approx(0.0, abs=1e-9)
    assert tracking.over_allowance_j([before, over]) == pytest.approx(3.0)
    assert tracking.over_allowance_j([within, before]) == 0.0


def test_over_draw_is_reported_as_in_a_simulation_and_beyond_the_meters_delay(bench: Any) -> None:
    tracking, stage = bench("live_tracking"), bench("live_stage")
    ticks = (tick(1.0, 200.0, 200.0), tick(2.0, 200.0, 190.0), tick(3.0, 100.0, 110.0))
    answer = {"completed": 1, "retries": 0, "p99_send_lag_ms": 4.0}
    found = tracking.row_of("cut", stage.Played(ticks, 1, answer, {}))
    assert found["over_budget_share"] == pytest.approx(0.9 * 10 / 500)
    assert found["over_allowance_share"] == pytest.approx(0.0, abs=1e-12)
    assert found["held_s"] == 1.0


def test_a_tick_is_late_by_what_it_passes_the_next_period_by_however_short_its_window(
    bench: Any,
) -> None:
    late_s = bench("live_tracking").tick_late_s
    full, short = tick(9.0, 100.0, 98.0), tick(9.8, 100.0, 98.0)
    assert late_s(full, short) == 0.0
    for before in (full, short):
        assert late_s(before, tick(10.5, 100.0, 98.0)) == pytest.approx(0.5)


@pytest.mark.parametrize("begin_s", [9.0, 9.8])
def test_a_late_tick_after_a_cut_hides_no_energy_above_the_budget(
    bench: Any, begin_s: float
) -> None:
    begin, after = tick(begin_s, 200.0, 200.0), tick(11.0, 100.0, 100.0)
    over_j = [
        bench("live_tracking").over_allowance_j([begin, tick(at_s, 200.0, 200.0), after])
        for at_s in (10.0, 10.1, 10.5)
    ]
    assert over_j == pytest.approx([0.0, 0.0, 40.0], abs=1e-9)
