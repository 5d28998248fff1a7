from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steppe.power.trace import HOUR_S
from steppe.power.wind import hub_speed_mps, power_share, wind_trace


@pytest.mark.parametrize(
    ("hub_mps", "share"),
    [(0.0, 0.0), (3.0, 0.0), (12.0, 1.0), (20.0, 1.0), (25.0, 0.5), (27.0, 0.0), (40.0, 0.0)],
)
def test_the_power_curve_has_its_known_points(hub_mps: float, share: float) -> None:
    assert power_share(hub_mps) == pytest.approx(share)


@given(slow=st.floats(0.0, 23.0), fast=st.floats(0.0, 23.0))
def test_more_wind_below_a_storm_is_never_less_power(slow: float, fast: float) -> None:
    slow, fast = sorted((slow, fast))
    assert 0.0 <= power_share(slow) <= power_share(fast) <= 1.0


@given(hub_mps=st.floats(0.0, 60.0))
def test_the_power_curve_is_continuous(hub_mps: float) -> None:
    assert abs(power_share(hub_mps + 0.01) - power_share(hub_mps)) < 0.005


def test_wind_speed_increases_with_height() -> None:
    assert hub_speed_mps(5.0) == pytest.approx(5.0 * 8 ** (1 / 7))


def test_a_windy_coast_has_a_plausible_capacity_factor() -> None:
    trace = wind_trace("sand_point", 1000.0)
    assert 0.25 < sum(trace.watts) / len(trace.watts) / 1000.0 < 0.35
    assert (min(trace.watts), max(trace.watts)) == (0.0, 1000.0)
    assert trace.at(0.0) == trace.at(8760 * HOUR_S)
