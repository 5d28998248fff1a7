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
from steppe.load.arrivals import LengthLimits, offered_rate
from steppe.load.synthetic import AZURE_LENGTHS
from steppe.report.summary import Summary
from steppe.run.live import LiveRun, RunPlan, running_fleet
from steppe.run.starting_frontier import starting_frontier
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
    with running_fleet(config, console) as driver:
        start = starting_frontier(driver.actors, config, frontier_cache(), warn_on_stderr)
        run = LiveRun(driver, RunPlan(config, folder, day_s + GRACE_S), console)
        rate_rps = arrival_rate(config, start.frontier, len(driver.actors.placements))
        console.print(
            f"serving on {driver.url}; load {rate_rps:.2f} requests/s, "
            f"a day in {day_s:.0f} s; energy {driver.actors.energy_source}; {start.explanation}"
        )
        with _load(config, driver.url, rate_rps, day_s) as client:
            begun_s = time.monotonic()
            run.follow(
                start, lambda: client.poll() is not None and time.monotonic() - begun_s >= day_s
            )
        summary = run.close()
    assert summary is not None, "the demo is always recorded"
    return summary


def arrival_rate(config: RunConfig, frontier: Frontier, replicas: int) -> float:
    """Return the arrival rate of the load, requests/s: as configured, or by the utilisation.

    Args:
        config: The run.
        frontier: Operating points of one replica.
        replicas: Number of replicas.
    """
    if config.load.rate_rps is not None:
        return config.load.rate_rps
    mean_tokens = AZURE_LENGTHS.mean_output_tokens(config.load.length_scale, _length_limits(config))
    capacity_tps = frontier.full.output_tps * replicas
    return offered_rate(capacity_tps, config.load.utilisation, mean_tokens)


def _length_limits(config: RunConfig) -> LengthLimits:
    """Return limits under which prompt and output fit the model together."""
    whole = config.model.max_model_len or DEFAULT_LENGTH
    return LengthLimits(whole // 2, whole // 4)


@contextmanager
def _load(
    config: RunConfig, url: str, rate_rps: float, day_s: float
) -> Generator[subprocess.Popen[bytes]]:
    """Send the load from a process of its own, which ends with the block."""
    limits = _length_limits(config)
    command = [sys.executable, "-m", "steppe", "load", "--url", url, "--json"]
    command += ["--trace", config.load.trace, "--rate", f"{rate_rps:.4f}"]
    command += ["--duration", f"{day_s - QUIET_S:.1f}", "--seed", str(config.load.seed)]
    command += ["--length-scale", str(config.load.length_scale)]
    command += ["--max-prompt", str(limits.prompt_tokens)]
    command += ["--max-output", str(limits.output_tokens)]
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
