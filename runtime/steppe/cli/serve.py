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
from steppe.errors import UsageError
from steppe.frontier.cache import frontier_cache
from steppe.options import ABOVE_ZERO, GivenPath, log_format_option
from steppe.power.budget import budget_from_config
from steppe.report.closing import summary_panel
from steppe.report.live import plain_end
from steppe.report.record_folder import summary_text
from steppe.report.summary import Summary
from steppe.run.check_supply import warn_of_early_end
from steppe.run.doctor.examine import refuse_unfit
from steppe.run.driver_keeper import keep_drivers
from steppe.run.live import LiveRun, LogFormat, RunPlan
from steppe.run.output_folders import RunFolder, refuse_record
from steppe.run.run_state import RunState
from steppe.run.running_fleet import (
    DriverOfTwo,
    become_active,
    running_fleet,
    taken_over_fleet,
)
from steppe.run.service_folders import with_service_folders
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
@click.option(
    "--standby",
    is_flag=True,
    help="Keep a second driver that takes over when the first one dies; clients notice nothing.",
)
@click.option("--driver-of", type=(str, int), hidden=True, help="Be one of the drivers of a run.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as one JSON document.")
def serve_command(
    config: Path,
    *,
    record: Path | None,
    resume: bool,
    duration: float | None,
    log_format: LogFormat,
    force: bool,
    standby: bool,
    driver_of: tuple[str, int] | None,
    as_json: bool,
) -> None:
    """Serve the model, or the models, of CONFIG within its power budget."""
    console = Console(stderr=as_json or log_format == "json")
    of_two, known = None, None
    if driver_of is not None:
        of_two, known = become_active(*driver_of)
        if of_two is None:
            return  # the run has ended
    if record is not None and known is None:
        refuse_record(record, resume=resume)
    settings = load_config(config) if known is None else known.config
    if standby and settings.ray.address != "local":
        asked = f"--standby: asked for with ray.address: {settings.ray.address}"
        raise UsageError(f"{asked}; a standby is for a cluster that the run starts (local)")
    with _folder(record, as_json) as folder:
        if standby:
            # a driver would end with the error again and again
            with_service_folders(settings, folder)
            command = _command(config, folder, duration, log_format)
            flags = {"--resume": resume, "--force": force, "--json": as_json}
            raise SystemExit(keep_drivers([*command, *(f for f, given in flags.items() if given)]))
        settings = with_service_folders(settings, folder, warn_on_stderr)
        plan = RunPlan(settings, folder, duration, log_format, resume)
        if known is None:
            run, summary = _serve(plan, console, of_two, any_gpu=force)
        else:
            assert of_two is not None, "only one of two drivers knows of an earlier one"
            run, summary = _serve_on(plan, console, of_two, known)
        if as_json and summary is not None:
            click.echo(summary_text(summary), nl=False)
        elif summary is not None and folder is not None:
            console.print(summary_panel(summary, folder))
        else:
            console.print(plain_end(run.so_far), soft_wrap=True)
    if run.lost is not None:
        raise run.lost


def _serve(
    plan: RunPlan, console: Console, of_two: DriverOfTwo | None, *, any_gpu: bool
) -> tuple[LiveRun, Summary | None]:
    """Start a fleet and serve with it until the run ends."""
    config = plan.config
    budget = budget_from_config(config.power, config.site)
    warn_of_early_end(config.power, budget, plan.duration_s or math.inf, warn_on_stderr)
    refuse = partial(refuse_unfit, serves=True, any_gpu=any_gpu)
    with running_fleet(config, console, plan.record, refuse, of_two) as driver:
        starts = starting_frontiers(
            driver.actors, config, frontier_cache(), warn_on_stderr, any_gpu=any_gpu
        )
        run = LiveRun(driver, plan, console, None if of_two is None else of_two.shared)
        console.print(f"serving on {driver.url}; {explanation(starts)}", soft_wrap=True)
        if config.serves_without_keys:
            reach = "this machine" if config.gateway.is_local else "the network"
            console.print(f"no keys are configured: all of {reach} may ask", soft_wrap=True)
        run.follow(starts)
        return run, run.close()


def _serve_on(
    plan: RunPlan, console: Console, of_two: DriverOfTwo, known: RunState
) -> tuple[LiveRun, Summary | None]:
    """Take over the fleet of a driver that has died, and serve until the run ends."""
    with taken_over_fleet(known, of_two) as driver:
        run = LiveRun(driver, plan, console, of_two.shared, known)
        console.print(f"another driver has taken over; serving on {driver.url}", soft_wrap=True)
        run.follow({})
        return run, run.close()


def _command(
    config: Path, folder: Path | None, duration: float | None, log_format: LogFormat
) -> list[str]:
    """Return the command of a driver without its flags."""
    command = ["serve", str(config), "--log-format", log_format]
    command += [] if folder is None else ["--record", str(folder)]
    return command + ([] if duration is None else ["--duration", str(duration)])


@contextmanager
def _folder(record: Path | None, as_json: bool) -> Generator[Path | None]:
    """Return the folder to record in; a temporary one if only the summary is wanted."""
    if record is not None or not as_json:
        yield record
        return
    with tempfile.TemporaryDirectory(prefix="steppe-") as folder:
        yield Path(folder)
