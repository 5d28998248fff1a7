from __future__ import annotations

import numpy as np
import pytest

from steppe.grid.backtest import synthetic
from steppe.grid.backtest.terms import MarketTerms
from steppe.grid.backtest.world import World, like_days
from steppe.grid.plan.terms import Edge, Site, per_mwh
from steppe.power.battery import Battery


@pytest.fixture
def site() -> Site:
    battery = Battery(3.6e9, 5e5, 5e5, 0.95, 0.95)
    edges = (Edge(5e5, 1e5), Edge(4e5, 4e4))
    return Site(1e5, edges, 4e6, per_mwh(5e3), per_mwh(58.0), battery, 4e6, late_penalty=0.2e-6)


@pytest.fixture
def terms() -> MarketTerms:
    return MarketTerms(
        token_value=0.2e-6,
        patience=96,
        intraday_spread=per_mwh(1.5),
        imbalance_spread=per_mwh(10.0),
        missed_price=per_mwh(200.0),
    )


@pytest.fixture
def world(site: Site) -> World:
    """Return three days whose wind is forecast too low."""
    rng = np.random.default_rng(3)
    price = synthetic.prices(366, rng)[0][: 3 * 96] * per_mwh(1.0)
    renewable_w = 1e6 * (0.5 + 0.4 * np.sin(np.arange(3 * 96) / 30))
    traffic = synthetic.traffic(3, site.output_of(site.most_w), rng)
    calls = np.zeros(3 * 96)
    return World(price, like_days(price, 96), renewable_w, 0.9 * renewable_w, traffic, calls, 0.985)
