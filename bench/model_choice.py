"""How many more requests keep their SLO if a smaller model may serve some while watts are short?

Requests ask for an alias, `assistant`, of two variants: Qwen2.5-72B-Instruct on four H100 and
Qwen2.5-7B-Instruct on one, both by their published `config.json` and the energy roofline. A day of
measured weather is compressed into the run. The plan gives each variant a share of the requests.
Beside it, without variants: every policy of the scoreboard that follows a budget, on the same
replicas of the large model, and on as many of it as all GPUs hold; all with the same requests and
the same watts. The small model alone is shown for scale: its answers are worse. Everything is
modelled by the energy roofline; nothing was measured on a GPU.

    python bench/model_choice.py --jobs 2
    python bench/model_choice.py --day windy --duration 600 --figure docs/model_choice.png
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import document
import model_choice_figure
import policies
from policy_table import ALMOST
from steppe.config import RunConfig
from steppe.control.policy.make import make_policy
from steppe.control.policy.policy import PoolFacts
from steppe.control.reconcile import DrainRule
from steppe.control.shortage_forecast import ShortagePoints
from steppe.power.budget import PowerBudget
from steppe.report.records import RequestRecord, Slo
from steppe.report.summary import Summary, summarise
from steppe.run.simulated_pools import (
    SimulatedPool,
    merged,
    scenario_of_pools,
    simulated_pool,
    slo_of,
)
from steppe.run.warnings import say_on_stderr
from steppe.sim.run import RecordsInMemory, Scenario, run_scenario
from targets import at_least
from weather_days import SUN, WIND, WeatherDay, happening_of

Row = dict[str, Any]
LARGE, SMALL, ALIAS = "qwen2.5-72b", "qwen2.5-7b", "assistant"
GPUS, LARGE_GPUS = 20, 4
"""GPUs of the site, and those of a replica of the large model."""
DAYS = {
    "windy": WeatherDay(WIND, 306, 0.0),
    "calm": WeatherDay(WIND, 286, 0.0),
    "sunny": WeatherDay(SUN, 253, 0.0),
}
"""The day on which the wind moves most from hour to hour, the day of wind with the 37th lowest mean
of its year, and the day of sun with the 37th highest."""
VARIANTS, SMALL_ALONE = "variants", "small model alone"
POLICIES = (
    "follow_budget",
    "save_energy",
    *(name for name in policies.RIVALS if name not in ("nameplate",)),
)
SAME, ALL_GPUS = "same replicas", "all GPUs"
GAIN = 1.3


@dataclass(frozen=True, slots=True)
class Task:
    """One fleet on one day.

    Attributes:
        day: Its key in `DAYS`.
        fleet: `variants`, `small model alone`, or a policy and the GPUs of the large model.
        duration_s: Length of the run, s.
        load: Requests, share of what the large replicas serve at full power.
        required: Share of the requests that require the large model.
    """

    day: str
    fleet: str
    duration_s: float
    load: float
    required: float


def config_of(task: Task, models: Sequence[dict[str, Any]], policy: str) -> RunConfig:
    """Return the configuration of a fleet."""
    aliases = {ALIAS: [LARGE, SMALL]} if len(models) > 1 else {}
    return RunConfig.model_validate(
        {
            "models": list(models),
            "aliases": aliases,
            "engine": {"max_batch_limit": 256, "max_tokens_per_step": 2048},
            "device": {"kind": "modelled", "gpu": "h100"},
            "power": {
                "supply": [{"kind": "constant", "watts": 1}],
                "speedup": 86_400 / task.duration_s,
                "start": "2000-01-01T00:00:00",
            },
            "frontier": {"sweep": {"prompt_tokens": 1155, "output_tokens": 211}},
            "control": {"policy": policies.RIVALS.get(policy, policy)},
            "gateway": {"max_waiting": 20_000},
            "slo": {"ttft_s": 2.0, "tpot_s": 0.15},
            "sim": {"duration_s": task.duration_s, "wake_s": 1.0, "sleep_s": 0.3},
        }
    )


def large(task: Task, replicas: int, **load: Any) -> dict[str, Any]:
    """Return the section of the large model."""
    asked = {"utilisation": task.load, "daily_depth": 0.4, "required_share": task.required}
    each = {"replicas": replicas, "gpus_per_replica": LARGE_GPUS}
    return {"name": LARGE, **each, "load": asked | load}


def small(replicas: int) -> dict[str, Any]:
    """Return the section of the small model."""
    return {"name": SMALL, "replicas": replicas, "load": {"utilisation": 0.0}}


def base_pool(task: Task) -> SimulatedPool:
    """Return the large model with the requests that every fleet gets."""
    config = config_of(task, [large(task, replicas_beside())], "follow_budget")
    return simulated_pool(LARGE, 0, config.pools[LARGE], say_on_stderr)


def replicas_beside() -> int:
    """Return the replicas of the large model beside those of the small one."""
    return (GPUS - 1) // LARGE_GPUS


def row_of(task: Task) -> Row:
    """Run one fleet through a day."""
    base, began_s = base_pool(task), time.process_time()
    happening = happening_of(DAYS[task.day], base.full_w, task.duration_s, 86_400 / task.duration_s)
    budget = policies.budget_of(happening)
    scenario, slo = scenario_of(task, base, budget)
    records = RecordsInMemory()
    totals = run_scenario(scenario, 1.0, records)
    summary = summarise(records.ticks, records.requests, totals, slo)
    return {
        "day": task.day,
        "fleet": task.fleet,
        **figures_of(summary, records.requests),
        "over_budget_share": (summary["tracking"]["over_budget_j"] or 0.0) / summary["energy_j"],
        "cpu_s": time.process_time() - began_s,
        "series": model_choice_figure.series(records.ticks) if task.fleet == VARIANTS else None,
    }


def figures_of(summary: Summary, requests: Sequence[RequestRecord]) -> Row:
    """Return what is compared: good requests, and how many of them each model served."""
    good = round(summary["request_goodput"] * summary["duration_s"])
    served = sum(sums["completed"] for sums in summary["models"].values())
    of_large = summary["models"].get(LARGE, {"completed": 0})["completed"]
    return {
        "requests": len(requests),
        "good": good,
        "slo_attainment": summary["slo_attainment"],
        "completed": served,
        "large_share": of_large / served if served else 0.0,
        "output_tokens": summary["output_tokens"],
        "energy_j": summary["energy_j"],
        "models": summary["models"],
    }


def scenario_of(task: Task, base: SimulatedPool, budget: PowerBudget) -> tuple[Scenario, Slo]:
    """Return the run of a fleet on a budget, and what its requests must keep."""
    if task.fleet == VARIANTS:
        models = [
            large(task, replicas_beside(), alias=ALIAS),
            small(GPUS % LARGE_GPUS or LARGE_GPUS),
        ]
        return _with_variants(config_of(task, models, "follow_budget"), budget)
    if task.fleet == SMALL_ALONE:
        section = {"name": SMALL, "replicas": GPUS % LARGE_GPUS or LARGE_GPUS}
        policy, config = "follow_budget", config_of(task, [section], "follow_budget")
    else:
        policy, _, gpus = task.fleet.partition(", ")
        replicas = replicas_beside() if gpus == SAME else GPUS // LARGE_GPUS
        config = config_of(task, [large(task, replicas)], policy)
    (name, alone), *_ = config.pools.items()
    pool = replace(simulated_pool(name, 0, alone, say_on_stderr), arrivals=base.arrivals)
    return _alone(pool, budget), slo_of(config)


def _with_variants(config: RunConfig, budget: PowerBudget) -> tuple[Scenario, Slo]:
    pools = {
        name: simulated_pool(name, number, alone, say_on_stderr)
        for number, (name, alone) in enumerate(config.pools.items())
    }
    return scenario_of_pools(config, pools, budget), slo_of(config)


def _alone(pool: SimulatedPool, budget: PowerBudget) -> Scenario:
    """Return the run of one model, as `steppe simulate` makes it."""
    config, frontier = pool.config, pool.frontier
    facts = PoolFacts.of(config, frontier, pool.fleet.replicas, budget, pool.fleet.kind.rungs)
    named = replace(pool.fleet, place=replace(pool.fleet.place, pool=config.model.client_name))
    return Scenario(
        fleet=named,
        policy=make_policy(facts),
        drain_rule=DrainRule(frontier.drain, config.control.drain_s),
        budget=budget,
        points=ShortagePoints.of(frontier, config.slo.tpot_s),
        arrivals=merged({"": pool}),
        duration_s=config.sim.duration_s,
        lead_s=config.control.lead_s,
    )


def best_without(rows: Sequence[Row], day: str) -> Row:
    """Return the fleet without variants that kept the SLO of the most requests on a day.

    One that draws clearly more than the budget is none: its watts are not there.
    """
    others = [r for r in rows if r["day"] == day and r["fleet"] not in (VARIANTS, SMALL_ALONE)]
    within = [row for row in others if row["over_budget_share"] <= ALMOST]
    return max(within, key=lambda row: row["good"])


def targets(rows: Sequence[Row]) -> list[Row]:
    """Return what the results are held against."""
    found = []
    for row in rows:
        if row["fleet"] == VARIANTS and row["day"] == "windy":
            gain = row["good"] / best_without(rows, row["day"])["good"]
            name = "requests within the SLO on a windy day, beside the best without variants"
            found.append(at_least(name, gain, "ratio", GAIN))
    return found


def show(rows: Sequence[Row]) -> None:
    """Print the table for people."""
    table = Table(title="Requests within the SLO by fleet; simulated, energy modelled")
    for heading in ("day", "fleet", "good", "of all", "beside best", "by large", "above"):
        table.add_column(heading, justify="left" if heading in ("day", "fleet") else "right")
    for row in rows:
        best = best_without(rows, row["day"])["good"]
        table.add_row(
            row["day"],
            row["fleet"],
            f"{row['good']}",
            f"{row['slo_attainment'] or 0:.1%}",
            f"{row['good'] / best:.2f} x",
            f"{row['large_share']:.0%}",
            f"{row['over_budget_share']:.2%}",
        )
    Console(width=110).print(table)


def fleets_of() -> list[Row]:
    """Return the description of the fleets of a result."""
    beside = GPUS % LARGE_GPUS or LARGE_GPUS
    return [
        {"fleet": VARIANTS, "replicas": {LARGE: replicas_beside(), SMALL: beside}, "gpu": "h100"},
        {"fleet": SAME, "replicas": {LARGE: replicas_beside()}, "gpu": "h100"},
        {"fleet": ALL_GPUS, "replicas": {LARGE: GPUS // LARGE_GPUS}, "gpu": "h100"},
    ]


def tasks_of(arguments: argparse.Namespace) -> list[Task]:
    """Return all fleets on all days that were asked for."""
    without = [f"{p}, {g}" for p in arguments.policy or POLICIES for g in (SAME, ALL_GPUS)]
    return [
        Task(day, fleet, arguments.duration, arguments.load, arguments.required)
        for day in arguments.day or ["windy"]
        for fleet in (VARIANTS, *without, SMALL_ALONE)
    ]


def main() -> None:
    """Run, print a table, and then one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--day", choices=DAYS, action="append", help="default: windy")
    parser.add_argument("--policy", choices=POLICIES, action="append", help="default: all")
    parser.add_argument("--duration", type=float, default=3600.0, help="length of a day, s")
    parser.add_argument("--load", type=float, default=1.0, help="share of full power")
    parser.add_argument("--required", type=float, default=0.1, help="share that requires the large")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--figure", type=Path, help="PNG to draw the windy day in")
    arguments = parser.parse_args()
    tasks, rows = tasks_of(arguments), list[Row]()
    console, began_s = Console(stderr=True), time.monotonic()
    with ProcessPoolExecutor(arguments.jobs) as pool:
        for done in as_completed([pool.submit(row_of, task) for task in tasks]):
            rows.append(done.result())
            left_s = (time.monotonic() - began_s) / len(rows) * (len(tasks) - len(rows))
            row = rows[-1]
            console.print(f"{row['day']}, {row['fleet']}: {row['good']} good, {left_s:.0f} s left")
    order = [(task.day, task.fleet) for task in tasks]
    rows.sort(key=lambda row: order.index((row["day"], row["fleet"])))
    show(rows)
    if arguments.figure:
        model_choice_figure.draw(rows, arguments.figure)
    kept = [{key: value for key, value in row.items() if key != "series"} for row in rows]
    print(
        json.dumps(document.simulated("model_choice", fleets_of(), arguments, kept, targets(rows)))
    )


if __name__ == "__main__":
    main()
