"""The plan of a day: what to buy, the bid for it, and the limits that follow."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, timedelta, tzinfo
from pathlib import Path
from typing import Any

from steppe.config import RunConfig
from steppe.disk import disk_errors
from steppe.errors import ConfigError, UsageError
from steppe.grid.limits.limit import Step
from steppe.grid.openadr.times import text_of
from steppe.grid.plan.bids import BidStep, bid_curve
from steppe.grid.plan.day import day_of, day_times, local, steps_of_day
from steppe.grid.plan.market_site import plan_section, planner_of, prices_of
from steppe.grid.plan.planner import PlanStart
from steppe.grid.plan.prices import Prices
from steppe.grid.plan.rows import (
    PlanTotals,
    Row,
    bid_document,
    row_document,
    rows_of,
    totals_of,
)
from steppe.grid.plan.series import Times
from steppe.grid.plan.series_file import zone_of
from steppe.power.supply import supply_from_config
from steppe.run.grid_site import market_site
from steppe.run.warnings import Warn

PLAN_FILE, BIDS_FILE, LIMITS_FILE = "plan.csv", "bids.csv", "limits.json"
"""Files of a plan: a row for each step, the bid's steps, and a body for `PUT /steppe/v1/budget`."""
HOUR_S = 3600.0


@dataclass(frozen=True, slots=True)
class Bid:
    """The bid for a product.

    Attributes:
        name: The product: the day, or the hour that begins then.
        steps: Its steps, from the highest price.
    """

    name: str
    steps: tuple[BidStep, ...]


@dataclass(frozen=True, slots=True)
class DayPlan:
    """The plan of a day.

    Attributes:
        day: The day.
        zone: Name of the time zone.
        currency: Currency of its prices.
        step_s: Length of a step, s.
        rows: A row for each step.
        totals: Their totals.
        bids: The bids.
        limits: The limits of the site.
        ends_s: End of the day, s since the Unix epoch.
    """

    day: date
    zone: str
    currency: str
    step_s: float
    rows: tuple[Row, ...]
    totals: PlanTotals
    bids: tuple[Bid, ...]
    limits: tuple[Step, ...]
    ends_s: float


def plan_day(
    config: RunConfig, day: date | None, warn: Warn, *, hourly_bids: bool = False
) -> DayPlan:
    """Return the plan of a day.

    The plan looks a day further, so that work and battery do not end with the day.

    Args:
        config: The configuration, with its prices.
        day: The day; the last one that the prices cover by default.
        warn: Takes what the user should know, a line each.
        hourly_bids: Whether to make a bid for each hour instead of one for the whole day.

    Raises:
        ConfigError: The configuration cannot be planned.
        UsageError: The prices do not cover the day, or a file cannot be read.
    """
    section = plan_section(config)
    prices = prices_of(section)
    zone = market_zone(config)
    chosen = day or last_day(prices, config)
    times = day_times(chosen, zone, section.step_s)
    if not prices.per_j.covers(times.from_s, times.ends_s):
        raise UsageError(f"asked for prices of {chosen}, found those {covered(prices, config)}")
    site = market_site(aligned(config, times.from_s, warn), times.from_s)
    planner = planner_of(site, prices)
    ahead = Times(times.from_s, section.step_s, times.steps + steps_of_day(section.step_s))
    dated = planner.plan(ahead, PlanStart(site.stored_j))
    if dated.prices_missing:
        warn(f"no prices for {dated.prices_missing} steps after {chosen}: those of the day before")
    limits = tuple(step for step in planner.limits(dated) if step.from_s < times.ends_s)
    rows = rows_of(dated, limits, zone, times.steps)
    products = _hours(times) if hourly_bids else {"day": range(times.steps)}
    return DayPlan(
        day=chosen,
        zone=section.zone,
        currency=prices.currency,
        step_s=section.step_s,
        rows=rows,
        totals=totals_of(rows, section.step_s, 0),
        bids=tuple(
            Bid(_named(name, times, steps, config), bid_curve(planner.site, dated.outlook, steps))
            for name, steps in products.items()
        ),
        limits=limits,
        ends_s=times.ends_s,
    )


