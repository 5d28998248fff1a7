"""How much of what perfect foresight gains does the plan of the markets gain in 30 days?

A fleet of 70B replicas beside a wind farm, with a battery and work that may wait for a day. It buys
day ahead at noon, trades intraday every quarter of an hour, and pays for imbalance. Four ways:

    none               no battery, work runs as it comes
    price-taker        a battery that follows prices and sells reserve; work runs as it comes
    plan               the plan of the markets: work waits, too
    perfect foresight  one plan of all 30 days that knows prices, wind, traffic and work, and buys
                       all of it day ahead

Each way pays for the same tokens; work that is late costs its worth. What is stored at the end,
and work that is left, count with the mean price. PRICES ARE SYNTHETIC
(`steppe.grid.backtest.synthetic` names what was published and what is assumed), the wind is
measured, traffic and work are synthetic. Simulated.

    python bench/grid_backtest.py
    python bench/grid_backtest.py --days 3 --first-day 200 --seeds 0 1
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bench_fleets import Size, make_bench
from document import arguments_of
from steppe.config import TraceSupply
from steppe.grid.backtest import synthetic
from steppe.grid.backtest.market import Way
from steppe.grid.backtest.synthetic import STEPS
from steppe.grid.backtest.terms import MarketTerms
from steppe.grid.backtest.ways import (
    FORESIGHT,
    PLAN,
    WayOutcome,
    as_numbers,
    foresight,
    outcome,
    ways_of,
)
from steppe.grid.backtest.world import Floats, World
from steppe.grid.plan.terms import QUARTER_S, Site, edges_of, per_mwh
from steppe.measure.provenance import source_commit
from steppe.power.battery import Battery
from steppe.power.trace import load_trace
from targets import at_least

FARM = Path("../shared/data/renewable/la_haute_borne_wind_8.2MW_10min_2014.csv.gz")
REPLICAS, WIND_RATIO, BATTERY_SHARE, BATTERY_HOURS = 600, 2.0, 0.25, 2.0
"""Replicas; rated wind and power of the battery, over the full draw; and hours at that power."""
TOKEN, FIRM_TOKEN = 0.2e-6, 0.6e-6
"""Worth of a token that can wait and of a firm one, EUR."""
TERMS = MarketTerms(
    token_value=TOKEN,
    patience=STEPS,
    intraday_spread=per_mwh(1.5),
    imbalance_spread=per_mwh(10.0),
    reserve_price=per_mwh(6.0),
    called_share=0.03,
    missed_price=per_mwh(200.0),
)
"""Assumed: how much worse than day ahead each direction is intraday and in imbalance, EUR/MWh; EUR
per MW and hour of reserve downwards, how often a quarter is called, and EUR per MWh not given."""
TARGET = 0.85
ALONE = ", no reserve"
"""Ends the name of a way that sells no reserve."""


def world_of(site: Site, days: int, first_day: int, seed: int, farm: Path) -> World:
    """Return the world of some days, with two days of forecasts after them."""
    rng = np.random.default_rng(seed)
    price, price_forecast = (each * per_mwh(1.0) for each in synthetic.prices(366, rng))
    trace = load_trace(TraceSupply(kind="trace", path=farm, rated_w=1.0))
    begin, count = first_day * STEPS, (days + 2) * STEPS
    share = np.array([trace.at((begin + step) * QUARTER_S) for step in range(count)])
    rated_w = WIND_RATIO * site.most_w

    def expected(steps: range, known_until: int) -> Floats:
        return price_forecast[begin + steps.start : begin + steps.stop]

    return World(
        price=price[begin : begin + count],
        price_forecast=expected,
        renewable_w=rated_w * share,
        renewable_forecast_w=rated_w * synthetic.renewable_forecast(share, rng),
        traffic=synthetic.traffic(days + 2, site.output_of(site.most_w), rng),
        called=synthetic.calls(count, TERMS.called_share, rng),
        memory=synthetic.WIND_MEMORY,
    )


def site_of() -> Site:
    """Return the site."""
    frontier = make_bench(Size("70b", 2, 5.0)).frontier
    floor_w, edges = edges_of(frontier, REPLICAS)
    plain = Site(floor_w, edges, 0.0, FIRM_TOKEN, per_mwh(synthetic.MEAN_PRICE))
    power_w = BATTERY_SHARE * plain.most_w
    battery = Battery(BATTERY_HOURS * 3600 * power_w, power_w, power_w, 0.95, 0.95)
    wide_w = (1 + WIND_RATIO) * plain.most_w
    return replace(
        plain, battery=battery, import_limit_w=wide_w, export_limit_w=wide_w, late_penalty=TOKEN
    )


def compare(site: Site, arguments: argparse.Namespace, seed: int) -> list[dict[str, Any]]:
    """Return a row for each way in the world of a seed, and print them."""
    world = world_of(site, arguments.days, arguments.first_day, seed, arguments.farm)
    plan_alone = Way(PLAN + ALONE, site, waits=True, reserve=False)
    rows: list[dict[str, Any]] = []
    for way in (*ways_of(site, reserve=True), plan_alone):
        began = time.monotonic()
        _add(rows, outcome(way, world, TERMS, arguments.days, arguments.every), seed, began)
    for name, reserve in ((FORESIGHT, True), (FORESIGHT + ALONE, False)):
        began = time.monotonic()
        way = Way(name, site, waits=True, reserve=reserve)
        _add(rows, foresight(way, world, TERMS, arguments.days), seed, began)
    return rows


def _add(rows: list[dict[str, Any]], found: WayOutcome, seed: int, began: float) -> None:
    """Add a row with its gain over the first one, and print it."""
    row = as_numbers(found.cost)
    none = rows[0]["cost"] if rows else row["cost"]
    gain = round(none - row["cost"], 2)
    wall_s = round(time.monotonic() - began, 1)
    rows.append({"seed": seed, "way": found.way, **row, "gain": gain, "wall_s": wall_s})
    print(json.dumps(rows[-1]), flush=True)


def shares_of(rows: Sequence[dict[str, Any]], ending: str) -> list[float]:
    """Return how much of the gain of foresight the plan gains, for each seed."""
    gain = {(row["seed"], row["way"]): float(row["gain"]) for row in rows}
    seeds = sorted({row["seed"] for row in rows})
    return [round(gain[seed, PLAN + ending] / gain[seed, FORESIGHT + ending], 4) for seed in seeds]


def targets_of(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the lowest share of the gain of foresight of all seeds, with and without reserve."""
    return [
        at_least(
            f"lowest share of the gain of foresight{ending}",
            min(shares_of(rows, ending)),
            "share",
            TARGET,
        )
        for ending in ("", ALONE)
    ]


