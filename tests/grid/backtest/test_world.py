from __future__ import annotations

import numpy as np
import pytest

from steppe.grid.backtest import synthetic
from steppe.grid.backtest.world import World, corrected, like_days


def test_a_year_of_prices_has_the_published_mean_and_share_below_zero() -> None:
    prices, forecast = synthetic.prices(366, np.random.default_rng(0))
    assert prices.mean() == pytest.approx(58.0)
    assert (prices < 0.0).mean() == pytest.approx(359 / 8784, abs=2e-4)
    assert 5.0 < np.abs(prices - forecast).mean() < 15.0


def test_a_correction_fades() -> None:
    found = corrected(np.full(400, 10.0), 5.0, 0.985)
    assert found[0] == 15.0
    assert found[-1] == pytest.approx(10.0, abs=0.02)


def test_a_price_forecast_uses_nothing_that_is_not_known() -> None:
    price = np.array([float(step) for step in range(20)])
    for known in (1, 3, 8):
        steps = range(known, 20)
        one = like_days(price, 4)(steps, known)
        changed = price.copy()
        changed[known:] = 1e6
        assert like_days(changed, 4)(steps, known).tolist() == one.tolist()


def test_a_price_forecast_is_the_mean_of_the_same_time_of_the_latest_days() -> None:
    price = np.array([day + hour for day in (0.0, 10.0, 20.0) for hour in (1.0, 2.0, 3.0, 4.0)])
    found = like_days(price, 4)(range(8, 12), 8)
    assert found.tolist() == [6.0, 7.0, 8.0, 9.0]


def test_known_prices_are_not_forecast(world: World) -> None:
    found = world.expected_prices(range(90, 110), 96)
    assert found[:6].tolist() == world.price[90:96].tolist()
    assert not np.allclose(found[6:], world.price[96:110])


def test_the_expected_wind_begins_with_the_one_that_blows(world: World) -> None:
    found = world.expected_w(range(10, 90))
    assert found[0] == pytest.approx(world.renewable_w[10])
    assert found[-1] == pytest.approx(world.renewable_forecast_w[89], rel=0.05)
