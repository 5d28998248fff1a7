from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from steppe.grid.backtest.market import Market, Way, WayState, as_it_comes
from steppe.grid.backtest.terms import MarketTerms
from steppe.grid.backtest.ways import (
    FORESIGHT,
    Cost,
    cost_of,
    foresight,
    outcome,
    share_of_gain,
    ways_of,
)
from steppe.grid.backtest.world import World
from steppe.grid.plan.terms import Site, Work, per_mwh


def test_a_day_costs_less_with_a_plan_and_least_with_foresight(
    site: Site, world: World, terms: MarketTerms
) -> None:
    found = {way.name: outcome(way, world, terms, 1, 24).cost for way in ways_of(site, False)}
    best = foresight(Way(FORESIGHT, site, waits=True, reserve=False), world, terms, 1).cost
    assert best.cost < found["plan"].cost < found["price-taker"].cost < found["none"].cost
    share = share_of_gain(found["none"], found["plan"], best)
    assert share is not None
    assert 0.5 < share < 1.0


def test_a_plan_each_quarter_of_an_hour_costs_less_than_one_a_day(
    site: Site, world: World, terms: MarketTerms
) -> None:
    plan = ways_of(site, False)[2]
    often, seldom = (outcome(plan, world, terms, 1, every).cost for every in (4, 48))
    assert often.cost < seldom.cost


def test_the_balance_of_energy_holds_in_each_step(
    site: Site, world: World, terms: MarketTerms
) -> None:
    market = Market.begun(ways_of(site, False)[2], world, terms)
    market.run(1, 12)
    assert market.books.missed_j == 0.0
    assert (market.drawn_w[:96] >= site.floor_w - 1e-6).all()
    assert (market.drawn_w[:96] <= site.most_w + 1e-6).all()
    assert 0.0 <= market.books.stored_j <= site.battery.capacity_j


def test_work_that_does_not_wait_runs_up_to_the_full_output() -> None:
    work = (Work(900.0 * 150.0, 99, 1.0, 1),)
    found = as_it_comes(work, np.array([50.0, 50.0, 20.0]), 150.0, 900.0)
    assert found == pytest.approx([0.0, 100.0, 50.0])


def test_what_is_called_and_not_given_costs(site: Site, terms: MarketTerms) -> None:
    cost = cost_of(site, WayState(0.0, missed_j=3.6e9), terms)
    assert cost.missed_reserve == pytest.approx(200.0)
    assert cost.cost == pytest.approx(200.0)


def test_the_end_counts_what_is_left_and_what_is_stored(site: Site, terms: MarketTerms) -> None:
    cost = cost_of(site, WayState(3.6e9, queue=[[2e5, 5.0]]), terms)
    saved = 58.0 * 0.95
    left = per_mwh(58.0) * 2e5 / max(edge.tokens_per_j for edge in site.edges)
    assert cost.end == pytest.approx(left - saved)


def test_a_share_of_no_gain_is_none(site: Site, terms: MarketTerms) -> None:
    zero: Cost = cost_of(site, WayState(0.0), terms)
    assert share_of_gain(zero, zero, zero) is None
    assert share_of_gain(replace(zero, cost=10.0), replace(zero, cost=4.0), zero) == 0.6
