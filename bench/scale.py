"""How many replicas can one controller have, and one simulation; and what breaks first?

Three parts, each a command of its own:

    python bench/scale.py simulator --replicas 1000 3000 10000

simulates a compressed day of wind and sun with the live policy, each size in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any

from rich.console import Console
from rich.table import Table

import scale_simulator
from steppe.measure.provenance import source_commit
from targets import at_most

MOST_TICK_S = 1.0
"""A tick must be done before the next one is due, s: the default control period."""


def document(
    part: str, rows: Sequence[dict[str, Any]], targets: Sequence[dict[str, Any]], arguments: Any
) -> dict[str, Any]:
    """Return the last line of a part."""
    return {
        "bench": f"scale_{part}",
        "commit": source_commit(),
        "hardware": f"{os.cpu_count()} cores, {platform.machine()}",
        "arguments": {k: v for k, v in vars(arguments).items() if not callable(v)},
        "versions": {name: version(name) for name in ("ray", "numpy")},
        "results": list(rows),
        "targets": list(targets),
    }


def simulator(arguments: argparse.Namespace) -> dict[str, Any]:
    """Simulate every size, and print a table."""
    rows = [scale_simulator.measure(n, arguments.simulated_s) for n in arguments.replicas]
    table = Table("replicas", "tick p50", "tick p99", "CPU s / simulated h", "of it ticks", "peak")
    for row in rows:
        tick = row["tick_cpu_s"]
        table.add_row(
            f"{row['replicas']:,}",
            f"{1e3 * tick['p50']:.0f} ms",
            f"{1e3 * tick['p99']:.0f} ms",
            f"{row['cpu_s_per_simulated_hour']:,.0f}",
            f"{row['share_of_ticks']:.0%}",
            f"{row['peak_bytes'] / 1e6:,.0f} MB",
        )
    Console(stderr=True, width=100).print(table)
    last = rows[-1]
    name = f"median tick of {last['replicas']:,} simulated replicas"
    targets = [at_most(name, last["tick_cpu_s"]["p50"], "CPU s", MOST_TICK_S)]
    return document("simulator", rows, targets, arguments)


def main() -> None:
    """Measure one part, and print its table and its document."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parts = parser.add_subparsers(required=True)
    part = parts.add_parser("simulator", help="simulated fleets")
    part.add_argument("--replicas", type=int, nargs="+", default=[1000, 3000, 10_000])
    part.add_argument("--simulated-s", type=float, default=60.0, help="length of a run")
    part.set_defaults(measure=simulator)
    arguments = parser.parse_args()
    measure: Callable[[argparse.Namespace], dict[str, Any]] = arguments.measure
    print(json.dumps(measure(arguments)))


if __name__ == "__main__":
    main()
