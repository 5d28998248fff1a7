"""What does a gateway pay each second to know all other sites?

The state of the sites service, as the service writes it and a gateway reads it, for 3 to 100 sites,
each with one pool, a forecast of 16 steps and prices of 24 hours. CPU time of one thread; a busy
machine lengthens it. Each gateway reads one state a second.

    python bench/sites_state.py
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

from rich.console import Console
from rich.table import Table

from steppe.control.ticket import PRIORITIES
from steppe.measure.provenance import source_commit
from steppe.sites.beats.peers import Health
from steppe.sites.quotas import QuotaLease
from steppe.sites.state import PeerState, SitesState, read_state, write_state
from steppe.sites.view import Demand, Expected, PoolPoint, PoolView, SiteView
from targets import at_most

SIZES = (3, 10, 100)
TARGET_SITES, TARGET_MS = 100, 10.0
TARGETS_OF_A_FLOW = 4


def view_of(name: str) -> SiteView:
    """Return a site with one pool."""
    points = tuple(PoolPoint(250.0 * n, 90.0 * n) for n in range(1, 9))
    pool = PoolView("m", "r", 1200.5, 3, 0.21, 0.02, 310_000.5, points)
    regions = frozenset({"north", "south"})
    return SiteView(
        name, 1, 0.0, 1000.5, 700.5, 300.0, 200.5, 500.0,
        tuple(Expected(900.0 * n, 500.5, 800.5, 950.5) for n in range(16)),
        (310_000,) * 24, (540.5,) * 24, "CNY", "north", frozenset({"general"}), {"m": pool},
        tuple(Demand("m", priority, regions, "general", 100.5) for priority in PRIORITIES),
    )  # fmt: skip


def state_of(sites: int) -> SitesState:
    """Return a state of so many sites, with leases to some of them."""
    names = [f"s{number}" for number in range(1, sites)]
    return SitesState(
        "s0",
        "0" * 16,
        1,
        1.0,
        view_of("s0"),
        tuple(
            PeerState(name, "https://10.0.0.1:8443", "north", Health.LIVE, 0.02, view_of(name))
            for name in names
        ),
        tuple(
            QuotaLease(name, "m", priority, 100.0, 10.0, 0.0, 60.0)
            for name in names[:TARGETS_OF_A_FLOW]
            for priority in PRIORITIES
        ),
    )


def times_ms(call: Callable[[], object], repeats: int) -> list[float]:
    """Return the CPU time of each call after a first one, milliseconds."""
    call()
    found = []
    for _ in range(repeats):
        began_s = time.process_time()
        call()
        found.append(1e3 * (time.process_time() - began_s))
    return found


def time_size(sites: int, repeats: int) -> dict[str, Any]:
    """Return what a state of so many sites takes."""
    state = state_of(sites)
    body = write_state(state, 1.0)
    written = times_ms(lambda: write_state(state, 1.0), repeats)
    read = times_ms(lambda: read_state(body, 1.0), repeats)
    return {
        "sites": sites,
        "bytes": len(body),
        "write_median_ms": statistics.median(written),
        "write_least_ms": min(written),
        "read_median_ms": statistics.median(read),
        "read_least_ms": min(read),
    }


def show(rows: list[dict[str, Any]]) -> None:
    """Print the table for people."""
    table = Table(title="The state of the sites service, CPU time")
    for heading in ("sites", "kB", "write, ms", "least", "read, ms", "least"):
        table.add_column(heading)
    for one in rows:
        times = [one[key] for key in one if key.endswith("_ms")]
        cells = [f"{each:.2f}" for each in times]
        table.add_row(str(one["sites"]), f"{one['bytes'] / 1e3:.1f}", *cells)
    Console(width=100).print(table)


def main() -> None:
    """Measure, print a table, and then one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--repeats", type=int, default=50)
    repeats = parser.parse_args().repeats
    rows = [time_size(sites, repeats) for sites in SIZES]
    show(rows)
    (aimed,) = (one for one in rows if one["sites"] == TARGET_SITES)
    name = f"reading the state of {TARGET_SITES} sites, once a second"
    document = {
        "bench": "sites_state",
        "commit": source_commit(),
        "hardware": f"one of {os.cpu_count()} cores, {platform.machine()}",
        "versions": {name: version(name) for name in ("orjson",)},
        "results": rows,
        "targets": [at_most(name, aimed["read_median_ms"], "ms", TARGET_MS)],
    }
    print(json.dumps(document))


if __name__ == "__main__":
    main()
