"""`steppe grid plan`: what to buy, store and run in each quarter of an hour of a day."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from steppe.cli.grid_options import WIDTH, prices_option, with_prices
from steppe.config import load_config
from steppe.grid.plan.rows import bid_document
from steppe.options import GivenPath, json_option
from steppe.run.grid_day import Bid, DayPlan, day_document, plan_day, write_day
from steppe.run.output_folders import NewFolder
from steppe.run.warnings import warn_on_stderr

_WH = 3600.0


@click.command(
    "plan",
    epilog="Example: steppe grid plan run.yaml --prices prices.csv --day 2026-12-02 --out tomorrow",
)
@click.argument("config", type=GivenPath(path_type=Path))
@prices_option
@click.option(
    "--day",
    type=click.DateTime(["%Y-%m-%d"]),
    help="The day; the last one that the prices cover by default.",
)
@click.option(
    "--bids",
    type=click.Choice(["day", "hours"]),
    default="day",
    show_default=True,
    help="One bid for the day, or one for each hour.",
)
@click.option("--out", type=NewFolder(), help="New folder for plan, bids and limits.")
@json_option
def plan_command(
    config: Path,
    *,
    prices: Path | None,
    day: datetime | None,
    bids: str,
    out: Path | None,
    as_json: bool,
) -> None:
    """Plan a day of the fleet of CONFIG: what to buy, when the battery moves, and when work runs.

    Prints a row for each step, the bid as falling steps, and what the day costs. `--out` writes the
    limits as the body of `PUT /steppe/v1/budget`. Every joule is modelled.
    """
    given = with_prices(load_config(config), prices)
    chosen = None if day is None else day.date()
    plan = plan_day(given, chosen, warn_on_stderr, hourly_bids=bids == "hours")
    if out is not None:
        write_day(plan, out)
    if as_json:
        click.echo(json.dumps(day_document(plan)))
        return
    console = Console()
    console = console if console.is_terminal else Console(width=WIDTH)
    console.print(_table(plan))
    for bid in plan.bids:
        console.print(_bid_table(bid, plan.currency))
    for line in _lines(plan):
        click.echo(line)
    if out is not None:
        click.echo(f"{out}: plan.csv, bids.csv and limits.json")


def _table(plan: DayPlan) -> Table:
    """Return a row for each step."""
    title = f"{plan.day} ({plan.zone}), {plan.currency}/MWh and kW; modelled"
    table = Table(title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in (
        "from", "price", "buy", "wind, sun", "battery", "stored kWh", "draw", "limit",
        "firm tokens/s", "waiting tokens/s", "reserve",
    ):  # fmt: skip
        table.add_column(name, justify="right", min_width=7, no_wrap=False)
    for row in plan.rows:
        table.add_row(
            row.begins[11:16],
            f"{row.price:.2f}",
            _kilo(row.grid_w),
            _kilo(row.renewable_w),
            _kilo(row.battery_w),
            _kilo(row.stored_j / _WH),
            _kilo(row.draw_w),
            _kilo(row.limit_w),
            f"{row.firm_tps:,.0f}",
            f"{row.deferred_tps:,.0f}",
            _kilo(row.down_w),
        )
    return table


def _bid_table(bid: Bid, currency: str) -> Table:
    """Return the steps of a bid, from the highest price."""
    product = "the day" if bid.name == "day" else f"the hour from {bid.name[11:16]}"
    table = Table(title=f"bid for {product}", box=SIMPLE_HEAD)
    table.add_column(f"up to, {currency}/MWh", justify="right")
    table.add_column("buy, kW", justify="right")
    for step in bid_document(bid.steps):
        table.add_row(f"{step['price']:.2f}", _kilo(step["watts"]))
    return table


def _lines(plan: DayPlan) -> list[str]:
    totals = plan.totals
    paid = "nothing" if totals.paid_price is None else f"{totals.paid_price:.2f}"
    lines = [
        f"bought {totals.energy_j / _WH / 1e3:,.1f} kWh for {totals.cost:,.2f} {plan.currency}: "
        f"{paid} per MWh, where the mean price is {totals.mean_price:.2f}",
        f"{totals.firm_tokens / 1e6:,.1f} million tokens that cannot wait, "
        f"{totals.deferred_tokens / 1e6:,.1f} million that can",
    ]
    if totals.late_tokens > 1.0:
        lines.append(f"{totals.late_tokens / 1e6:,.1f} million tokens are late, or given up")
    if totals.shed_tokens > 1.0:
        lines.append(f"no power is left for {totals.shed_tokens / 1e6:,.1f} million tokens")
    return lines


def _kilo(value: float) -> str:
    """Return a thousandth, without a sign before zero."""
    return f"{round(value / 1e3, 1) + 0.0:,.1f}"
