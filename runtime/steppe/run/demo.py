"""The demo: a compressed day of wind and sun, under a real load."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from steppe.config import RunConfig
from steppe.frontier.cache import frontier_cache
from steppe.frontier.pareto import Frontier
from steppe.load.arrivals import LengthLimits
from steppe.load.synthetic import SyntheticLoad
from steppe.report.summary import Summary
from steppe.run.live import LiveRun, RunPlan
from steppe.run.load_traffic import synthetic_load
from steppe.run.running_fleet import running_fleet
from steppe.run.service_folders import with_service_folders
from steppe.run.starting_frontier import explanation, starting_frontiers
from steppe.run.warnings import warn_on_stderr

DAY_S = 86_400.0
QUIET_S = 15.0
"""Time without new requests at the end of the day, so that the queue can drain, s."""
GRACE_S = 45.0
"""Longest time after the day for outstanding requests, s."""
DEFAULT_LENGTH = 4096
"""Assumed longest prompt and output together if the config gives none, tokens."""
END_S = 20.0
"""Longest wait for the load to end, s."""


def run_day(config: RunConfig, folder: Path, day_s: float, console: Console) -> Summary:
    """Serve a day under the load of the config, and record it.

    Args:
        config: The run.
        folder: New folder of the record.
        day_s: Length of the day, s.
        console: Where to show it.

    Raises:
        SteppeError: The fleet could not start.
    """
    config = with_service_folders(config, folder)
    with running_fleet(config, console, folder) as driver:
        starts = starting_frontiers(driver.actors, config, frontier_cache(), warn_on_stderr)
        run = LiveRun(driver, RunPlan(config, folder, day_s + GRACE_S), console)
        first = next(iter(starts.values()))
        load, rate_rps = demo_load(config, first.frontier, len(driver.actors.ready))
        console.print(
            f"serving on {driver.url}; load {rate_rps:.2f} requests/s, "
            f"a day in {day_s:.0f} s; energy {driver.actors.energy_source}; {explanation(starts)}"
        )
        command = load_command(config, load, rate_rps, day_s)
        with _running([*command, "--url", driver.url]) as client:
            begun_s = time.monotonic()
            run.follow(
                starts, lambda: client.poll() is not None and time.monotonic() - begun_s >= day_s
            )
        summary = run.close()
    assert summary is not None, "the demo is always recorded"
    return summary


def demo_load(config: RunConfig, frontier: Frontier, replicas: int) -> tuple[SyntheticLoad, float]:
    """Return the traffic of the load, and its arrival rate, requests/s: given, or by utilisation.

    Args:
        config: The run.
        frontier: Operating points of one replica.
        replicas: Number of replicas.
    """
    return synthetic_load(config.load, frontier.full.output_tps * replicas, _length_limits(config))


def _length_limits(config: RunConfig) -> LengthLimits:
    """Return limits under which prompt and output fit the model together."""
    whole = config.model.max_model_len or DEFAULT_LENGTH
    return LengthLimits(whole // 2, whole // 4)


def load_command(
    config: RunConfig, load: SyntheticLoad, rate_rps: float, day_s: float
) -> list[str]:
    """Return the command that sends the load, without the address of the server.

    Args:
        config: The run.
        load: The changes of its traffic.
        rate_rps: Mean arrival rate, requests/s.
        day_s: Length of the day, s.
    """
    limits, asked = _length_limits(config), config.load
    command = [sys.executable, "-m", "steppe", "load", "--json"]
    command += ["--trace", asked.trace, "--rate", f"{rate_rps:.4f}"]
    if asked.trace == "synthetic":
        command += ["--traffic", asked.traffic]
    for named, change in zip(asked.traffic_changes, load.changes, strict=True):
        change_rps = rate_rps if change.rate_rps is None else change.rate_rps
        command += ["--traffic-change", f"{named.at_s}:{named.traffic}:{change_rps:.4f}"]
    command += ["--duration", f"{day_s - QUIET_S:.1f}", "--seed", str(asked.seed)]
    command += ["--length-scale", str(asked.length_scale)]
    command += ["--max-prompt", str(limits.prompt_tokens)]
    command += ["--max-output", str(limits.output_tokens)]
    return command


@contextmanager
def _running(command: list[str]) -> Generator[subprocess.Popen[bytes]]:
    """Run the load in a process of its own, which ends with the block."""
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
        client.wait(timeout=END_S)
