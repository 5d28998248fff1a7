"""Weather that is drawn by chance: the same for the same seed, and as windy as it should be."""

from __future__ import annotations

import statistics
from datetime import datetime
from typing import Any

import pytest
from pydantic import TypeAdapter

from steppe.config import PowerSection, SiteSection, SupplySection
from steppe.power.budget import PowerBudget, budget_from_config
from steppe.power.solar import clear_sky_trace
from steppe.power.synthetic_weather import hourly_clearness, synthetic_wind_trace

HOUR_S = 3600.0


def budget_of(*supplies: dict[str, Any], start: str = "2026-06-21T00:00:00Z") -> PowerBudget:
    sections = TypeAdapter(tuple[SupplySection, ...]).validate_python(supplies)
    power = PowerSection(supply=sections, start=datetime.fromisoformat(start))
    return budget_from_config(power, SiteSection())


def test_a_seed_gives_the_same_wind_and_another_seed_another_one() -> None:
    first, again, other = (synthetic_wind_trace(1e3, 7.0, 12.0, seed) for seed in (1, 1, 2))
    assert first == again
    assert statistics.correlation(first.watts, other.watts) == pytest.approx(0.0, abs=0.15)


def test_more_wind_gives_more_power_within_the_rating() -> None:
    means_w = [
        statistics.mean(synthetic_wind_trace(1e3, mean_mps, 12.0, 1).watts)
        for mean_mps in (5.0, 7.0, 9.0)
    ]
    assert means_w == sorted(means_w)
    assert 200.0 < means_w[1] < 450.0
    assert max(synthetic_wind_trace(1e3, 9.0, 12.0, 1).watts) <= 1e3


def test_the_wind_of_the_next_hour_is_like_that_of_this_one() -> None:
    watts = synthetic_wind_trace(1e3, 7.0, 12.0, 3).watts
    assert statistics.correlation(watts[:-1], watts[1:]) > 0.8
    assert abs(statistics.correlation(watts[:-240], watts[240:])) < 0.15


def test_clouds_take_a_part_of_a_clear_sky() -> None:
    clearness = hourly_clearness(5)
    assert len(clearness) == 8760
    assert 0.25 <= min(clearness) < 0.3
    assert 0.95 < max(clearness) <= 1.0


def test_the_sun_is_highest_at_the_noon_of_its_longitude() -> None:
    trace = clear_sky_trace(30.0, 120.0, 1e3)
    day = 172 * 24
    watts = [trace.at((day + hour) * HOUR_S) for hour in range(24)]
    assert watts.index(max(watts)) == 4, "120 degrees east is eight hours before UTC"
    assert watts[16] == 0.0
    assert 500.0 < max(watts) < 1e3


def test_a_supply_in_the_configuration_starts_at_its_time_in_utc() -> None:
    sun = {"kind": "clear_sky", "rated_w": 1e3, "latitude": 30.0, "longitude": 120.0}
    in_utc = budget_of(sun, start="2026-06-21T04:00:00Z").at(0.0)
    in_china = budget_of(sun, start="2026-06-21T12:00:00+08:00").at(0.0)
    assert in_utc.supply_w == in_china.supply_w > 500.0


def test_synthetic_wind_is_wind_in_the_books() -> None:
    budget = budget_of({"kind": "synthetic_wind", "rated_w": 1e3, "seed": 4})
    budget.settle(HOUR_S, 1.0)
    assert set(budget.at(HOUR_S).settled.sources_w) <= {"wind", "grid"}
