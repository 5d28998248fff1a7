"""`steppe demo-sites`: one day of wind and sun at three sites, with and without moving requests."""

from __future__ import annotations

import time
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from steppe.config import shipped_config
from steppe.errors import SteppeError
from steppe.options import FiniteRange, GivenPath
from steppe.run.demo_sites.demo import DEMO_FILE, DemoResult, run_demo_sites
from steppe.run.demo_sites.outcome import lines_of
from steppe.run.output_folders import NewFolder

DAY_S = 90.0
"""Length of a day, s."""


@click.command("demo-sites", epilog="Example: steppe demo-sites")
@click.option(
    "--config",
    type=GivenPath(path_type=Path),
    help="Folder with sites.yaml and a file for each site; configs/east_west by default.",
)
@click.option("--record", type=NewFolder(), help="New folder; one in runs/ by default.")
@click.option(
    "--duration",
    type=FiniteRange(min=20),
    default=DAY_S,
    show_default=True,
    help="Length of a day, s. There are two of the same weather.",
)
def demo_sites_command(config: Path | None, record: Path | None, duration: float) -> None:
    """Serve a compressed day at three sites twice: at the nearest one, then where power is left.

    Exit code 0: more requests were served on surplus than at the nearest site, and the books of all
    sites agree. Every joule is emulated.
    """
    console = Console()
    folder = record or Path("runs") / time.strftime("demo-sites-%Y%m%d-%H%M%S")
    NewFolder().refuse(folder)
    found = run_demo_sites(config or shipped_config("east_west"), folder, duration, console)
    _show(found, folder, console)
    if found.faults:
        count = len(found.faults)
        error = SteppeError(f"{folder}: {count} {'fault' if count == 1 else 'faults'}")
        for fault in found.faults:
            error.add_note(fault)
        raise error


def _show(found: DemoResult, folder: Path, console: Console) -> None:
    table = Table(box=None, pad_edge=False)
    for name in ("energy emulated", "nearest site", "Steppe"):
        table.add_column(name, justify="left" if name == "energy emulated" else "right")
    for row in lines_of(found.sums, found.clients):
        table.add_row(*row)
    console.print(table)
    for line in found.books.lines:
        console.print(line, soft_wrap=True, highlight=False)
    console.print(f"{found.figure}\n{folder / DEMO_FILE}", soft_wrap=True, highlight=False)
