from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest

from steppe.grid.plan.terms import Edge, Site, per_mwh
from steppe.power.battery import Battery

Bench = Callable[[str], ModuleType]


@pytest.fixture
def site() -> Site:
    battery = Battery(3.6e9, 5e5, 5e5, 0.95, 0.95)
    edges = (Edge(5e5, 1e5), Edge(4e5, 4e4))
    return Site(1e5, edges, 4e6, per_mwh(5e3), per_mwh(58.0), battery, export_limit_w=4e6)


def test_a_year_of_prices_has_the_published_mean_and_share_below_zero(bench: Bench) -> None:
    markets = bench("grid_markets")
    prices, forecast = markets.synthetic_prices(366, np.random.default_rng(0))
    assert prices.mean() == pytest.approx(58.0)
    assert (prices < 0.0).mean() == pytest.approx(359 / 8784, abs=2e-4)
    assert 5.0 < np.abs(prices - forecast).mean() < 15.0


def test_a_correction_fades(bench: Bench) -> None:
    found = bench("grid_markets").corrected(np.full(400, 10.0), 5.0)
    assert found[0] == 15.0
    assert found[-1] == pytest.approx(10.0, abs=0.02)


def test_work_that_does_not_wait_runs_up_to_the_full_output(bench: Bench) -> None:
    backtest = bench("grid_backtest")
    work = (backtest.Work(900.0 * 150.0, 99, 1.0, 1),)
    found = backtest._as_it_comes(work, np.array([50.0, 50.0, 20.0]), 150.0)
    assert found == pytest.approx([0.0, 100.0, 50.0])


def test_a_day_costs_less_with_a_plan_and_least_with_foresight(bench: Bench, site: Site) -> None:
    backtest, rng = bench("grid_backtest"), np.random.default_rng(3)
    price, forecast = backtest.markets.synthetic_prices(366, rng)
    count = 3 * backtest.STEPS
    wind_w = 1e6 * (0.5 + 0.4 * np.sin(np.arange(count) / 30))
    traffic = backtest.markets.traffic(3, site.output_of(site.most_w), rng)
    world = backtest.World(
        price[:count], forecast[:count], wind_w, 0.9 * wind_w, traffic, np.zeros(count)
    )
    cost = {}
    for way in (
        backtest.Way("none", replace(site, battery=backtest.NO_BATTERY), False, False),
        backtest.Way("plan", site, True, False),
    ):
        books = backtest.Books(way.site.battery.capacity_j / 2)
        market = backtest.Market(way, world, books, np.zeros(count), np.zeros(count))
        market.run(1, 24)
        cost[way.name] = backtest.row_of(way, books)["cost_eur"]
        assert books.missed_j == 0.0
    best = backtest.foresight(backtest.Way("best", site, True, False), world, 1)
    assert best["cost_eur"] < cost["plan"] < cost["none"]


def test_what_is_called_and_not_given_costs(bench: Bench, site: Site) -> None:
    backtest = bench("grid_backtest")
    way = backtest.Way("plan", site, True, True)
    books = backtest.Books(0.0, missed_j=3.6e9)
    assert backtest.row_of(way, books)["missed_reserve_eur"] == pytest.approx(200.0)
