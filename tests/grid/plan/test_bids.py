from __future__ import annotations

from dataclasses import replace

import pytest

from steppe.errors import UsageError
from steppe.grid.plan.bids import bid_curve, bought_w, price_levels
from steppe.grid.plan.solve import plan_markets
from steppe.grid.plan.terms import Outlook, Site, Work, per_mwh
from steppe.power.battery import NO_BATTERY

TOKEN = per_mwh(1000.0)
"""Worth of a token: 200 per MWh on the first edge, 100 per MWh on the second."""


def outlook_of(prices_mwh: list[float], *work: Work) -> Outlook:
    buy = [per_mwh(price) for price in prices_mwh]
    return Outlook(buy, buy, [0.0] * len(buy), [0.0] * len(buy), work)


def test_an_edge_is_bought_up_to_what_its_tokens_are_worth(site: Site) -> None:
    site = replace(site, battery=NO_BATTERY)
    work = Work(tokens=1.4e5 * 900, due_step=0, token_value=TOKEN)
    prices = [per_mwh(p) for p in (90.0, 110.0, 190.0, 500.0)]
    curve = bid_curve(site, outlook_of([60.0], work), range(1), prices)
    assert [step.watts for step in curve] == pytest.approx([1e5, 6e5, 1e6])
    assert [step.price for step in curve] == pytest.approx([prices[3], prices[2], prices[0]])


def test_work_that_can_wait_buys_only_below_the_price_of_another_step(site: Site) -> None:
    site = replace(site, battery=NO_BATTERY)
    work = Work(tokens=1e5 * 900, due_step=1, token_value=TOKEN)
    prices = [per_mwh(p) for p in (45.0, 55.0, 150.0)]
    curve = bid_curve(site, outlook_of([60.0, 50.0], work), range(1), prices)
    assert [(step.price, round(step.watts)) for step in curve] == [
        (prices[2], 100000),
        (prices[0], 600000),
    ]


def test_a_bid_falls_with_the_price_and_buys_what_the_plan_buys(site: Site) -> None:
    works = (Work(2e8, 3, TOKEN), Work(1e8, 2, TOKEN / 2, 1))
    outlook = outlook_of([80.0, 40.0, 120.0, 60.0], *works)
    curve = bid_curve(site, outlook, range(2, 3))
    watts = [step.watts for step in curve]
    assert watts == sorted(watts)
    assert len(watts) > 2
    plan = plan_markets(site, outlook)
    assert bought_w(curve, outlook.buy_price[2]) == pytest.approx(plan.traded_w[2], abs=10.0)
    assert bought_w(curve, 1.0) == 0.0


def test_levels_hold_the_worth_of_a_joule_on_each_edge(site: Site) -> None:
    levels = price_levels(site, outlook_of([60.0], Work(1.0, 0, TOKEN)))
    assert any(level == pytest.approx(TOKEN * site.edges[0].tokens_per_j) for level in levels)
    assert any(level == pytest.approx(TOKEN * site.edges[1].tokens_per_j) for level in levels)


def test_a_product_outside_the_outlook_is_refused(site: Site) -> None:
    with pytest.raises(UsageError, match="found 1 steps"):
        bid_curve(site, outlook_of([60.0]), range(1, 2))
