"""The last line of a simulated benchmark, and the arguments that every benchmark records."""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steppe.measure.provenance import source_commit

if TYPE_CHECKING:
    from bench_fleets import Bench


def arguments_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of a command without paths, which do not affect a result."""
    return {name: value for name, value in vars(arguments).items() if not isinstance(value, Path)}


def simulated(
    name: str,
    fleets: Sequence[dict[str, Any]],
    arguments: argparse.Namespace,
    rows: Sequence[dict[str, Any]],
    targets: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    """Return the result of fleets in virtual time, each described by `fleet_of`."""
    return {
        "bench": name,
        "commit": source_commit(),
        "hardware": f"one of {os.cpu_count()} cores, {platform.machine()}",
        "arguments": arguments_of(arguments),
        "fleets": list(fleets),
        "energy_source": "modelled",
        "versions": {name: version(name) for name in ("numpy", "scipy")},
        "results": list(rows),
        "targets": list(targets),
    }


def fleet_of(bench: Bench) -> dict[str, Any]:
    """Return fleet, duration, load (share of full power), SLO and control of a simulation.

    The policy is not part of it, because there may be several.
    """
    config = bench.config
    lowest_mhz = min(point.clock_mhz for point in bench.frontier.candidates)
    return {
        "fleet": bench.name,
        "simulated": f"{bench.fleet.replicas} replicas of {config.model.name}, each on "
        f"{bench.gpus} H100, at most {config.engine.max_tokens_per_step} tokens a step; "
        f"points {bench.frontier.source}, none below {lowest_mhz} MHz",
        "duration_s": config.sim.duration_s,
        "utilisation": config.load.utilisation,
        "slo": config.slo.model_dump(mode="json"),
        "wake_s": config.sim.wake_s,
        "sleep_s": config.sim.sleep_s,
        "control": config.control.model_dump(mode="json", exclude={"policy"}),
    }
