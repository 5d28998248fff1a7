from __future__ import annotations

import subprocess
import sys

import pytest

from steppe.power.solar import Station, solar_trace, station_wind_mps
from steppe.power.trace import HOUR_S, SupplyTrace

DAY_S = 24 * HOUR_S


def mean_w(trace: SupplyTrace) -> float:
    return sum(trace.watts) / len(trace.watts)


@pytest.mark.parametrize(
    ("station", "least", "most"), [("greensboro", 0.14, 0.17), ("sand_point", 0.08, 0.11)]
)
def test_a_year_of_sun_has_a_plausible_capacity_factor(
    station: Station, least: float, most: float
) -> None:
    trace = solar_trace(station, 1000.0)
    assert least < mean_w(trace) / 1000.0 < most
    assert min(trace.watts) == 0.0
    assert max(trace.watts) < 960.0


def test_the_mean_power_is_highest_around_noon_local_time() -> None:
    trace = solar_trace("greensboro", 1000.0)
    mean_by_quarter = [
        sum(trace.at(day * DAY_S + HOUR_S * quarter / 4) for day in range(365))
        for quarter in range(96)
    ]
    assert 11.5 <= mean_by_quarter.index(max(mean_by_quarter)) / 4 <= 13.0
    assert mean_by_quarter[0] == 0.0


def test_a_station_has_a_year_of_wind() -> None:
    speeds = station_wind_mps("sand_point")
    assert len(speeds) == 8760
    assert 4.5 < sum(speeds) / len(speeds) < 5.5


def test_the_budget_imports_no_heavy_library() -> None:
    code = (
        "import sys, steppe.power.budget;"
        "print({'pvlib', 'pandas', 'numpy', 'pyarrow'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"
