"""Do plans fit the traffic that is there, whatever it is?

Every traffic of `steppe.load.traffics` meets every policy in three happenings: more watts than the
fleet can draw, a windy day, and forty steps of the budget. The operating points are those of a
sweep of conversation, whatever comes, and the rate is a share of what full clocks serve of the
traffic: 55 % where watts are ample, 80 % where they are not. `--switch` changes the traffic in the
middle of a run instead, with ample watts. Everything is simulated, and its energy modelled by the
energy roofline; nothing here was measured on a GPU.

    python bench/traffic.py --fleet 70b --jobs 2
    python bench/traffic.py --fleet 70b --duration 300 --traffic summaries --policy follow_budget
    python bench/traffic.py --fleet 8b --replicas 16 --switch
    python bench/traffic.py --draw bench/results/traffic_70b_before.json --figure before.png
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache, partial
from itertools import product
from pathlib import Path
from typing import Any, get_args

from rich.console import Console
from rich.progress import track

import document
import policies
import scenarios
import traffic_figure
import traffic_fleets
import traffic_switch
import traffic_table
from bench_fleets import FLEETS, Bench, Size, make_bench
from steppe.config import ControlSection
from steppe.config.load import TrafficName

Row = dict[str, Any]
Asked = tuple[TrafficName, scenarios.Maker, str]
MOVED = ("full_clocks", "follow_budget", "save_energy")
"""Policies of a run with `--switch`, unless it names others."""


def row_of(size: Size, asked: Asked) -> Row:
    """Put a policy through a happening with a traffic."""
    traffic, make, policy = asked
    bench = _loaded(size, traffic, make)
    happening = traffic_fleets.happening_of(bench, traffic, make)
    summary, _ = policies.run(bench, policy, happening)
    row = traffic_table.traffic_row(traffic, policy, happening.name, summary)
    return row | {"load_share": traffic_fleets.load_share(make)}


@lru_cache(maxsize=1)
def _loaded(size: Size, traffic: TrafficName, make: scenarios.Maker) -> Bench:
    """Return the fleet with its requests; a process keeps the last one, for it is large."""
    return traffic_fleets.under(_fleet(size), traffic, make)


@lru_cache(maxsize=1)
def _fleet(size: Size) -> Bench:
    return make_bench(size)


def switch_row_of(size: Size, policy: str) -> Row:
    """Let a policy serve a traffic that changes."""
    return traffic_switch.switch_row(_fleet(size), policy)


def rows_of(run: Callable[[Any], Row], asked: Sequence[Any], jobs: int) -> list[Row]:
    """Return a row for each run, in their order, from so many processes."""
    shown = partial(track, description="runs", total=len(asked), console=Console(stderr=True))
    if jobs == 1:
        return [run(each) for each in shown(asked)]
    with ProcessPoolExecutor(jobs) as pool:
        return list(shown(pool.map(run, asked)))


def parsed() -> argparse.Namespace:
    """Return the arguments of the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    add, shipped = parser.add_argument, ControlSection()
    happenings = [make.__name__ for make in traffic_fleets.HAPPENINGS]
    margin = "share of the budget left free"
    add("--fleet", choices=FLEETS, default="70b")
    add("--replicas", type=int, help="a smaller fleet, for a quick look")
    add("--duration", dest="duration_s", type=float, default=600.0, help="length of a run, s")
    add("--margin-share", type=float, default=shipped.margin_share, help=margin)
    add("--over-share", type=float, default=shipped.over_share, help="energy above the budget")
    add("--seed", type=int, default=0, help="of the requests")
    add("--traffic", action="append", choices=get_args(TrafficName), help="all when absent")
    add("--happening", action="append", choices=happenings, help="all when absent")
    add("--policy", action="append", choices=policies.POLICIES, help="all when absent")
    add("--switch", action="store_true", help="change the traffic in the middle of a run")
    add("--jobs", type=int, default=1, help="processes that share the runs")
    add("--figure", type=Path, help="PNG to draw the table in")
    add("--draw", type=Path, help="with --figure: JSON of an earlier result to draw, without a run")
    arguments = parser.parse_args()
    if arguments.draw and not arguments.figure:
        parser.error("--draw needs --figure")
    return arguments


def main() -> None:
    """Run, print a table, and then one JSON document; or draw an earlier one."""
    arguments = parsed()
    if arguments.draw:
        _draw(json.loads(arguments.draw.read_text()), arguments.figure)
        return
    size = Size(
        arguments.fleet,
        arguments.replicas,
        arguments.duration_s,
        margin_share=arguments.margin_share,
        over_share=arguments.over_share,
        seed=arguments.seed,
    )
    found = (_switch if arguments.switch else _table)(size, arguments)
    print(json.dumps(found))


def _table(size: Size, arguments: argparse.Namespace) -> dict[str, Any]:
    asked = [
        (traffic, make, policy)
        for traffic, make, policy in product(
            arguments.traffic or get_args(TrafficName),
            traffic_fleets.HAPPENINGS,
            arguments.policy or policies.POLICIES,
        )
        if not arguments.happening or make.__name__ in arguments.happening
    ]
    rows = rows_of(partial(row_of, size), asked, arguments.jobs)
    cells = traffic_table.cells_of(rows)
    targets, short = traffic_table.targets(cells), traffic_table.short_of_target(cells)
    traffic_table.show(cells)
    traffic_table.show_targets(targets, short)
    found = document.simulated("traffic", [_described(size)], arguments, rows, targets)
    found["short"] = short
    if arguments.figure:
        _draw(found, arguments.figure)
    return found


def _draw(found: dict[str, Any], path: Path) -> None:
    traffic_figure.draw(found).savefig(path, dpi=130)


def _switch(size: Size, arguments: argparse.Namespace) -> dict[str, Any]:
    asked = arguments.policy or MOVED
    rows = rows_of(partial(switch_row_of, size), asked, arguments.jobs)
    traffic_switch.show(rows)
    targets = traffic_switch.targets(rows)
    return document.simulated("traffic_switch", [_described(size)], arguments, rows, targets)


def _described(size: Size) -> dict[str, Any]:
    """Return fleet and control; the load is that of each row."""
    described = document.fleet_of(_fleet(size))
    del described["utilisation"]
    return described


if __name__ == "__main__":
    main()
