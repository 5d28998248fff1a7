"""`steppe grid backtest`: what a plan would have cost and earned on days that are over."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from steppe.cli.grid_options import WIDTH, prices_option, with_prices
from steppe.config import load_config
from steppe.options import GivenPath, json_option
from steppe.report.quantities import share
from steppe.run.grid_backtest import BacktestOrder, document, prepare_backtest, record_backtest
from steppe.run.output_folders import NewFolder
from steppe.run.warnings import warn_on_stderr


@click.command(
    "backtest",
    epilog="Example: steppe grid backtest run.yaml --prices prices.csv --days 30 --record backtest",
)
@click.argument("config", type=GivenPath(path_type=Path))
@prices_option
@click.option(
    "--days", type=click.IntRange(1, 400), default=30, show_default=True, help="How many days."
)
@click.option(
    "--first",
    type=click.DateTime(["%Y-%m-%d"]),
    help="First day; by default the last days of the prices are taken.",
)
@click.option(
    "--every",
    type=click.IntRange(1, 96),
    default=1,
    show_default=True,
    help="Quarters of an hour between two intraday plans.",
)
@click.option("--seed", type=click.IntRange(0), default=0, help="Seed of what is synthetic.")
@click.option("--record", type=NewFolder(), help="New folder for the figure, steps and numbers.")
@json_option
def backtest_command(
    config: Path,
    *,
    prices: Path | None,
    days: int,
    first: datetime | None,
    every: int,
    seed: int,
    record: Path | None,
    as_json: bool,
) -> None:
    """Buy, run and pay on past days: without flexibility, as a price-taker, and with the plan.

    Perfect foresight, one plan with the values of all days, is the most that could be gained.
    Traffic, work and the errors of forecasts are synthetic, and every joule is modelled; a price
    that is not known yet is forecast from the days before. About three minutes for 30 days.
    """
    given = with_prices(load_config(config), prices)
    order = BacktestOrder(days, None if first is None else first.date(), every, seed)
    backtest = prepare_backtest(given, order, warn_on_stderr)
    found = []
    with Console(stderr=True).status("planning") as status:
        for outcome in backtest.outcomes():
            found.append(outcome)
            status.update(f"{outcome.way}: {outcome.cost.cost:,.2f} {backtest.currency}")
    if record is not None:
        record_backtest(backtest, found, record)
    result = document(backtest, found)
    if as_json:
        click.echo(json.dumps(result))
        return
    console = Console()
    console = console if console.is_terminal else Console(width=WIDTH)
    console.print(_table(result))
    for line in result["synthetic"]:
        click.echo(f"synthetic: {line}")
    if record is not None:
        click.echo(f"{record}: backtest.json, steps.csv and figure.png")


def _table(result: dict[str, Any]) -> Table:
    """Return a row for each way."""
    days, currency = result["days"], result["currency"]
    title = f"{days} days from {result['first_day']} ({result['zone']}), {currency}; modelled"
    table = Table(title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("way")
    for name in (
        "cost",
        "energy",
        "imbalance",
        "reserve",
        "missed",
        "late",
        "end",
        "gain",
        "share",
    ):
        table.add_column(name, justify="right")
    for row in result["ways"]:
        money = (
            row["cost"], row["energy"], row["imbalance"], -row["reserve_revenue"],
            row["missed_reserve"], row["late"], row["end"], row["gain"],
        )  # fmt: skip
        amounts = (f"{amount + 0.0:,.2f}" for amount in money)
        table.add_row(row["way"], *amounts, share(row["share_of_foresight"]))
    return table
