"""What is it worth that replicas which are not needed sleep deeper than a pause?

A fleet of 70B in real time on a calm, a windy and a sunny day, with wake times that a large model
really has: a paused replica wakes in 1 s, a stopped process in 60 s, a node that is off in 5
minutes. The fleets go through each day with the same requests: one with a pause alone, the same
with the ladder, without and with a perfect forecast of the budget, and one that moves clocks and
replicas only, with the same ladder. The load is above what the watts serve. Everything is modelled
by the energy roofline; nothing was measured on a GPU.

    python bench/sleep_ladder.py --hours 6 --jobs 2
    python bench/sleep_ladder.py --day calm --hours 24 --replicas 16
    python bench/sleep_ladder.py --hours 6 --node-rest 1500
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from typing import Any

from rich.console import Console
from rich.table import Table

import document
import policies
import policy_table
from bench_fleets import Bench, Size, make_bench
from rival_policies import ClocksAndReplicas, ClocksAndReplicasGoal
from steppe.config import ControlSection
from steppe.control.policy.make import depths_of, make_policy
from steppe.control.policy.policy import Policy, PoolFacts
from steppe.report.quantities import UNKNOWN
from targets import at_least, at_most
from weather_days import SUN, WIND, WeatherDay, happening_of

Row = dict[str, Any]
DAYS = {
    "calm": WeatherDay(WIND, 286, 0.0),
    "windy": WeatherDay(WIND, 306, 0.0),
    "sunny": WeatherDay(SUN, 253, 6.0),
}
"""The day of wind with the 37th lowest mean of the year (a tenth are calmer), the day on which it
moves most from hour to hour, and the day of sun with the 37th highest mean, from the morning on."""
LADDER = (("stopped", 60.0), ("node_off", 300.0))
"""Time to wake, s: an engine of 70B takes one to two minutes from a warm file cache, a node boots
in three to ten."""
PAUSE, DEEP, AHEAD = "pause alone", "ladder", "ladder, perfect forecast"
RIVAL = "clocks and replicas, ladder"
FLEETS = (PAUSE, DEEP, AHEAD, RIVAL)
SHIPPED = ControlSection()
GAIN, ERROR = 1.4, 0.03


@dataclass(frozen=True, slots=True)
class Task:
    """One fleet on one day.

    Attributes:
        day: Its key in `DAYS`.
        fleet: One of `FLEETS`.
        size: The bench.
    """

    day: str
    fleet: str
    size: Size


def policy_of(facts: PoolFacts, fleet: str) -> Policy:
    """Return the policy of a fleet."""
    if fleet != RIVAL:
        return make_policy(facts)
    rival = ClocksAndReplicas(facts)
    rival.stages.depths = depths_of(
        facts, lambda frontier, _: ClocksAndReplicasGoal(frontier, facts.tpot_s), facts.frontier
    )
    return rival


def row_of(task: Task) -> Row:
    """Run one fleet through a day."""
    size = replace_depths(task.size, () if task.fleet == PAUSE else LADDER)
    bench = make_bench(size)
    rest_w = size.node_rest_w * bench.fleet.nodes
    day = replace(DAYS[task.day], hour=size.begin_hour)
    happening = happening_of(day, bench.full_w + rest_w, size.duration_s, 1.0)
    budget = policies.budget_of(happening, node_rest_w=rest_w)
    control = bench.config.control.model_copy(update={"sleep_by_forecast": task.fleet == AHEAD})
    facts = policies.facts_of(bench, control, budget)
    began_s = time.process_time()
    summary, ticks = policies.run_policy(bench, policy_of(facts, task.fleet), control, budget)
    cpu_s = time.process_time() - began_s
    states = [replica.depth or replica.state for tick in ticks for replica in tick.replicas]
    return {
        "day": task.day,
        "fleet": task.fleet,
        **policy_table.row_of(task.fleet, happening.name, summary, cpu_s),
        "mean_replicas": {state: states.count(state) / len(ticks) for state in sorted(set(states))},
    }


def replace_depths(size: Size, depths: tuple[tuple[str, float], ...]) -> Size:
    """Return the same bench with other depths."""
    return size._replace(depths=depths)


def targets(rows: Sequence[Row]) -> list[Row]:
    """Return what the results are held against."""
    by_name = {(row["day"], row["fleet"]): row for row in rows}
    found = []
    calm = by_name.get(("calm", PAUSE)), by_name.get(("calm", DEEP))
    if calm[0] and calm[1]:
        gain = calm[1]["output_tokens"] / calm[0]["output_tokens"]
        found.append(at_least("tokens of a calm day beside a pause alone", gain, "ratio", GAIN))
    errors = [row["relative_mae"] for row in rows if row["fleet"] == DEEP and row["relative_mae"]]
    return [
        *found,
        at_most("error with the ladder, worst day", max(errors, default=0.0), "share", ERROR),
    ]


def show(rows: Sequence[Row]) -> None:
    """Print the table for people."""
    table = Table(title="Sleep deeper than a pause; simulated in real time, energy modelled")
    for heading in (
        "day",
        "fleet",
        "tokens",
        "good/s",
        "error",
        "above",
        "awake",
        "paused",
        "deep",
    ):
        table.add_column(heading, justify="left" if heading in ("day", "fleet") else "right")
    pauses = {row["day"]: row for row in rows if row["fleet"] == PAUSE}
    for row in rows:
        base, mean = pauses.get(row["day"], row), row["mean_replicas"]
        table.add_row(
            row["day"],
            row["fleet"],
            f"{row['output_tokens'] / base['output_tokens']:.2f} x",
            f"{row['request_goodput'] / base['request_goodput']:.2f} x",
            UNKNOWN if row["relative_mae"] is None else f"{row['relative_mae']:.2%}",
            f"{row['over_budget_share']:.3%}",
            f"{mean.get('awake', 0):.1f}",
            f"{mean.get('paused', 0):.1f}",
            f"{mean.get('stopped', 0) + mean.get('node_off', 0):.1f}",
        )
    Console(width=110).print(table)


def sizes_of(arguments: argparse.Namespace, day: str) -> Size:
    """Return the bench of a day."""
    return Size(
        "70b",
        arguments.replicas,
        arguments.hours * 3600.0,
        utilisation=arguments.load,
        margin_share=SHIPPED.margin_share,
        over_share=SHIPPED.over_share,
        speed=1.0,
        begin_hour=DAYS[day].hour,
        node_rest_w=arguments.node_rest,
    )


def fleets_of(size: Size) -> list[dict[str, Any]]:
    """Return the description of the fleets of a result."""
    bench: Bench = make_bench(replace_depths(size, LADDER))
    rungs = [
        {"depth": r.depth, "asleep_w": r.asleep_w, "wake_s": r.wake_s, "sleep_s": r.sleep_s}
        for r in bench.fleet.kind.rungs
    ]
    return [document.fleet_of(bench) | {"ladder": rungs, "paused_w": bench.frontier.asleep_w}]


def main() -> None:
    """Run, print a table, and then one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--day", choices=DAYS, action="append", help="default: all")
    parser.add_argument("--fleet", choices=FLEETS, action="append", help="default: all")
    parser.add_argument("--hours", type=float, default=6.0, help="part of the day that runs")
    parser.add_argument("--replicas", type=int, default=8, help="each on 4 GPUs, two a node")
    parser.add_argument("--load", type=float, default=0.6, help="share of full power")
    parser.add_argument("--node-rest", type=float, default=0.0, help="W of a node beside its GPUs")
    parser.add_argument("--jobs", type=int, default=1)
    arguments = parser.parse_args()
    days, fleets = arguments.day or list(DAYS), arguments.fleet or list(FLEETS)
    tasks = [Task(day, fleet, sizes_of(arguments, day)) for day in days for fleet in fleets]
    rows: list[Row] = []
    console, began_s = Console(stderr=True), time.monotonic()
    with ProcessPoolExecutor(arguments.jobs) as pool:
        for done in as_completed([pool.submit(row_of, task) for task in tasks]):
            rows.append(done.result())
            left_s = (time.monotonic() - began_s) / len(rows) * (len(tasks) - len(rows))
            row = rows[-1]
            tokens = f"{row['output_tokens']} tokens"
            console.print(f"{row['day']}, {row['fleet']}: {tokens}, about {left_s:.0f} s left")
    order = [(task.day, task.fleet) for task in tasks]
    rows.sort(key=lambda row: order.index((row["day"], row["fleet"])))
    show(rows)
    fleets_made = fleets_of(tasks[0].size)
    print(
        json.dumps(document.simulated("sleep_ladder", fleets_made, arguments, rows, targets(rows)))
    )


if __name__ == "__main__":
    main()
