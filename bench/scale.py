"""How many replicas can one controller have, and one simulation; and what breaks first?

Four parts, each a command of its own:

    python bench/scale.py fleet --replicas 16 64
    python bench/scale.py controller --replicas 64 256 1000
    python bench/scale.py gateway --replicas 16 1000 3000
    python bench/scale.py simulator --replicas 1000 3000 10000

`fleet` is a live fleet of synthetic replicas on several Ray nodes of this machine: a process for
each replica. `controller` is the controller side alone: a real controller, gateway and books over
Ray, fed by stand-ins with reports of the real type, because a machine of this size does not hold
the processes of 1,000 replicas. `gateway` is the table of a gateway. `simulator` is a compressed
day of wind and sun with the live policy.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import scale_controller
import scale_fleet
import scale_gateway
import scale_simulator
from scale_stand_ins import Work
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


def fleet(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run a live fleet of every size."""
    rows = [
        scale_fleet.measure(n, arguments.start_s, arguments.seconds) for n in arguments.replicas
    ]
    table = Table("replicas", "Ray nodes", "served", "all served", "tick p50", "tick p99", "memory")
    for row in rows:
        table.add_row(
            str(row["replicas"]),
            str(row["nodes"]),
            str(row["served"]),
            f"{row['start_to_all_served_s']:.0f} s ({row['ended']})",
            *_ms(row["tick_s"]),
            f"{row['memory_taken_bytes'] / 1e9:.1f} GB",
        )
    _show(table)
    ticks = [(r["replicas"], r["tick_s"]["p99"]) for r in rows if r["tick_s"] is not None]
    targets = [at_most(f"p99 tick of {n} replicas", s, "s", MOST_TICK_S) for n, s in ticks[-1:]]
    return document("fleet", rows, targets, arguments)


def controller(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run a controller over stand-ins for every size."""
    work, rows = Work(arguments.running, scale_simulator.RATE_RPS), []
    for replicas in arguments.replicas:
        with tempfile.TemporaryDirectory() as folder:
            record = Path(folder) / "record"
            rows.append(scale_controller.measure(replicas, work, arguments.ticks, record))
    table = Table("replicas", "tick p50", "tick p99", "cores", "report", "books p99", "controller")
    for row in rows:
        table.add_row(
            f"{row['replicas']:,}",
            *_ms(row["tick_s"]),
            f"{row['controller_cores']:.2f}",
            f"{row['report_bytes']:.0f} B",
            f"{1e3 * row['driver_s']['books']['p99']:.0f} ms",
            f"{row['memory_bytes']['controller'] / 1e6:.0f} MB",
        )
    _show(table)
    last = rows[-1]
    name = f"p99 tick of {last['replicas']:,} stand-ins"
    targets = [at_most(name, last["tick_s"]["p99"], "s", MOST_TICK_S)]
    return document("controller", rows, targets, arguments)


def gateway(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure the table of a gateway of every size."""
    rows = [scale_gateway.measure(n, arguments.repeats) for n in arguments.replicas]
    table = Table("replicas", "choice p50", "by prefix p50", "p99", "new table p50", "table")
    for row in rows:
        table.add_row(
            f"{row['replicas']:,}",
            f"{1e6 * row['choice_s']['p50']:.0f} us",
            f"{1e6 * row['choice_by_prefix_s']['p50']:.0f} us",
            f"{1e6 * row['choice_by_prefix_s']['p99']:.0f} us",
            f"{1e3 * row['new_table_s']['p50']:.1f} ms",
            f"{row['table_bytes_per_replica'] * row['replicas'] / 1e6:.2f} MB",
        )
    _show(table)
    return document("gateway", rows, [], arguments)


def simulator(arguments: argparse.Namespace) -> dict[str, Any]:
    """Simulate every size, and print a table."""
    rows = [scale_simulator.measure(n, arguments.simulated_s) for n in arguments.replicas]
    table = Table("replicas", "tick p50", "tick p99", "CPU s / simulated h", "of it ticks", "peak")
    for row in rows:
        table.add_row(
            f"{row['replicas']:,}",
            *_ms(row["tick_cpu_s"]),
            f"{row['cpu_s_per_simulated_hour']:,.0f}",
            f"{row['share_of_ticks']:.0%}",
            f"{row['peak_bytes'] / 1e6:,.0f} MB",
        )
    _show(table)
    last = rows[-1]
    name = f"median tick of {last['replicas']:,} simulated replicas"
    targets = [at_most(name, last["tick_cpu_s"]["p50"], "CPU s", MOST_TICK_S)]
    return document("simulator", rows, targets, arguments)


def _ms(spread: dict[str, float] | None) -> tuple[str, str]:
    if spread is None:
        return "-", "-"
    return f"{1e3 * spread['p50']:.0f} ms", f"{1e3 * spread['p99']:.0f} ms"


def _show(table: Table) -> None:
    Console(stderr=True, width=110).print(table)


Measure = Callable[[argparse.Namespace], dict[str, Any]]


def _part(
    parts: Any, name: str, measure: Measure, replicas: list[int], text: str
) -> argparse.ArgumentParser:
    part: argparse.ArgumentParser = parts.add_parser(name, help=text)
    part.add_argument("--replicas", type=int, nargs="+", default=replicas)
    part.set_defaults(measure=measure)
    return part


def main() -> None:
    """Measure one part, and print its table and its document."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parts = parser.add_subparsers(required=True)
    part = _part(parts, "fleet", fleet, [16, 64], "a live fleet of synthetic replicas")
    part.add_argument("--start-s", type=float, default=260.0, help="longest time to start, s")
    part.add_argument("--seconds", type=float, default=30.0, help="length of the measurement")
    part = _part(parts, "controller", controller, [64, 256, 1000], "a controller over stand-ins")
    part.add_argument("--running", type=int, default=16, help="requests in each report")
    part.add_argument("--ticks", type=int, default=30)
    part = _part(parts, "gateway", gateway, [16, 64, 256, 1000, 3000], "the table of a gateway")
    part.add_argument("--repeats", type=int, default=500)
    part = _part(parts, "simulator", simulator, [1000, 3000, 10_000], "simulated fleets")
    part.add_argument("--simulated-s", type=float, default=60.0, help="length of a run, s")
    arguments = parser.parse_args()
    measure: Measure = arguments.measure
    print(json.dumps(measure(arguments)))


if __name__ == "__main__":
    main()
