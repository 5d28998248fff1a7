"""`steppe demo`: follow one compressed day of wind and sun under a real load."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console

from steppe.config import RunConfig, load_config, shipped_config
from steppe.frontier.cache import frontier_cache
from steppe.frontier.pareto import Frontier
from steppe.load.arrivals import LengthLimits, offered_rate
from steppe.load.synthetic import AZURE_LENGTHS
from steppe.options import FiniteRange, log_format_option
from steppe.report.closing import summary_panel
from steppe.run.live import LiveRun, LogFormat, RunPlan, running_fleet
from steppe.run.output_folders import NewFolder
from steppe.run.starting_frontier import starting_frontier
from steppe.run.warnings import warn_on_stderr

DAY_S = 86_400.0
QUIET_S = 15.0
"""No request is sent in the last seconds of the day, so that the queue can drain, s."""
GRACE_S = 45.0
"""Longest time after the day for what is still outstanding, s."""


@click.command("demo", epilog="Example: steppe demo")
@click.option("--config", type=click.Path(path_type=Path), help="Another config than the demo's.")
@click.option("--record", type=NewFolder(), help="New folder; one in runs/ by default.")
@click.option(
    "--duration",
    type=FiniteRange(min=30),
    help="Seconds; one day of the trace at the config's speedup by default.",
)
@log_format_option
def demo_command(
    config: Path | None, record: Path | None, duration: float | None, log_format: LogFormat
) -> None:
    """Serve a small real model on one day of wind and sun, compressed; ends with a figure."""
    console = Console(stderr=log_format == "json")
    settings = load_config(config or shipped_config("demo.yaml"))
    folder = record or Path("runs") / time.strftime("demo-%Y%m%d-%H%M%S")
    NewFolder().refuse(folder)
    day_s = duration or DAY_S / settings.power.speedup
    with running_fleet(settings, console) as driver:
        start = starting_frontier(driver.actors, settings, frontier_cache(), warn_on_stderr)
        run = LiveRun(driver, RunPlan(settings, folder, day_s + GRACE_S, log_format), console)
        rate_rps = _rate(settings, start.frontier, len(driver.actors.placements))
        console.print(
            f"serving on {driver.url}; load {rate_rps:.2f} requests/s, "
            f"a day in {day_s:.0f} s; energy {driver.actors.energy_source}; "
            f"{start.explanation}",
            soft_wrap=True,
        )
        with _load(settings, driver.url, rate_rps, day_s) as client:
            begun_s = time.monotonic()
            run.follow(
                start,
                lambda: client.poll() is not None and time.monotonic() - begun_s >= day_s,
            )
        summary = run.close()
    assert summary is not None, "the demo is always recorded"
    console.print(summary_panel(summary, folder))


def _rate(config: RunConfig, frontier: Frontier, replicas: int) -> float:
    """Return the arrival rate that the fleet at full power can just serve, requests/s."""
    mean_tokens = AZURE_LENGTHS.mean_output_tokens(config.load.length_scale, _longest(config))
    capacity_tps = frontier.full.output_tps * replicas
    return offered_rate(capacity_tps, config.load.utilisation, mean_tokens)


def _longest(config: RunConfig) -> LengthLimits:
    """Return limits under which prompt and output fit the model together."""
    whole = config.model.max_model_len or 4096
    return LengthLimits(whole // 2, whole // 4)


@contextmanager
def _load(
    config: RunConfig, url: str, rate_rps: float, day_s: float
) -> Generator[subprocess.Popen[bytes]]:
    """Put the load on, from a process of its own; end it with the block."""
    longest = _longest(config)
    command = [sys.executable, "-m", "steppe.cli", "load", "--url", url, "--json"]
    command += ["--trace", config.load.trace, "--rate", f"{rate_rps:.4f}"]
    command += ["--duration", f"{day_s - QUIET_S:.1f}", "--seed", str(config.load.seed)]
    command += ["--length-scale", str(config.load.length_scale)]
    command += ["--max-prompt", str(longest.prompt_tokens)]
    command += ["--max-output", str(longest.output_tokens)]
    client = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield client
    finally:
        client.terminate()
        client.wait(timeout=20)
