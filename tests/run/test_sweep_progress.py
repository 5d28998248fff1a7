"""A sweep says how far it has come, and how long it still takes."""

from __future__ import annotations

import io
from dataclasses import replace

from rich.console import Console
from rich.progress import Progress
from tests.fixtures.virtual_replica import VirtualReplica

from steppe.measure.sweep.grid import SweepGrid
from steppe.measure.sweep.point import MeasurePlan, PointStage, measure_point
from steppe.measure.sweep.sweep import run_sweep
from steppe.run.sweep_progress import LINE_S, SweepProgress

PLAN = MeasurePlan(windows=2, window_s=20.0, warm_up_s=2.0, longest_settle_s=3.0)
GRID = SweepGrid((1000, 1800), (4, 8), ((144, 26),), apart=False)


def test_a_point_reports_its_stages_and_the_share_of_its_time_that_has_passed() -> None:
    replica, stages = VirtualReplica(), list[PointStage]()
    setting = GRID.settings[0]
    measure_point(replica.rig, setting, PLAN, replica.timing, stages.append)
    assert [stage.text for stage in stages] == [
        "warming up",
        "waiting for the temperature to settle",
        "window 1 of 2",
        "window 2 of 2",
    ]
    assert [round(stage.share * 45) for stage in stages] == [0, 2, 5, 25]


def test_without_a_terminal_there_is_a_line_for_each_point_and_for_each_half_minute() -> None:
    replica, text = VirtualReplica(), io.StringIO()
    console = Console(file=text, width=200)
    bar = Progress(console=console, disable=True)
    progress = SweepProgress(console, len(GRID.settings), bar, lambda: replica.now_s)
    run_sweep(
        [replica.rig],
        GRID.settings,
        replace(PLAN, window_s=LINE_S + 1),
        progress.on_point,
        replica.timing,
        on_stage=progress.on_stage,
    )
    lines = text.getvalue().splitlines()
    assert len([line for line in lines if "J/token" in line]) == 4
    assert lines[0].startswith("mixed c1800 b8 p144 o26: window 2 of 2 (0/4, ")
    assert lines[1].startswith("mixed c1800 b8 p144 o26: ")
    assert "(1/4, " in lines[1]
    assert lines[-1].endswith("(4/4, 0 s left)")
