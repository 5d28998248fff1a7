"""How much of what perfect foresight gains does the plan of the markets gain in 30 days?

A fleet of 70B replicas beside a wind farm, with a battery and work that may wait for a day. It buys
day ahead at noon, trades intraday every two hours, and pays for imbalance. Four ways:

    none       no battery, work runs as it comes
    taker      a battery that follows prices and sells reserve; work runs as it comes
    plan       the plan of the markets: work waits, too
    foresight  one plan of all 30 days that knows prices, wind, traffic and work, and buys all of
               it day ahead

Each way pays for the same tokens; work that is late costs its worth. What is stored at the end,
and work that is left, count with the mean price. PRICES ARE SYNTHETIC (`grid_markets.py` names what
was published and what is assumed), the wind is measured, traffic and work are synthetic. Simulated.

    python bench/grid_backtest.py
    python bench/grid_backtest.py --days 3 --first-day 200
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

import grid_markets as markets
from bench_fleets import Size, make_bench
from document import arguments_of
from grid_markets import STEPS, Floats, Traffic
from steppe.config import TraceSupply
from steppe.grid.plan.result import MarketPlan
from steppe.grid.plan.solve import plan_markets
from steppe.grid.plan.terms import QUARTER_S, Outlook, Reserve, Site, Work, edges_of, per_mwh
from steppe.measure.provenance import source_commit
from steppe.power.battery import NO_BATTERY, Battery
from steppe.power.trace import load_trace
from targets import at_least

FARM = Path("../shared/data/renewable/la_haute_borne_wind_8.2MW_10min_2014.csv.gz")
REPLICAS, WIND_RATIO, BATTERY_SHARE, BATTERY_HOURS = 600, 2.0, 0.25, 2.0
"""Replicas; rated wind and power of the battery, over the full draw; and hours at that power."""
TOKEN, FIRM_TOKEN = 0.2e-6, 0.6e-6
"""Worth of a token that can wait and of a firm one, EUR."""
PATIENCE, LOOK, LOOK_DAY_AHEAD = STEPS, STEPS, 2 * STEPS
"""Steps that work may wait, and that an intraday plan and one of the day ahead look ahead."""
EARLY = 4
"""Steps before it is due by which the plan ends work: a call or more traffic may delay it."""
TARGET = 0.85


@dataclass(frozen=True, slots=True)
class World:
    """What happens, and what was expected.

    Attributes:
        price: Day-ahead prices, EUR/MWh.
        price_forecast: What is forecast of them.
        wind_w: Wind, W.
        wind_forecast_w: What was forecast a day before.
        traffic: Tokens.
        called: Whether reserve is called in the step.
    """

    price: Floats
    price_forecast: Floats
    wind_w: Floats
    wind_forecast_w: Floats
    traffic: Traffic
    called: Floats


@dataclass(frozen=True, slots=True)
class Way:
    """One way to use the site.

    Attributes:
        name: Its name.
        site: The site, with or without its battery.
        waits: Whether work waits for cheap energy.
        reserve: Whether it sells reserve.
    """

    name: str
    site: Site
    waits: bool
    reserve: bool


@dataclass(slots=True)
class Books:
    """What a way has paid and received so far, EUR, and the state of its site."""

    stored_j: float
    queue: list[list[float]] = field(default_factory=list)
    energy: float = 0.0
    imbalance: float = 0.0
    reserve: float = 0.0
    late_tokens: float = 0.0
    tokens: float = 0.0
    missed_j: float = 0.0

    @property
    def penalty(self) -> float:
        """What reserve costs that was called and not given, EUR."""
        return self.missed_j * per_mwh(markets.MISSED_PRICE)


def world_of(site: Site, days: int, first_day: int, seed: int, farm: Path) -> World:
    """Return the world of some days, with two days of forecasts after them."""
    rng = np.random.default_rng(seed)
    price, price_forecast = markets.synthetic_prices(366, rng)
    trace = load_trace(TraceSupply(kind="trace", path=farm, rated_w=1.0))
    begin, count = first_day * STEPS, (days + 2) * STEPS
    share = np.array([trace.at((begin + step) * QUARTER_S) for step in range(count)])
    rated_w = WIND_RATIO * site.most_w
    here = slice(begin, begin + count)
    return World(
        price[here],
        price_forecast[here],
        rated_w * share,
        rated_w * markets.wind_forecast(share, rng),
        markets.traffic(days + 2, site.output_of(site.most_w), rng),
        (rng.random(count) < markets.CALLED_SHARE).astype(float),
    )


@dataclass(slots=True)
class Market:
    """One way in the world: its positions, and what it pays.

    Attributes:
        way: The way.
        world: The world.
        books: What it has paid.
        position_w: Bought day ahead, W.
        sold_w: Reserve sold day ahead, W.
        traded_until: First step that is not sold day ahead yet.
    """

    way: Way
    world: World
    books: Books
    position_w: Floats
    sold_w: Floats
    traded_until: int = 0

    def run(self, days: int, every: int) -> None:
        """Trade and run for so many days; intraday every so many steps."""
        self.day_ahead(0, 0)
        for step in range(0, days * STEPS, every):
            if step % STEPS == STEPS // 2:
                self.day_ahead(step, step // STEPS + 1)
            plan = plan_markets(self.way.site, self.outlook(step, LOOK))
            for at in range(every):
                self.step(step + at, plan, at)

    def day_ahead(self, now: int, day: int) -> None:
        """Buy for a day, and sell reserve for it."""
        plan = plan_markets(self.way.site, self.outlook(now, LOOK_DAY_AHEAD))
        first = day * STEPS
        for step in range(first, first + STEPS):
            self.position_w[step] = plan.grid_w[step - now]
            self.sold_w[step] = plan.down_w[step - now] if self.way.reserve else 0.0
        bought = slice(first, first + STEPS)
        price = self.world.price[bought]
        self.books.energy += _eur(price * self.position_w[bought])
        self.books.reserve += _eur(markets.RESERVE_PRICE * self.sold_w[bought])
        self.traded_until = first + STEPS

    def outlook(self, now: int, look: int) -> Outlook:
        """Return what is expected now."""
        world, until = self.world, min(now + look, len(self.world.price))
        ahead, steps = slice(now, until), until - now
        known = np.arange(now, until) < self.traded_until
        price = np.where(known, world.price[ahead], world.price_forecast[ahead])
        spread = np.where(known, markets.INTRADAY_SPREAD, 0.0)
        off_w = world.wind_w[now] - world.wind_forecast_w[now]
        wind_w = markets.corrected(world.wind_forecast_w[ahead], off_w)
        more_tps = world.traffic.firm_tps[now] - world.traffic.usual_tps[now]
        firm_tps = markets.corrected(world.traffic.usual_tps[ahead], more_tps)
        work = self.expected_work(now, steps)
        if not self.way.waits:
            full = self.way.site.output_of(self.way.site.most_w)
            firm_tps, work = firm_tps + _as_it_comes(work, firm_tps, full), ()
        plain = per_mwh(1.0)
        down = Reserve(
            (np.where(known, 0.0, markets.RESERVE_PRICE) * plain).tolist(),
            (price * plain).tolist(),
            markets.CALLED_SHARE,
            QUARTER_S,
            self.sold_w[ahead].tolist(),
        )
        return Outlook(
            ((price + spread) * plain).tolist(),
            ((price - spread) * plain).tolist(),
            wind_w.tolist(),
            firm_tps.tolist(),
            work,
            self.books.stored_j,
            self.position_w[ahead].tolist(),
            down if self.way.reserve else None,
        )

    def expected_work(self, now: int, steps: int) -> tuple[Work, ...]:
        """Return the work that is here, and what usually arrives."""
        here = [
            Work(tokens, max(0, int(due) - now - EARLY), TOKEN) for tokens, due in self.books.queue
        ]
        here.append(Work(self.world.traffic.work[now], PATIENCE - EARLY, TOKEN))
        usual = self.world.traffic.usual_work[now + 1 : now + steps]
        come = [
            Work(tokens, at + PATIENCE - EARLY, TOKEN, at) for at, tokens in enumerate(usual, 1)
        ]
        return (*here, *(one for one in come if one.tokens))

    def step(self, now: int, plan: MarketPlan, at: int) -> None:
        """Run one step, and pay for it."""
        site, world, books = self.way.site, self.world, self.books
        if world.traffic.work[now]:
            books.queue.append([world.traffic.work[now], now + PATIENCE])
        firm_tps = world.traffic.firm_tps[now]
        full_tps = site.output_of(site.most_w)
        waiting = sum(tokens for tokens, _ in books.queue) / QUARTER_S
        wanted = plan.deferred_tps[at] if self.way.waits else waiting
        draw_w = site.draw_of(firm_tps + min(wanted, waiting, full_tps - firm_tps))
        called_w = world.called[now] * self.sold_w[now]
        by_work_w = min(called_w, draw_w - site.draw_of(firm_tps))
        draw_w -= by_work_w
        self.serve(site.output_of(draw_w) - firm_tps, now)
        flow_w = plan.charge_w[at] - plan.discharge_w[at] - (called_w - by_work_w)
        moved_w = self.battery(flow_w)
        books.missed_j += max(0.0, moved_w - flow_w) * QUARTER_S if called_w else 0.0
        wind_w = world.wind_w[now] - min(plan.spilled_w[at], world.wind_w[now])
        self.pay(now, draw_w + moved_w - wind_w, plan.traded_w[at], called_w)

    def serve(self, deferred_tps: float, now: int) -> None:
        """Serve work that can wait, the nearest deadline first; what is due now is late."""
        left = max(0.0, deferred_tps * QUARTER_S)
        self.books.tokens += left
        for one in self.books.queue:
            done = min(left, one[0])
            one[0] -= done
            left -= done
        late = [one for one in self.books.queue if one[1] <= now]
        self.books.late_tokens += sum(one[0] for one in late)
        self.books.queue = [one for one in self.books.queue if one[1] > now and one[0] > 0.0]

    def battery(self, flow_w: float) -> float:
        """Charge, or discharge below zero, as far as it goes; return the flow, W."""
        battery, stored_j = self.way.site.battery, self.books.stored_j
        if flow_w >= 0.0:
            flow = battery.charge(stored_j, flow_w, QUARTER_S)
            self.books.stored_j = flow.stored_j
            return flow.power_w
        flow = battery.discharge(stored_j, -flow_w, QUARTER_S)
        self.books.stored_j = flow.stored_j
        return -flow.power_w

    def pay(self, now: int, metered_w: float, traded_w: float, called_w: float) -> None:
        """Pay for what was traded and for imbalance; a call is paid at the price of energy."""
        price, books = float(self.world.price[now]), self.books
        side = markets.INTRADAY_SPREAD if traded_w > 0.0 else -markets.INTRADAY_SPREAD
        books.energy += _eur((price + side) * traded_w)
        over_w = metered_w + called_w - self.position_w[now] - traded_w
        side = markets.IMBALANCE_SPREAD if over_w > 0.0 else -markets.IMBALANCE_SPREAD
        books.imbalance += _eur((price + side) * over_w)
        books.reserve += _eur(price * called_w)


def _as_it_comes(work: Sequence[Work], firm_tps: Floats, full_tps: float) -> Floats:
    """Return the tokens per second of work that does not wait."""
    come = np.zeros(len(firm_tps))
    for one in work:
        come[one.from_step] += one.tokens / QUARTER_S
    found, waiting = np.zeros(len(firm_tps)), 0.0
    for step, tps in enumerate(come):
        waiting += tps
        found[step] = min(waiting, max(0.0, full_tps - firm_tps[step]))
        waiting -= found[step]
    return found


def _eur(price_times_watts: Any) -> float:
    """Return the EUR of prices, EUR/MWh, times watts, summed over steps."""
    return float(np.sum(price_times_watts)) * per_mwh(QUARTER_S)


def row_of(way: Way, books: Books) -> dict[str, Any]:
    """Return what a way cost, EUR."""
    rate = max(edge.tokens_per_j for edge in way.site.edges)
    left = sum(tokens for tokens, _ in books.queue)
    end = way.site.later_price * (
        left / rate - books.stored_j * way.site.battery.discharge_efficiency
    )
    late = books.late_tokens * TOKEN
    cost = books.energy + books.imbalance + books.penalty - books.reserve + late + end
    return {
        "way": way.name,
        "cost_eur": round(cost, 2),
        "energy_eur": round(books.energy, 2),
        "imbalance_eur": round(books.imbalance, 2),
        "reserve_revenue_eur": round(books.reserve, 2),
        "missed_reserve_eur": round(books.penalty, 2),
        "late_tokens": round(books.late_tokens),
        "late_eur": round(late, 2),
        "end_eur": round(end, 2),
        "deferred_tokens": round(books.tokens),
    }


def foresight(way: Way, world: World, days: int) -> dict[str, Any]:
    """Return what one plan costs that knows all days."""
    count, traffic = days * STEPS, world.traffic
    price = world.price[:count] * per_mwh(1.0)
    work = tuple(
        Work(float(tokens), at + PATIENCE, TOKEN, at)
        for at, tokens in enumerate(traffic.work[:count])
        if tokens
    )
    pays = np.full(count, per_mwh(markets.RESERVE_PRICE))
    sells = Reserve(pays.tolist(), price.tolist(), markets.CALLED_SHARE, QUARTER_S)
    down = sells if way.reserve else None
    stored_j = way.site.battery.capacity_j / 2
    wind_w, firm_tps = world.wind_w[:count].tolist(), traffic.firm_tps[:count].tolist()
    outlook = Outlook(price.tolist(), price.tolist(), wind_w, firm_tps, work, stored_j, (), down)
    plan = plan_markets(way.site, outlook)
    books = Books(plan.stored_j[-1])
    sold_w = np.array(plan.down_w)
    books.energy = _eur(world.price[:count] * np.array(plan.grid_w))
    called = markets.CALLED_SHARE * world.price[:count]
    books.reserve = _eur((markets.RESERVE_PRICE + called) * sold_w)
    books.late_tokens, books.tokens = sum(plan.late_tokens), sum(plan.deferred_tps) * QUARTER_S
    left = sum(one.tokens for one in work) - books.tokens - books.late_tokens
    books.queue = [[max(0.0, left), float(count)]]
    return row_of(way, books)


def site_of() -> Site:
    """Return the site."""
    frontier = make_bench(Size("70b", 2, 5.0)).frontier
    floor_w, edges = edges_of(frontier, REPLICAS)
    plain = Site(floor_w, edges, 0.0, FIRM_TOKEN, per_mwh(markets.MEAN_PRICE))
    power_w = BATTERY_SHARE * plain.most_w
    battery = Battery(BATTERY_HOURS * 3600 * power_w, power_w, power_w, 0.95, 0.95)
    wide_w = (1 + WIND_RATIO) * plain.most_w
    return replace(
        plain, battery=battery, import_limit_w=wide_w, export_limit_w=wide_w, late_penalty=TOKEN
    )


def compare(arguments: argparse.Namespace) -> tuple[list[dict[str, Any]], Site]:
    """Return a row for each way, and the site."""
    site = site_of()
    world = world_of(site, arguments.days, arguments.first_day, arguments.seed, arguments.farm)
    bare = replace(site, battery=NO_BATTERY)
    ways = [
        Way("none", bare, waits=False, reserve=False),
        Way("taker", site, waits=False, reserve=True),
        Way("plan", site, waits=True, reserve=True),
        Way("plan, no reserve", site, waits=True, reserve=False),
    ]
    rows: list[dict[str, Any]] = []
    for way in ways:
        began = time.monotonic()
        books = Books(way.site.battery.capacity_j / 2)
        length = len(world.price)
        market = Market(way, world, books, np.zeros(length), np.zeros(length))
        market.run(arguments.days, arguments.every)
        _add(rows, row_of(way, books), began)
    for name, reserve in (("foresight", True), ("foresight, no reserve", False)):
        began = time.monotonic()
        best = foresight(Way(name, site, waits=True, reserve=reserve), world, arguments.days)
        _add(rows, best, began)
    return rows, site


def _add(rows: list[dict[str, Any]], row: dict[str, Any], began: float) -> None:
    """Add a row with its gain over the first one, and print it."""
    none_eur = rows[0]["cost_eur"] if rows else row["cost_eur"]
    gain_eur = round(none_eur - row["cost_eur"], 2)
    rows.append({**row, "gain_eur": gain_eur, "wall_s": round(time.monotonic() - began, 1)})
    print(json.dumps(rows[-1]), flush=True)


def targets_of(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return how much of the gain of foresight the plan gains, with and without reserve."""
    gain = {row["way"]: float(row["gain_eur"]) for row in rows}
    return [
        at_least(
            f"share of the gain of foresight{what}",
            round(gain[f"plan{what}"] / gain[f"foresight{what}"], 4),
            "share",
            TARGET,
        )
        for what in ("", ", no reserve")
    ]


def parsed(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the arguments of the command."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--first-day", type=int, default=60, help="day of the wind's year, from 0")
    parser.add_argument("--every", type=int, default=8, help="steps between intraday plans")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--farm", type=Path, default=FARM, help="measured wind")
    return parser.parse_args(argv)


def main() -> None:
    """Print the rows, and the document as the last line."""
    arguments = parsed()
    rows, site = compare(arguments)
    print(
        json.dumps(
            {
                "bench": "grid_backtest",
                "commit": source_commit(),
                "arguments": arguments_of(arguments),
                "prices": "synthetic; mean and share below zero of RTE, France, 2024",
                "wind": "measured, La Haute Borne 2014 (ENGIE)",
                "site": {
                    "fleet": f"{REPLICAS} modelled replicas of llama-3.1-70b, each on 4 H100",
                    "full_draw_w": round(site.most_w),
                    "rated_wind_w": round(WIND_RATIO * site.most_w),
                    "battery_j": round(site.battery.capacity_j),
                },
                "energy_source": "modelled",
                "results": rows,
                "targets": targets_of(rows),
            }
        )
    )


if __name__ == "__main__":
    main()
