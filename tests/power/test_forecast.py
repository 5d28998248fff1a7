from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steppe.power.forecast import ClearSkyPersistence, Persistence, forecast_quantiles
from steppe.power.solar import clear_sky_trace, solar_trace

series = st.lists(st.floats(0.0, 100.0), min_size=4, max_size=40)


def test_persistence_repeats_the_last_value() -> None:
    assert Persistence().ahead([3.0, 7.0], lead_steps=5) == 7.0


def test_the_share_of_the_clear_sky_persists() -> None:
    forecaster = ClearSkyPersistence([0.0, 10.0, 20.0, 10.0, 0.0])
    assert forecaster.ahead([0.0, 5.0], lead_steps=1) == pytest.approx(10.0)
    assert forecaster.ahead([0.0, 5.0], lead_steps=3) == 0.0


def test_the_night_keeps_the_index_of_the_evening() -> None:
    forecaster = ClearSkyPersistence([20.0, 0.1, 0.0, 20.0])
    assert forecaster.ahead([5.0, 0.1, 0.0], lead_steps=1) == pytest.approx(5.0)


def test_a_past_without_daylight_means_a_clear_sky() -> None:
    assert ClearSkyPersistence([0.0, 0.0, 9.0]).ahead([0.0, 0.0], lead_steps=1) == 9.0


def test_light_beside_a_cloud_does_not_make_an_endless_bonus() -> None:
    assert ClearSkyPersistence([10.0, 10.0]).ahead([30.0], lead_steps=1) == pytest.approx(12.0)


def test_a_steady_past_leaves_no_doubt() -> None:
    assert forecast_quantiles(Persistence(), [5.0] * 10, 2, (0.1, 0.5, 0.9)) == (5.0, 5.0, 5.0)


def test_quantiles_are_those_of_past_errors() -> None:
    past_w = [0.0, 1.0, 3.0, 6.0]
    assert forecast_quantiles(Persistence(), past_w, 1, (0.0, 0.5, 1.0)) == (7.0, 8.0, 9.0)


@given(past_w=series, lead=st.integers(1, 3))
def test_quantiles_rise_with_their_level_and_stay_above_zero(
    past_w: list[float], lead: int
) -> None:
    values = forecast_quantiles(Persistence(), past_w, lead, (0.0, 0.1, 0.5, 0.9, 1.0))
    assert values[0] >= 0.0
    assert all(low <= high + 1e-9 for low, high in pairwise(values))


def test_knowing_the_clear_sky_beats_persistence_on_a_month_of_sun() -> None:
    hours = [1800.0 + 3600.0 * hour for hour in range(24 * 150, 24 * 180)]
    actual, clear = solar_trace("greensboro", 1.0), clear_sky_trace("greensboro", 1.0)
    actual_w = [actual.at(t) for t in hours]
    forecasters = Persistence(), ClearSkyPersistence([clear.at(t) for t in hours])
    lead = 3
    plain, informed = (
        sum(
            abs(forecaster.ahead(actual_w[: last + 1], lead) - actual_w[last + lead])
            for last in range(24, len(actual_w) - lead)
        )
        for forecaster in forecasters
    )
    assert informed < 0.75 * plain
