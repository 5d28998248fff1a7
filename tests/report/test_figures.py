from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.fixtures.made_run import MadeRun, make_run

from steppe.power.battery import Charge
from steppe.report.figures import run_figure
from steppe.report.records import BatchTick
from steppe.report.series import MOST_POINTS, series_of
from steppe.report.summary import summarise

PNG = b"\x89PNG\r\n\x1a\n"


def drawn(run: MadeRun, path: Path) -> bytes:
    summary = summarise(run.ticks, run.requests, run.totals, run.slo)
    run_figure(run.ticks, summary, path)
    return path.read_bytes()


def test_a_fleet_too_large_for_single_lines_is_drawn(tmp_path: Path) -> None:
    image = drawn(make_run(60, 12), tmp_path / "figure.png")
    assert image.startswith(PNG)
    assert len(image) > 10_000


def test_a_large_fleet_that_is_always_asleep_is_drawn(tmp_path: Path) -> None:
    run = make_run(60, 12)
    ticks = [
        replace(tick, replicas=tuple(replace(r, state="asleep") for r in tick.replicas))
        for tick in run.ticks
    ]
    image = drawn(replace(run, ticks=tuple(ticks)), tmp_path / "figure.png")
    assert image.startswith(PNG)


def test_a_run_without_ticks_is_drawn(tmp_path: Path, made_run: MadeRun) -> None:
    summary = summarise([], [], made_run.totals, made_run.slo)
    run_figure([], summary, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(PNG)


def test_thinning_keeps_the_mean_and_the_worst_excess() -> None:
    ticks = make_run(4 * MOST_POINTS, 2).ticks
    series = series_of(ticks)
    worst_w = max(tick.draw_w - tick.budget_w for tick in ticks)
    assert series.ticks_per_point == 4
    assert len(series.draw_w) == MOST_POINTS
    assert series.draw_w.mean() == pytest.approx(np.mean([tick.draw_w for tick in ticks]))
    assert series.over_w.max() == pytest.approx(worst_w)


def test_a_figure_shows_what_a_battery_gave_and_took(tmp_path: Path, made_run: MadeRun) -> None:
    ticks = [
        replace(tick, battery=Charge(0.5, 20.0 if tick.t_s < 100 else -20.0))
        for tick in made_run.ticks
    ]
    series = series_of(ticks)
    assert (series.battery_w[0], series.battery_w[-1]) == (20.0, -20.0)
    without = drawn(made_run, tmp_path / "without.png")
    assert drawn(replace(made_run, ticks=tuple(ticks)), tmp_path / "with.png") != without


def test_a_figure_shades_where_the_supply_was_stale(tmp_path: Path, made_run: MadeRun) -> None:
    ticks = tuple(replace(tick, stale=tick.t_s > 100) for tick in made_run.ticks)
    series = series_of(ticks)
    assert (series.stale[0], series.stale[-1]) == (0.0, 1.0)
    without = drawn(made_run, tmp_path / "without.png")
    assert drawn(replace(made_run, ticks=ticks), tmp_path / "with.png") != without


def test_a_replica_asleep_has_no_clock(made_run: MadeRun) -> None:
    series = series_of(made_run.ticks)
    asleep = [tick.replicas[1].state == "asleep" for tick in made_run.ticks]
    assert np.isnan(series.clocks_mhz["replica-1"]).tolist() == asleep


def test_tokens_per_joule_of_a_steady_run_is_its_ratio(made_run: MadeRun) -> None:
    steady = [made_run.ticks[0]]
    series = series_of(steady)
    assert series.tokens_per_joule[0] == pytest.approx(steady[0].output_tokens / steady[0].energy_j)


def test_matplotlib_is_loaded_only_to_draw() -> None:
    code = "import sys, steppe.report.record_folder; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_part_of_the_draw_that_batch_work_is_stands_in_the_figure(
    tmp_path: Path, made_run: MadeRun
) -> None:
    batch = BatchTick(jobs=1, rows=9, tokens=900.0, running=3, draw_w=20.0, surplus_w=50.0)
    ticks = tuple(replace(tick, batch=batch) for tick in made_run.ticks)
    assert series_of(ticks).batch_w.tolist() == [20.0] * len(ticks)
    plain = drawn(made_run, tmp_path / "plain.png")
    assert drawn(replace(made_run, ticks=ticks), tmp_path / "batch.png") != plain
