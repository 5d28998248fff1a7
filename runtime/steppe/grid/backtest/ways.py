"""What each way to use a site costs: from none at all to one plan with the values of all days."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace

import numpy as np

from steppe.grid.backtest.market import Market, Way, WayState
from steppe.grid.backtest.terms import MarketTerms
from steppe.grid.backtest.world import Floats, World
from steppe.grid.plan.solve import plan_markets
from steppe.grid.plan.terms import Outlook, Reserve, Site, Work
from steppe.power.battery import NO_BATTERY

NONE, TAKER, PLAN, FORESIGHT = "none", "price-taker", "plan", "perfect foresight"
"""Names of the ways."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a way cost, money.

    Attributes:
        cost: All of it: energy, imbalance, missed reserve, late tokens and the end, less what
            reserve earned.
        energy: Energy.
        imbalance: Imbalance.
        reserve_revenue: What reserve earned.
        missed_reserve: Paid for reserve that was called and not given.
        late_tokens: Tokens that were late.
        late: What they cost.
        end: What work that is left will cost, less what the battery's energy will save.
        deferred_tokens: Tokens of work that could wait and was done.
    """

    cost: float
    energy: float
    imbalance: float
    reserve_revenue: float
    missed_reserve: float
    late_tokens: float
    late: float
    end: float
    deferred_tokens: float


@dataclass(frozen=True, slots=True)
class WayOutcome:
    """A way, what it cost, and what it did.

    Attributes:
        way: Its name.
        cost: What it cost.
        grid_w: Bought in each step, W; of foresight, drawn from the grid.
        draw_w: Draw of the fleet in each step, W.
        paid: Paid for energy and imbalance in each step, less what reserve earned, money.
    """

    way: str
    cost: Cost
    grid_w: Floats
    draw_w: Floats
    paid: Floats


def ways_of(site: Site, reserve: bool) -> tuple[Way, ...]:
    """Return the ways that know no more than a site does.

    Args:
        site: The site.
        reserve: Whether there is a market for reserve.
    """
    return (
        Way(NONE, replace(site, battery=NO_BATTERY), waits=False, reserve=False),
        Way(TAKER, site, waits=False, reserve=reserve),
        Way(PLAN, site, waits=True, reserve=reserve),
    )


def outcome(way: Way, world: World, terms: MarketTerms, days: int, every: int) -> WayOutcome:
    """Return what a way costs in so many days, with an intraday plan every so many steps."""
    market = Market.begun(way, world, terms)
    market.run(days, every)
    count = days * terms.day_steps
    cost = cost_of(way.site, market.books, terms)
    return WayOutcome(
        way=way.name,
        cost=cost,
        grid_w=market.position_w[:count],
        draw_w=market.drawn_w[:count],
        paid=market.paid[:count],
    )


def outcomes(
    site: Site, world: World, terms: MarketTerms, days: int, every: int
) -> Iterator[WayOutcome]:
    """Yield what each way costs, perfect foresight last."""
    reserve = terms.reserve_price > 0.0
    for way in ways_of(site, reserve):
        yield outcome(way, world, terms, days, every)
    yield foresight(Way(FORESIGHT, site, waits=True, reserve=reserve), world, terms, days)


def cost_of(site: Site, books: WayState, terms: MarketTerms) -> Cost:
    """Return what a way cost."""
    rate = max(edge.tokens_per_j for edge in site.edges)
    left = sum(tokens for tokens, _ in books.queue)
    saved_j = books.stored_j * site.battery.discharge_efficiency
    end = site.later_price * (left / rate - saved_j)
    late, missed = books.late_tokens * terms.token_value, books.missed_j * terms.missed_price
    cost = books.energy + books.imbalance + missed - books.reserve + late + end
    return Cost(
        cost=cost,
        energy=books.energy,
        imbalance=books.imbalance,
        reserve_revenue=books.reserve,
        missed_reserve=missed,
        late_tokens=books.late_tokens,
        late=late,
        end=end,
        deferred_tokens=books.tokens,
    )


def foresight(way: Way, world: World, terms: MarketTerms, days: int) -> WayOutcome:
    """Return what one plan costs with the values of all days, and buys all of it day ahead.

    Calls of reserve count with their average, so with reserve it is not quite an upper bound.
    """
    count, traffic, value = days * terms.day_steps, world.traffic, terms.token_value
    price = world.price[:count]
    work = tuple(
        Work(float(tokens), at + terms.patience, value, at)
        for at, tokens in enumerate(traffic.work[:count])
        if tokens
    )
    pays = [terms.reserve_price] * count
    down = Reserve(pays, price.tolist(), terms.called_share, terms.step_s) if way.reserve else None
    stored_j = way.site.battery.capacity_j / 2
    wind_w, firm_tps = world.renewable_w[:count].tolist(), traffic.firm_tps[:count].tolist()
    outlook = Outlook(price.tolist(), price.tolist(), wind_w, firm_tps, work, stored_j, (), down)
    plan = plan_markets(way.site, outlook)
    books = WayState(plan.stored_j[-1])
    grid_w = np.array(plan.grid_w)
    energy = terms.step_s * price * grid_w
    earns = terms.reserve_price + terms.called_share * price
    earned = terms.step_s * earns * np.array(plan.down_w)
    books.energy, books.reserve = float(energy.sum()), float(earned.sum())
    books.late_tokens = sum(plan.late_tokens)
    books.tokens = sum(plan.deferred_tps) * terms.step_s
    left = sum(one.tokens for one in work) - books.tokens - books.late_tokens
    books.queue = [[max(0.0, left), float(count)]]
    cost = cost_of(way.site, books, terms)
    return WayOutcome(way.name, cost, grid_w, np.array(plan.draw_w), energy - earned)


def share_of_gain(none: Cost, way: Cost, best: Cost) -> float | None:
    """Return how much of what the best way gains over the one without flexibility a way gains.

    None where the best one gains nothing.
    """
    gain = none.cost - best.cost
    return None if gain <= 0.0 else (none.cost - way.cost) / gain


def as_numbers(cost: Cost) -> dict[str, float]:
    """Return a cost as JSON values, rounded to cents and whole tokens."""
    return {
        name: round(value) if name.endswith("tokens") else round(value, 2)
        for name, value in asdict(cost).items()
    }
