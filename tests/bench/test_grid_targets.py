"""How the answers to a grid are judged, and that the synthetic signal is what it says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from steppe.report.records import GridTick, TickRecord

Bench = Callable[[str], ModuleType]
DATA = Path(__file__).parents[3] / "shared" / "data" / "calibration" / "emerald_phoenix"
NOTHING = TickRecord(
    t_s=0.0,
    budget_w=700.0,
    budget_source="drill/target-0-0",
    draw_w=0.0,
    supply_w=2000.0,
    demand_tps=1.0,
    output_tps=1.0,
    energy_j=0.0,
    output_tokens=1,
    waiting=1,
    running=1,
    replicas=(),
)


def window(t_s: float, site_w: float) -> TickRecord:
    """Return a window of an event that asks for 700 of 1000 W."""
    grid = GridTick(event="drill/target-0-0", target_w=700.0, baseline_w=1000.0)
    return replace(NOTHING, t_s=t_s, site_w=site_w, grid=grid)


def judged(bench: Bench, *draws_w: float) -> dict[str, Any]:
    targets = bench("grid_targets")
    event = targets.event_at(10.0, "target-0-0", 0.7, 0.0, 30.0)
    ticks = tuple(window(11.0 + at, watts) for at, watts in enumerate(draws_w))
    found: dict[str, Any] = targets.judge(bench("grid_fleet").Run(ticks, {}), event)
    return found


def test_a_target_is_met_from_the_first_window_in_the_band(bench: Bench) -> None:
    row = judged(bench, 980.0, 710.0, 690.0, 700.0)
    assert (row["met"], row["in_band_s"]) == (True, pytest.approx(2.0))
    assert row["most_over_after"] == pytest.approx(10 / 700)


def test_one_second_far_above_the_target_is_a_target_that_is_missed(bench: Bench) -> None:
    row = judged(bench, 980.0, 710.0, 740.0, 700.0)
    assert (row["met"], row["in_band_s"]) == (False, pytest.approx(2.0))


def test_a_draw_that_never_gets_into_the_band_misses_the_target(bench: Bench) -> None:
    assert not judged(bench, 980.0, 900.0)["met"]


def test_targets_follow_each_other_and_are_of_the_stated_depth(bench: Bench) -> None:
    targets = bench("grid_targets")
    events, end_s = targets.random_targets(20, seed=1)
    assert all(0.6 <= event.target_w(1.0) <= 0.9 for event in events)
    assert all(a.ends_s < b.starts_s for a, b in pairwise(events))
    assert end_s > events[-1].ends_s - targets.BEGAN_S


def test_the_synthetic_signal_uses_its_band_and_has_no_energy_over_15_minutes(
    bench: Bench,
) -> None:
    targets = bench("grid_targets")
    signal = targets.synthetic_signal(1, 4 * 3600.0)
    assert np.abs(signal).max() == 1.0
    quarters = signal.reshape(-1, round(targets.NEUTRAL_S / targets.SIGNAL_S))
    assert np.abs(quarters.mean(axis=1)).max() < 0.25
    assert abs(signal.mean()) < 0.03


def test_emeralds_public_data_give_the_over_delivery_that_is_stated(bench: Bench) -> None:
    if not DATA.is_dir():
        pytest.skip(f"no public data in {DATA}")
    targets = bench("grid_targets")
    found = targets.emerald_over(DATA)["over_delivery"]
    assert found == pytest.approx(targets.EMERALD_OVER, abs=0.002)
