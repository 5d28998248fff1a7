from __future__ import annotations

import importlib.util
import sys
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FULL_W, DURATION_S = 40_000.0, 3600.0
NAMES = (
    "windy_day",
    "cloudy_solar_day",
    "phoenix_event",
    "forty_steps",
    "grid_emergency",
    "signal_lost",
    "replica_failures",
    "ample",
    "ample_and_spare",
)


@pytest.fixture(scope="module")
def scenarios() -> ModuleType:
    path = Path(__file__).parents[2] / "bench" / "scenarios.py"
    spec = importlib.util.spec_from_file_location("scenarios_under_test", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", NAMES)
def test_every_happening_has_rising_times_and_watts_that_a_fleet_could_draw(
    scenarios: ModuleType, name: str
) -> None:
    found: Any = getattr(scenarios, name)(FULL_W, DURATION_S)
    times_s = found.budget.times_s
    assert times_s[0] == 0.0
    assert all(a < b for a, b in pairwise(times_s))
    assert times_s[-1] == pytest.approx(DURATION_S / 2 if name == "signal_lost" else DURATION_S)
    assert all(0.1 * FULL_W <= w <= 1.5 * FULL_W for w in found.budget.watts)
    assert found == getattr(scenarios, name)(FULL_W, DURATION_S)


def test_every_happening_is_in_the_list(scenarios: ModuleType) -> None:
    assert tuple(make.__name__ for make in scenarios.HAPPENINGS) == NAMES


def test_the_event_falls_by_a_quarter_and_holds(scenarios: ModuleType) -> None:
    budget = scenarios.phoenix_event(FULL_W, DURATION_S).budget
    before_w, held_w, after_w = (budget.at(share * DURATION_S) for share in (0.1, 0.5, 0.95))
    assert held_w == pytest.approx(0.75 * before_w)
    assert after_w == before_w


def test_the_forty_steps_fall_by_thirty_percent_and_come_back(scenarios: ModuleType) -> None:
    budget = scenarios.forty_steps(FULL_W, DURATION_S).budget
    levels_w = [budget.at((step + 0.5) * DURATION_S / 41) for step in range(41)]
    ratios = [b / a for a, b in pairwise(levels_w)]
    assert len(ratios) == 40
    assert ratios[::2] == pytest.approx([0.7] * 20)
    assert ratios[1::2] == pytest.approx([1 / 0.7] * 20)


def test_days_move_and_the_firm_share_stays(scenarios: ModuleType) -> None:
    for make in (scenarios.windy_day, scenarios.cloudy_solar_day):
        watts = make(FULL_W, DURATION_S).budget.watts
        assert min(watts) >= scenarios.FIRM_SHARE * FULL_W
        assert max(watts) >= 1.5 * min(watts)


def test_replicas_die_ten_times_within_the_run_all_over_the_fleet(scenarios: ModuleType) -> None:
    deaths = scenarios.replica_failures(FULL_W, DURATION_S).deaths
    assert len(deaths) == 10
    assert all(0 < death.at_s < DURATION_S for death in deaths)
    assert [int(10 * death.share) for death in deaths] == list(range(10))
