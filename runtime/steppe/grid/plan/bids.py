"""Bids: how much to buy at each price, as steps that fall.

A joule is worth the tokens that it yields. Work that can wait buys in the quarter of an hour in
which it is cheapest, so a bid for one product depends on the prices of the others: the plan is
made anew for each price of the product, and what it buys then is the bid at that price.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from steppe.errors import UsageError
from steppe.grid.plan.solve import plan_markets
from steppe.grid.plan.terms import Outlook, Site

QUANTILES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
"""Quantiles of the expected prices at which a bid has a step."""


@dataclass(frozen=True, slots=True)
class BidStep:
    """One step of a bid.

    Attributes:
        price: Up to this price, money per joule,
        watts: so much is bought, W; below zero it is sold.
    """

    price: float
    watts: float


def price_levels(site: Site, outlook: Outlook) -> tuple[float, ...]:
    """Return prices at which a plan may change, from the lowest, money per joule.

    They are the worth of a joule on each edge for each value of a token, and quantiles of the
    expected prices.
    """
    values = {one.token_value for one in outlook.work} | {site.firm_token_value}
    worth = {value * edge.tokens_per_j for value in values for edge in site.edges}
    expected = np.quantile(np.array(outlook.buy_price), QUANTILES)
    return tuple(sorted(worth | {float(price) for price in expected}))


def bid_curve(
    site: Site, outlook: Outlook, steps: range, prices: Sequence[float] = ()
) -> tuple[BidStep, ...]:
    """Return the bid for a product: from the highest price and least watts to the lowest price.

    Args:
        site: What does not change.
        outlook: What is expected; the prices of the other steps are kept.
        steps: The steps of the product.
        prices: Prices of the bid's steps; empty for those at which a plan may change.

    Raises:
        UsageError: The product has no steps, or some that are not in the outlook.
    """
    if not steps or steps[0] < 0 or steps[-1] >= outlook.steps:
        raise UsageError(f"asked for a bid for {steps}, found {outlook.steps} steps")
    found: list[BidStep] = []
    for price in sorted(prices or price_levels(site, outlook), reverse=True):
        plan = plan_markets(site, _at(outlook, steps, price))
        watts = sum(plan.traded_w[step] for step in steps) / len(steps)
        watts = max(watts, found[-1].watts) if found else watts  # equal plans differ by rounding
        if found and watts - found[-1].watts < 1e-6 * site.most_w:
            continue
        found.append(BidStep(price, watts))
    return tuple(found)


def bought_w(curve: Sequence[BidStep], price: float) -> float:
    """Return what a bid buys at a price, W; 0 above its highest step."""
    return max((step.watts for step in curve if step.price >= price), default=0.0)


def _at(outlook: Outlook, steps: range, price: float) -> Outlook:
    """Return the outlook with another price of the product; the fee between buy and sell stays."""
    buy, sell = list(outlook.buy_price), list(outlook.sell_price)
    for step in steps:
        fee = buy[step] - sell[step]
        buy[step], sell[step] = price, price - fee
    return replace(outlook, buy_price=buy, sell_price=sell)