def market_zone(config: RunConfig) -> tzinfo:
    """Return the time zone of the market."""
    return zone_of(plan_section(config).zone)


def last_day(prices: Prices, config: RunConfig) -> date:
    """Return the last day that prices cover.

    Raises:
        UsageError: They cover none.
    """
    zone, step_s = market_zone(config), plan_section(config).step_s
    day = day_of(prices.per_j.ends_s, zone)
    for back in range(3):
        times = day_times(day - timedelta(days=back), zone, step_s)
        if prices.per_j.covers(times.from_s, times.ends_s):
            return day - timedelta(days=back)
    raise UsageError(f"asked for prices of a whole day, found those {covered(prices, config)}")


def covered(prices: Prices, config: RunConfig) -> str:
    """Return from when to when there are prices, in words."""
    zone, series = market_zone(config), prices.per_j
    return f"from {local(series.begins_s, zone)} to {local(series.ends_s, zone)}"


def aligned(config: RunConfig, from_s: float, warn: Warn) -> RunConfig:
    """Return the configuration with supplies that begin at a calendar time, where they have it.

    A weather year has any day; a trace only those that were recorded. Where one does not have it,
    the supplies are replayed from `power.start`.
    """
    start = local(from_s, market_zone(config))
    power = config.power.model_copy(update={"start": start})
    try:
        for each in power.supply:
            supply_from_config(each, power, lambda: from_s)
    except ConfigError:
        warn(f"the supplies have no {start.date()}: they are replayed from power.start")
        return config
    return config.model_copy(update={"power": power})


def write_day(plan: DayPlan, folder: Path) -> None:
    """Write a plan: `plan.csv`, `bids.csv` and `limits.json`.

    Raises:
        UsageError: A file cannot be written.
        DiskFullError: No space is left.
    """
    rows = [row_document(row) for row in plan.rows]
    bids = [{"product": bid.name} | step for bid in plan.bids for step in bid_document(bid.steps)]
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        _write_table(folder / PLAN_FILE, rows)
        _write_table(folder / BIDS_FILE, bids)
        text = json.dumps(limits_document(plan), indent=2) + "\n"
        (folder / LIMITS_FILE).write_text(text, encoding="utf-8")


def limits_document(plan: DayPlan) -> dict[str, Any]:
    """Return the limits as the body of `PUT /steppe/v1/budget`."""
    return {
        "name": "day-ahead",
        "schedule": [{"from": text_of(step.from_s), "limit_w": step.watts} for step in plan.limits],
        "expires": text_of(plan.ends_s),
    }


def day_document(plan: DayPlan) -> dict[str, Any]:
    """Return a plan as JSON values."""
    totals = plan.totals
    return {
        "day": plan.day.isoformat(),
        "zone": plan.zone,
        "currency": plan.currency,
        "step_s": plan.step_s,
        "energy_source": "modelled",
        "totals": {name: round(value, 2) for name, value in asdict(totals).items()}
        | {"paid_price": None if totals.paid_price is None else round(totals.paid_price, 2)},
        "rows": [row_document(row) for row in plan.rows],
        "bids": [{"product": bid.name, "steps": bid_document(bid.steps)} for bid in plan.bids],
        "limits": limits_document(plan),
    }


def _hours(times: Times) -> dict[str, range]:
    each = round(HOUR_S / times.step_s)
    return {str(first): range(first, first + each) for first in range(0, times.steps, each)}


def _named(name: str, times: Times, steps: range, config: RunConfig) -> str:
    if name == "day":
        return name
    return local(times.from_s + steps[0] * times.step_s, market_zone(config)).isoformat()


def _write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
