"""A backtest of the plan of the markets with the prices of a file."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from steppe.config import PlanSection, RunConfig
from steppe.config.grid_plan import MILLION
from steppe.disk import disk_errors
from steppe.errors import ConfigError, UsageError
from steppe.grid.backtest import synthetic
from steppe.grid.backtest.terms import MarketTerms
from steppe.grid.backtest.ways import WayOutcome, as_numbers, outcomes, share_of_gain
from steppe.grid.backtest.world import LIKE_DAYS, Traffic, World, like_days
from steppe.grid.plan.day import day_times, local, steps_of_day
from steppe.grid.plan.market_site import MarketSite, plan_section, planner_of, prices_of
from steppe.grid.plan.prices import Prices
from steppe.grid.plan.series import DAY_S, Series, Times
from steppe.grid.plan.series_file import zone_of
from steppe.grid.plan.terms import JOULES_PER_MWH, QUARTER_S, Site, per_mwh
from steppe.report.market_figure import MarketDays, market_figure
from steppe.run.grid_day import aligned, covered, last_day, market_zone
from steppe.run.grid_site import market_site
from steppe.run.warnings import Warn

MORE_DAYS = 2
"""Days after the last one that a plan looks at, where there are prices."""
DOCUMENT_FILE, STEPS_FILE, FIGURE_FILE = "backtest.json", "steps.csv", "figure.png"


@dataclass(frozen=True, slots=True)
class BacktestOrder:
    """What is asked of a backtest.

    Attributes:
        days: How many days.
        first: The first one; None for the last days of the prices.
        every: Steps between two intraday plans.
        seed: Seed of what is synthetic.
    """

    days: int
    first: date | None = None
    every: int = 1
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Backtest:
    """A backtest that is ready to run.

    Attributes:
        order: What is asked.
        first: Its first day.
        zone: Name of the time zone.
        currency: Currency of the prices.
        site: The site.
        world: What happens, and what was expected.
        terms: What the market pays and takes.
        from_s: Begin of the first day, s since the Unix epoch.
        synthetic: What of it is synthetic, a line each.
    """

    order: BacktestOrder
    first: date
    zone: str
    currency: str
    site: Site
    world: World
    terms: MarketTerms
    from_s: float
    synthetic: tuple[str, ...]

    def outcomes(self) -> Iterator[WayOutcome]:
        """Yield what each way costs, perfect foresight last."""
        return outcomes(self.site, self.world, self.terms, self.order.days, self.order.every)


def prepare_backtest(config: RunConfig, order: BacktestOrder, warn: Warn) -> Backtest:
    """Read what a backtest needs.

    Args:
        config: The configuration, with its prices.
        order: What is asked.
        warn: Takes what the user should know, a line each.

    Raises:
        ConfigError: The configuration cannot be planned.
        UsageError: The prices do not cover the days, or a file cannot be read.
    """
    section = plan_section(config)
    if section.step_s != QUARTER_S:
        found = f"{section.step_s:g} s"
        raise ConfigError(f"grid.plan.step_s: asked for 900 s in a backtest, found {found}")
    prices, zone = prices_of(section), market_zone(config)
    first = order.first or _first_day(prices, config, order.days)
    begins_s = day_times(first, zone, section.step_s).from_s
    days = min(order.days + MORE_DAYS, int((prices.per_j.ends_s - begins_s) // DAY_S))
    if days < order.days or begins_s < prices.per_j.begins_s:
        raise UsageError(
            f"asked for prices of {order.days} days from {first}, "
            f"found those {covered(prices, config)}"
        )
    times = Times(begins_s, section.step_s, days * steps_of_day(section.step_s))
    site = market_site(aligned(config, begins_s, warn), begins_s)
    world = _world(site, times, prices.per_j, np.random.default_rng(order.seed))
    return Backtest(
        order=order,
        first=first,
        zone=section.zone,
        currency=prices.currency,
        site=planner_of(site, prices).site,
        world=world,
        terms=_terms(section, site),
        from_s=begins_s,
        synthetic=_synthetic(section),
    )


def document(backtest: Backtest, found: Sequence[WayOutcome]) -> dict[str, Any]:
    """Return a backtest as JSON values."""
    order, none, best = backtest.order, found[0].cost, found[-1].cost
    rows = [
        {
            "way": each.way,
            **as_numbers(each.cost),
            "gain": round(none.cost - each.cost.cost, 2),
            "share_of_foresight": _rounded(share_of_gain(none, each.cost, best)),
        }
        for each in found
    ]
    return {
        "first_day": backtest.first.isoformat(),
        "days": order.days,
        "zone": backtest.zone,
        "currency": backtest.currency,
        "steps_between_plans": order.every,
        "seed": order.seed,
        "energy_source": "modelled",
        "synthetic": list(backtest.synthetic),
        "ways": rows,
    }


def record_backtest(backtest: Backtest, found: Sequence[WayOutcome], folder: Path) -> None:
    """Write a backtest: `backtest.json`, `steps.csv` and `figure.png`.

    Raises:
        UsageError: A file cannot be written.
        DiskFullError: No space is left.
    """
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(document(backtest, found), indent=2) + "\n"
        (folder / DOCUMENT_FILE).write_text(text, encoding="utf-8")
        _write_steps(backtest, found, folder / STEPS_FILE)
        title = f"{backtest.order.days} days from {backtest.first}, {backtest.zone}; modelled"
        steps = backtest.order.days * backtest.terms.day_steps
        shown = MarketDays(
            title=title,
            currency=backtest.currency,
            price=backtest.world.price[:steps] * JOULES_PER_MWH,
            renewable_w=backtest.world.renewable_w[:steps],
            ways={each.way: (each.draw_w, np.cumsum(each.paid)) for each in found},
        )
        market_figure(shown, folder / FIGURE_FILE)


def _rounded(share: float | None) -> float | None:
    return None if share is None else round(share, 4)


def _first_day(prices: Prices, config: RunConfig, days: int) -> date:
    """Return the first of the last days of prices."""
    return last_day(prices, config) - timedelta(days=days - 1)


def _world(site: MarketSite, times: Times, prices: Series, rng: np.random.Generator) -> World:
    """Return what happens, and what was expected."""
    days = min(LIKE_DAYS, int((times.from_s - prices.begins_s) // DAY_S))
    earlier = Times(times.from_s - days * DAY_S, times.step_s, days * steps_of_day(times.step_s))
    price, before = (np.array(prices.means(each), dtype=float) for each in (times, earlier))
    section, full_tps = site.section, site.site.output_of(site.site.most_w)
    forecast_w = np.array(site.renewable_w(times), dtype=float)
    actual_w = np.array(site.supplied_w(times), dtype=float)
    if section.renewable is None or not actual_w.any():
        actual_w = forecast_w
        rated_w = float(actual_w.max()) or 1.0
        forecast_w = rated_w * synthetic.renewable_forecast(actual_w / rated_w, rng)
    usual_tps = np.array(site.firm_tps(times), dtype=float)
    usual_work = np.zeros(times.steps)
    if site.work is not None:
        usual_work = np.array(site.work.tokens_per_s(times), dtype=float) * times.step_s
    day_steps = steps_of_day(times.step_s)
    traffic: Traffic = synthetic.spread(usual_tps, usual_work, full_tps, rng)
    share = 0.0 if section.reserve is None else section.reserve.called_share
    return World(
        price=price,
        price_forecast=like_days(price, day_steps, before),
        renewable_w=actual_w,
        renewable_forecast_w=forecast_w,
        traffic=traffic,
        called=synthetic.calls(times.steps, share, rng),
        memory=synthetic.WIND_MEMORY,
    )


def _terms(section: PlanSection, site: MarketSite) -> MarketTerms:
    work, reserve = site.work, section.reserve
    patience_s, early_s = (DAY_S, 0.0) if work is None else (work.patience_s, work.early_s)
    return MarketTerms(
        token_value=section.token_value / MILLION,
        patience=max(1, round(patience_s / section.step_s)),
        intraday_spread=per_mwh(section.intraday_spread),
        imbalance_spread=per_mwh(section.imbalance_spread),
        reserve_price=0.0 if reserve is None else per_mwh(reserve.price),
        called_share=0.0 if reserve is None else reserve.called_share,
        missed_price=0.0 if reserve is None else per_mwh(reserve.missed_price),
        early=round(early_s / section.step_s),
        day_steps=steps_of_day(section.step_s),
        step_s=section.step_s,
    )


def _synthetic(section: PlanSection) -> tuple[str, ...]:
    found = [
        f"traffic: {synthetic.TRAFFIC_ERROR:.0%} around the usual one",
        f"work: {synthetic.WORK_ERROR:.0%} a day around the usual one",
    ]
    if section.renewable is None:
        error = f"{synthetic.WIND_ERROR:.0%} of the highest"
        found.append(f"forecast of wind and sun: what came, with an error of {error}")
    if section.reserve is not None:
        found.append(
            f"calls of reserve: {section.reserve.called_share:.0%} of the steps, by chance"
        )
    return tuple(found)


def _write_steps(backtest: Backtest, found: Sequence[WayOutcome], path: Path) -> None:
    zone_steps = backtest.order.days * backtest.terms.day_steps
    times = Times(backtest.from_s, backtest.terms.step_s, zone_steps)
    zone = zone_of(backtest.zone)
    names = [each.way.replace(" ", "_").replace("-", "_") for each in found]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        ways = [f"{name}_{what}" for name in names for what in ("bought_w", "draw_w", "paid")]
        writer.writerow(["begins", "price", "renewable_w", *ways])
        for step, at_s in enumerate(times):
            values = [
                round(float(value), 2)
                for each in found
                for value in (each.grid_w[step], each.draw_w[step], each.paid[step])
            ]
            price = round(float(backtest.world.price[step]) * JOULES_PER_MWH, 2)
            wind_w = round(float(backtest.world.renewable_w[step]), 1)
            begins = local(at_s, zone).isoformat()
            writer.writerow([begins, price, wind_w, *values])
