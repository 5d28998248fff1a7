"""How much of what perfect foresight gains does Steppe's choice of sites gain in a week?

Some sites of 64 modelled H100 each have their own wind and sun, whose mean over a year is what they
draw; the grid gives the rest, so that every policy serves all requests. `sites_world` says what is
measured and what is assumed, `sites_model` how requests are served, `sites_policies` and
`sites_steppe` what chooses a site, `sites_oracle` what the bound is. All policies get the same
requests, wind and sun. The green share is that of all energy, idle replicas included.

    gain share = (green share - that of local only) / (that of the oracle - that of local only)

The winds of the sites are other days of one year of one farm, so they are INDEPENDENT: what pooling
gains is an upper bound. With `--front` they are one wind, later at each site to the east.

    python bench/sites.py --data ../shared/data
    python bench/sites.py --data ../shared/data --sites 3 --days 1 --policies local steppe
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

import sites_table
from document import arguments_of
from sites_model import Policy, Run, run, scores
from sites_oracle import day_ahead, oracle
from sites_policies import (
    DayAhead,
    GreenestFirst,
    LeastQueue,
    LocalOnly,
    Nearest,
    RoundRobin,
    SkyWalkerLike,
    XWindLike,
)
from sites_replica import SiteTable, site_table
from sites_steppe import Steppe
from sites_world import DEPTH, GOES_ON, PREFIX, Case, World, make_world
from steppe.measure.provenance import source_commit

CASES = {
    3: Case(3, step_s=5.0),
    10: Case(10, step_s=10.0),
    100: Case(100, step_s=10.0, beat_steps=2),
}
"""How finely the world of so many sites is cut; other numbers are cut as the next larger one."""
Maker = Callable[[World, SiteTable], Policy]
POLICIES: dict[str, Maker] = {
    "local": LocalOnly,
    "nearest": Nearest,
    "round robin": RoundRobin,
    "least queue": LeastQueue,
    "greenest first": GreenestFirst,
    "day ahead": lambda world, table: DayAhead(world, table, day_ahead(world, table), 1),
    "skywalker-like": SkyWalkerLike,
    "xwind-like": lambda world, table: XWindLike(world, table, 1),
    "steppe": Steppe,
    "steppe, a plan a minute": lambda world, table: Steppe(world, table, 60.0),
}
MAIN = (*(name for name in POLICIES if "," not in name), "oracle")
"""Those that the figure shows."""
Row = dict[str, Any]


@lru_cache
def table_of(replicas: int) -> SiteTable:
    """Return what a site of so many replicas does."""
    return site_table(replicas)


def world_of(case: Case, data: Path) -> tuple[World, SiteTable]:
    """Return a world whose sites have `spare` times the capacity that their load needs."""
    table = table_of(case.replicas)
    work_rps = table.capacity_rps / case.spare
    day_rps = work_rps * (1 + DEPTH * np.cos(np.linspace(0, 2 * np.pi, 97)[:-1]))
    mean_w = float(np.interp(day_rps, table.load_rps, table.draw_w).mean())
    mean_rps = work_rps / (1 - table.prompt_share * PREFIX * GOES_ON)
    return make_world(case, data, mean_rps, mean_w), table


def case_of(sites: int, arguments: argparse.Namespace, seed: int) -> Case:
    """Return the case of so many sites."""
    size = next((CASES[each] for each in sorted(CASES) if each >= sites), CASES[max(CASES)])
    return replace(
        size, sites=sites, days=arguments.days, spare=arguments.spare, seed=seed,
        front=arguments.front,
    )  # fmt: skip


def compare(case: Case, arguments: argparse.Namespace) -> list[Row]:
    """Return a row for the oracle and for each policy in one world, and print them."""
    world, table = world_of(case, arguments.data)
    what = {
        "sites": case.sites, "seed": case.seed, "front": case.front, "days": case.days,
        "step_s": case.step_s, "parcels": case.parcels, "beat_s": case.step_s * case.beat_steps,
        "wind_correlation": round(world.wind_correlation, 3),
        "longest_rtt_s": round(float(world.rtt_s.max()), 4),
    }  # fmt: skip
    rows: list[Row] = [what | {"policy": "oracle"} | _rounded(oracle(world, table))]
    print(json.dumps(rows[0]), flush=True)
    for name in arguments.policies:
        began_s = time.process_time()
        done = run(world, table, POLICIES[name](world, table))
        found = _rounded(scores(world, table, done))
        cpu_s = round(time.process_time() - began_s, 1)
        rows.append(what | {"policy": name} | found | {"cpu_s": cpu_s})
        print(json.dumps(rows[-1]), flush=True)
        _keep(arguments.series, case, name, done)
    return sites_table.with_gains(rows)


def _keep(folder: Path | None, case: Case, name: str, done: Run) -> None:
    """Write the load of all sites of a run, for the figure."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / f"{case.sites}-{case.seed}-{name}.npy", done.load_rps)


def _rounded(found: dict[str, float]) -> dict[str, float]:
    return {name: float(f"{value:.6g}") for name, value in found.items()}


def rows_in(files: Sequence[Path]) -> list[Row]:
    """Return the rows that earlier runs printed, with the gains of each world."""
    worlds: dict[tuple[Any, ...], list[Row]] = {}
    for line in (line for file in files for line in file.read_text().splitlines()):
        if line.startswith('{"sites"'):
            row = json.loads(line)
            world = row["sites"], row["seed"], row["front"], row["days"]
            worlds.setdefault(world, []).append(row)
    return [row for rows in worlds.values() for row in sites_table.with_gains(rows)]


def parsed(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the arguments of the command."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of wind and requests")
    parser.add_argument("--sites", type=int, nargs="+", default=[3, 10])
    parser.add_argument("--days", type=float, default=7.0)
    parser.add_argument("--spare", type=float, default=2.0, help="capacity over the mean load")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--front", action="store_true", help="one wind, later to the east")
    parser.add_argument("--policies", nargs="+", default=list(POLICIES), choices=list(POLICIES))
    parser.add_argument("--rows", type=Path, nargs="+", help="put together what runs printed")
    parser.add_argument("--series", type=Path, help="folder for the loads of all sites")
    return parser.parse_args(argv)


def main() -> None:
    """Print the rows, the table, and the document as the last line."""
    arguments = parsed()
    if arguments.rows:
        rows = rows_in(arguments.rows)
    else:
        cases = [case_of(n, arguments, seed) for n in arguments.sites for seed in arguments.seeds]
        rows = [row for case in cases for row in compare(case, arguments)]
    sites_table.show(rows)
    table = table_of(CASES[3].replicas)
    document = {
        "bench": "sites",
        "commit": source_commit(),
        "hardware": f"one of {os.cpu_count()} cores, {platform.machine()}",
        "arguments": arguments_of(arguments) | {"rows": None},
        "site": {
            "replicas": f"{CASES[3].replicas} modelled replicas of llama-3.1-70b, each on 4 H100",
            "capacity_rps": round(table.capacity_rps, 1),
            "idle_w": round(table.base_w),
            "full_w": round(float(table.draw_w[-1])),
        },
        "wind": "measured, La Haute Borne 2014 (ENGIE), shifted",
        "energy_source": "modelled",
        "versions": {name: version(name) for name in ("numpy", "scipy")},
        "results": rows,
        "targets": sites_table.targets(rows),
    }
    print(json.dumps(document))


if __name__ == "__main__":
    main()