def parsed(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the arguments of the command."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--first-day", type=int, default=60, help="day of the wind's year, from 0")
    parser.add_argument("--every", type=int, default=1, help="steps between intraday plans")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--farm", type=Path, default=FARM, help="measured wind")
    return parser.parse_args(argv)


def main() -> None:
    """Print the rows, and the document as the last line."""
    arguments, site = parsed(), site_of()
    rows = [row for seed in arguments.seeds for row in compare(site, arguments, seed)]
    print(
        json.dumps(
            {
                "bench": "grid_backtest",
                "commit": source_commit(),
                "arguments": arguments_of(arguments),
                "prices": "synthetic; mean and share below zero of RTE, France, 2024",
                "currency": "EUR",
                "wind": "measured, La Haute Borne 2014 (ENGIE)",
                "site": {
                    "fleet": f"{REPLICAS} modelled replicas of llama-3.1-70b, each on 4 H100",
                    "full_draw_w": round(site.most_w),
                    "rated_wind_w": round(WIND_RATIO * site.most_w),
                    "battery_j": round(site.battery.capacity_j),
                },
                "energy_source": "modelled",
                "results": rows,
                "shares": {f"plan{ending}": shares_of(rows, ending) for ending in ("", ALONE)},
                "targets": targets_of(rows),
            }
        )
    )


if __name__ == "__main__":
    main()
