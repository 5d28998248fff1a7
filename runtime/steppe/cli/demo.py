"""`steppe demo`: follow one compressed day of wind and sun under a real load."""

from __future__ import annotations

import time
from pathlib import Path

import click
from rich.console import Console

from steppe.cli.ledger_audit import show_audit
from steppe.config import load_config, shipped_config
from steppe.options import FiniteRange
from steppe.report.closing import summary_panel
from steppe.run.demo import DAY_S, run_day
from steppe.run.ledger_folder import ledger_folder
from steppe.run.output_folders import NewFolder


@click.command("demo", epilog="Example: steppe demo")
@click.option("--config", type=click.Path(path_type=Path), help="Another config than the demo's.")
@click.option("--record", type=NewFolder(), help="New folder; one in runs/ by default.")
@click.option(
    "--duration",
    type=FiniteRange(min=30),
    help="Seconds; one day of the trace at the config's speedup by default.",
)
def demo_command(config: Path | None, record: Path | None, duration: float | None) -> None:
    """Serve a small real model on one day of wind and sun, compressed; ends with its books."""
    console = Console()
    settings = load_config(config or shipped_config("demo.yaml"))
    folder = record or Path("runs") / time.strftime("demo-%Y%m%d-%H%M%S")
    NewFolder().refuse(folder)
    summary = run_day(settings, folder, duration or DAY_S / settings.power.speedup, console)
    console.print(summary_panel(summary, folder))
    if summary["ledger"]:
        books = folder / summary["ledger"][-1]["folder"]
        console.print(f"steppe ledger audit {books}", style="bold", soft_wrap=True)
        show_audit(ledger_folder(books), books)
