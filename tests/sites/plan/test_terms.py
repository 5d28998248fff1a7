from __future__ import annotations

from dataclasses import replace

import pytest
from tests.sites.conftest import POOL, SITE

from steppe.sites.plan.terms import Edge, edges_of, site_of
from steppe.sites.view import Expected, PoolPoint


def test_edges_join_the_points_that_no_mix_beats() -> None:
    points = (PoolPoint(100.0, 50.0), PoolPoint(200.0, 150.0), PoolPoint(300.0, 200.0))
    assert edges_of(replace(POOL, points=points)) == (Edge(100.0, 50.0), Edge(200.0, 150.0))


def test_a_pool_without_points_has_one_edge_at_its_energy_per_token() -> None:
    (edge,) = edges_of(replace(POOL, points=()))
    assert (edge.output_tps, edge.draw_w) == pytest.approx((400.0, 160.0))


def test_a_site_is_planned_from_its_heartbeat() -> None:
    forecast = tuple(Expected(900.0 * n, 200.0 - n, 300.0, 400.0) for n in range(5))
    prices = (360_000, 720_000, *[0] * 22)
    view = replace(SITE, forecast=forecast, price_micro=prices, gco2=(0.0,) * 24)
    site = site_of(view, money_per_g=1e-3)
    assert site.budget_w[:2] == pytest.approx([900.0, 899.0]), "700 W from the grid at all times"
    assert list(site.renewable_w) == [300.0] * 5
    assert site.grid_cost == pytest.approx([1e-7, 1e-7, 1e-7, 1e-7, 2e-7])
    assert site.base_w == pytest.approx(500.0 - 240.0), "600 tokens/s run at 0.4 J each"
    assert site.pools["m"].capacity_tps == pytest.approx(1000.0)


def test_a_forecast_that_goes_back_in_time_has_the_first_price() -> None:
    forecast = tuple(Expected(start_s, 1.0, 2.0, 3.0) for start_s in (0.0, -1e12, 1e12))
    view = replace(SITE, forecast=forecast, price_micro=(360_000, 720_000), gco2=())
    assert site_of(view, money_per_g=0.0).grid_cost == pytest.approx([1e-7, 1e-7, 2e-7])
