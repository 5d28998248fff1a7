"""`steppe serve`: serve a model within a power budget."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import click
from rich.console import Console

from steppe.config import load_config
from steppe.frontier.cache import frontier_cache
from steppe.options import ABOVE_ZERO, GivenPath, log_format_option
from steppe.power.budget import budget_from_config
from steppe.report.closing import summary_panel
from steppe.report.live import plain_end
from steppe.report.record_folder import summary_text
from steppe.run.check_supply import warn_of_early_end
from steppe.run.doctor.examine import refuse_unfit
from steppe.run.live import LiveRun, LogFormat, RunPlan, running_fleet
from steppe.run.output_folders import RunFolder, refuse_record
from steppe.run.starting_frontier import explanation, starting_frontiers
from steppe.run.warnings import warn_on_stderr


@click.command(
    "serve", epilog="Example: steppe serve configs/demo.yaml --record runs/today --duration 600"
)
@click.argument("config", type=GivenPath(path_type=Path))
@click.option("--record", type=RunFolder(), help="New folder to record the run in.")
@click.option(
    "--resume", is_flag=True, help="Go on with the record of an earlier run in that folder, if any."
)
@click.option(
    "--duration",
    type=ABOVE_ZERO,
    help="Seconds to serve; until Ctrl-C by default.",
)
@log_format_option
@click.option(
    "--force", is_flag=True, help="Use a frontier file (frontier.file) that is of another GPU."
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as one JSON document.")
def serve_command(
    config: Path,
    *,
    record: Path | None,
    resume: bool,
    duration: float | None,
    log_format: LogFormat,
    force: bool,
    as_json: bool,
) -> None:
    """Serve the model, or the models, of CONFIG within its power budget."""
    if record is not None:
        refuse_record(record, resume=resume)
    console = Console(stderr=as_json or log_format == "json")
    settings = load_config(config)
    budget = budget_from_config(settings.power, settings.site)
    warn_of_early_end(settings.power, budget, duration or math.inf, warn_on_stderr)
    with _folder(record, as_json) as folder:
        refuse = partial(refuse_unfit, serves=True, any_gpu=force)
        with running_fleet(settings, console, folder, refuse) as driver:
            starts = starting_frontiers(
                driver.actors, settings, frontier_cache(), warn_on_stderr, any_gpu=force
            )
            run = LiveRun(driver, RunPlan(settings, folder, duration, log_format, resume), console)
            console.print(f"serving on {driver.url}; {explanation(starts)}", soft_wrap=True)
            if settings.serves_without_keys:
                reach = "this machine" if settings.gateway.is_local else "the network"
                console.print(f"no keys are configured: all of {reach} may ask", soft_wrap=True)
            run.follow(starts)
            summary = run.close()
        if as_json and summary is not None:
            click.echo(summary_text(summary), nl=False)
        elif summary is not None and folder is not None:
            console.print(summary_panel(summary, folder))
        else:
            console.print(plain_end(run.so_far), soft_wrap=True)
    if run.lost is not None:
        raise run.lost


@contextmanager
def _folder(record: Path | None, as_json: bool) -> Generator[Path | None]:
    """Return the folder to record in; a temporary one if only the summary is wanted."""
    if record is not None or not as_json:
        yield record
        return
    with tempfile.TemporaryDirectory(prefix="steppe-") as folder:
        yield Path(folder)
