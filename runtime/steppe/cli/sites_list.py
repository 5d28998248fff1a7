"""`steppe sites list`: the site of a run and the others, as that run sees them."""

from __future__ import annotations

from pathlib import Path

import click
import orjson
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from steppe.batch.api_client import ApiClient
from steppe.options import GivenPath, GivenText, json_option
from steppe.report.quantities import UNKNOWN, quantity
from steppe.run.batch import read_key
from steppe.sites.state import SitesState, read_state
from steppe.sites.view import SiteView

GATEWAY = "http://127.0.0.1:8000"
"""The gateway that is asked if none is named."""
COLUMNS = (
    "site", "health", "round trip", "budget", "draw", "surplus", "free tokens/s", "waiting", "age",
)  # fmt: skip


@click.command("list", epilog="Example: steppe sites list http://127.0.0.1:8000")
@click.argument("url", type=GivenText(), default=GATEWAY)
@click.option(
    "--key-file", type=GivenPath(path_type=Path), help="File with the key for the gateway."
)
@json_option
def list_command(url: str, key_file: Path | None, as_json: bool) -> None:
    """Show this site and the others, as the run behind the gateway at URL knows them now."""
    found = ApiClient(url, read_key(key_file)).ask("GET", "/steppe/v1/sites")
    if as_json:
        click.echo(orjson.dumps(found, option=orjson.OPT_INDENT_2))
        return
    state = read_state(orjson.dumps(found), 0.0)
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in COLUMNS:
        table.add_column(name, justify="left" if name in ("site", "health") else "right")
    for row in rows_of(state):
        table.add_row(*row)
    console = Console()
    console.print(table)
    for lease in state.leases:
        if lease.output_tps > 0.0:
            tps = f"{lease.output_tps:.0f} tokens/s"
            click.echo(f"may send {tps} of {lease.model} ({lease.priority}) to {lease.site}")


def rows_of(state: SitesState) -> list[tuple[str, ...]]:
    """Return a row for each site, this one first; the state was read at 0 s."""
    rows = [(state.site, "here", UNKNOWN, *_of_view(state.here))]
    for peer in state.peers:
        health = "suspect" if peer.site in state.suspects else str(peer.health).replace("_", " ")
        rows.append((peer.site, health, f"{1e3 * peer.rtt_s:.1f} ms", *_of_view(peer.view)))
    return rows


def _of_view(view: SiteView | None) -> tuple[str, ...]:
    if view is None:
        return (UNKNOWN,) * (len(COLUMNS) - 3)
    pools = view.pools.values()
    watts = (quantity(each, "W") for each in (view.budget_w, view.draw_w, view.surplus_w))
    free_tps = sum(pool.free_tps for pool in pools)
    waiting = sum(pool.waiting for pool in pools)
    return (*watts, f"{free_tps:.0f}", str(waiting), f"{-view.received_s:.1f} s")
