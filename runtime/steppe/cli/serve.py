"""`steppe serve`: serve a model within a power budget."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console

from steppe.cli.out_folders import NewFolder
from steppe.cli.running import Run, RunPlan, find_frontier, running_fleet
from steppe.config import load_config
from steppe.options import ABOVE_ZERO
from steppe.report.closing import summary_panel
from steppe.report.recorder import summary_text


@click.command(
    "serve", epilog="Example: steppe serve configs/demo.yaml --record runs/today --duration 600"
)
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--record", type=NewFolder(), help="New folder to write the run down in.")
@click.option(
    "--duration",
    type=ABOVE_ZERO,
    help="Seconds to serve; until Ctrl-C by default.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as one JSON document.")
def serve_command(config: Path, record: Path | None, duration: float | None, as_json: bool) -> None:
    """Serve the model of CONFIG and keep its draw on the power budget."""
    console = Console(stderr=as_json)
    settings = load_config(config)
    plan = RunPlan(settings, record, duration)
    with running_fleet(settings, console) as driver:
        run = Run(driver, plan, console)
        frontier = find_frontier(driver, settings, console)
        console.print(f"serving on {driver.url}")
        run.follow(frontier)
        summary = run.close()
    if summary is not None and record is not None:
        if as_json:
            click.echo(summary_text(summary))
        else:
            console.print(summary_panel(summary, record))
