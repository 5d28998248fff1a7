"""Which policy makes the most of a power budget, and at what cost to its users?

Every policy goes through every happening of `scenarios.py` with the same requests: a fleet in
virtual time, behind the control loop that runs live. The load is that of the Azure conversation
trace at a rate that swings over the day, above what most budgets can serve, so that watts are what
is scarce; on the windy day work is, for a part of it (`policy_bound.py`). Everything is modelled by
the energy roofline, whose calibration is named; nothing here was measured on a GPU.

    python bench/policies.py --fleet 8b --duration 3600
    python bench/policies.py --fleet 70b --jobs 2
    python bench/policies.py --replicas 8 --duration 600 --happening forty_steps
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import lru_cache, partial
from itertools import product
from pathlib import Path
from typing import Any, get_args

import document
import policy_bound
import policy_figure
import policy_table
import scenarios
from bench_fleets import (
    FLEETS,
    LOWEST_CLOCK,
    MARGIN_SHARE,
    OVER_SHARE,
    Bench,
    Size,
    make_bench,
)
from steppe.config import ControlSection
from steppe.config.control import PolicyName
from steppe.control.policy.make import make_policy
from steppe.control.policy.policy import Policy, PoolFacts
from steppe.control.reconcile import DrainRule
from steppe.control.shortage_forecast import ShortagePoints
from steppe.power.battery import NO_BATTERY, Battery
from steppe.power.budget import PowerBudget
from steppe.power.site_terms import SiteTerms
from steppe.power.supply import TraceClock, TraceReplay
from steppe.report.records import RunTotals, TickRecord
from steppe.report.summary import Summary, summarise
from steppe.sim.run import Failure, RecordsInMemory, Scenario, run_scenario

RIVALS = {
    "power_cap": "rival_policies:PowerCap",
    "clocks": "rival_policies:Clocks",
    "replicas": "rival_policies:Replicas",
    "clocks_and_replicas": "rival_policies:ClocksAndReplicas",
    "nameplate": "rival_policies:Nameplate",
    "reactive": "rival_autoscalers:Reactive",
    "static_clock": "rival_autoscalers:StaticClockReplicas",
    "locked_autoscaler": "rival_autoscalers:ClockLockedAutoscaler",
    "capped_autoscaler": "rival_autoscalers:CappedAutoscaler",
    "dynamo_llm": "rival_slo_policies:DynamoLLM",
    "slo_dvfs": "rival_slo_policies:SloDvfs",
}
"""What others do, by the name in the table: classes for `control.policy`."""
POLICIES = (*get_args(PolicyName), *RIVALS)
CURVES = ("low", "nominal", "high")


def budget_of(
    happening: scenarios.Happening, battery: Battery = NO_BATTERY, node_rest_w: float = 0.0
) -> PowerBudget:
    """Return the budget of a happening; a battery begins half full.

    Args:
        happening: What happens; its watts are those of GPUs and nodes.
        battery: The battery.
        node_rest_w: Draw of all nodes beside their GPUs, W.
    """
    return PowerBudget(
        supplies=(TraceReplay(happening.budget, 0.0),),
        clock=TraceClock(0.0, 1.0),
        terms=SiteTerms(0.0, happening.fallback_w, scenarios.STALE_S, 1.0, 0.0, node_rest_w),
        battery=battery,
        stored_j=battery.capacity_j / 2,
    )


def run(
    bench: Bench, policy: str, happening: scenarios.Happening
) -> tuple[Summary, list[TickRecord]]:
    """Put a policy through a happening."""
    control = control_of(bench, policy)
    return run_with(bench, control, budget_of(happening), happening.deaths)


def control_of(bench: Bench, policy: str) -> ControlSection:
    """Return the control section of a fleet with a policy, by its name in the table."""
    return bench.config.control.model_copy(update={"policy": RIVALS.get(policy, policy)})


def run_with(
    bench: Bench,
    control: ControlSection,
    budget: PowerBudget,
    deaths: Sequence[scenarios.Death] = (),
) -> tuple[Summary, list[TickRecord]]:
    """Let a control section follow a budget, while replicas die."""
    return run_policy(bench, make_policy(facts_of(bench, control, budget)), control, budget, deaths)


def facts_of(bench: Bench, control: ControlSection, budget: PowerBudget) -> PoolFacts:
    """Return what a policy is given."""
    rungs = bench.fleet.kind.rungs
    facts = PoolFacts.of(bench.config, bench.assumed, bench.fleet.replicas, budget, rungs)
    return replace(facts, control=control)


def run_policy(
    bench: Bench,
    policy: Policy,
    control: ControlSection,
    budget: PowerBudget,
    deaths: Sequence[scenarios.Death] = (),
) -> tuple[Summary, list[TickRecord]]:
    """Let a policy follow a budget, at the times of a control section, while replicas die."""
    totals, records = simulate(bench, policy, control, budget, deaths)
    return summarise(records.ticks, records.requests, totals, bench.slo), records.ticks


def simulate(
    bench: Bench,
    policy: Policy,
    control: ControlSection,
    budget: PowerBudget,
    deaths: Sequence[scenarios.Death] = (),
) -> tuple[RunTotals, RecordsInMemory]:
    """Run a policy as `run_policy` does, and return all ticks and requests."""
    scenario = Scenario(
        fleet=bench.fleet,
        policy=policy,
        drain_rule=DrainRule(bench.assumed.drain, control.drain_s),
        budget=budget,
        points=ShortagePoints.of(bench.assumed, bench.slo.tpot_s),
        arrivals=bench.arrivals,
        duration_s=bench.config.sim.duration_s,
        lead_s=control.lead_s,
        failures=tuple(Failure(d.at_s, math.floor(d.share * bench.fleet.replicas)) for d in deaths),
    )
    records = RecordsInMemory()
    return run_scenario(scenario, control.period_s, records), records


def rows_of(
    size: Size, asked: Sequence[tuple[scenarios.Maker, str]], jobs: int
) -> list[dict[str, Any]]:
    """Return a row for each happening and policy, in their order, from so many processes."""
    if jobs == 1:
        return [_row_of(size, each) for each in asked]
    with ProcessPoolExecutor(jobs) as pool:
        return list(pool.map(partial(_row_of, size), asked))


def _row_of(size: Size, asked: tuple[scenarios.Maker, str]) -> dict[str, Any]:
    make, policy = asked
    happening = make(make_bench(size).full_w, size.duration_s)
    bench = _loaded(size, happening.load_share)
    began_s = time.process_time()
    summary, _ = run(bench, policy, happening)
    return policy_table.row_of(policy, happening.name, summary, time.process_time() - began_s)


@lru_cache(maxsize=1)
def _loaded(size: Size, load_share: float) -> Bench:
    """Return the fleet with a share of its load; a process keeps it, for it is large."""
    return make_bench(size).with_load(load_share)


def parsed() -> argparse.Namespace:
    """Return the arguments of the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    add, clock = parser.add_argument, "lowest clock that is offered, share of the highest"
    add("--fleet", choices=FLEETS, default="8b")
    add("--replicas", type=int, help="a smaller fleet, for a quick look")
    add("--duration", dest="duration_s", type=float, default=3600.0, help="length of a run, s")
    add("--utilisation", type=float, default=0.8, help="load, share of full power")
    add("--lowest-clock", dest="lowest_clock_share", type=float, default=LOWEST_CLOCK, help=clock)
    add("--margin-share", type=float, default=MARGIN_SHARE, help="share of the budget left free")
    add("--over-share", type=float, default=OVER_SHARE, help="energy that may be above the budget")
    add("--assumed-share", type=float, default=1.0, help="watts of the points, share of the true")
    add("--assumed-speed", type=float, default=1.0, help="speed of the points, share of the true")
    add("--clock-curve", choices=CURVES, default="nominal", help="or a standard error off")
    add("--wake-s", type=float, default=1.0, help="time for a replica to wake, s of the run")
    add("--sleep-s", type=float, default=0.3, help="time for it to go to sleep, s of the run")
    add("--seed", type=int, default=0, help="of the requests")
    add("--policy", action="append", choices=POLICIES, help="all when absent")
    names = [make.__name__ for make in scenarios.HAPPENINGS]
    add("--happening", action="append", choices=names, help="all when absent")
    add("--jobs", type=int, default=1, help="processes that share the runs")
    add("--figure", type=Path, help="PNG to draw the table in")
    return parser.parse_args()


def size_of(arguments: argparse.Namespace) -> Size:
    """Return the bench that the arguments ask for."""
    asked = vars(arguments)
    return Size(**{name: asked[name] for name in Size._fields if name in asked})


def main() -> None:
    """Run, print a table, and then one JSON document."""
    arguments = parsed()
    size = size_of(arguments)
    bench = make_bench(size)
    wanted = arguments.happening or [make.__name__ for make in scenarios.HAPPENINGS]
    happenings = [make for make in scenarios.HAPPENINGS if make.__name__ in wanted]
    asked = list(product(happenings, arguments.policy or POLICIES))
    rows = rows_of(size, asked, arguments.jobs)
    targets, beside = policy_table.targets(rows), policy_table.beside(rows)
    policy_table.show(rows)
    policy_table.show_beside(beside, targets)
    fleets = [document.fleet_of(bench)]
    found = document.simulated("policies", fleets, arguments, rows, targets)
    found["beside"] = beside
    found["beside_almost"] = policy_table.beside_almost(rows)
    found["bounds"] = policy_bound.bounds(bench, rows, size.duration_s)
    if arguments.figure:
        policy_figure.draw(found).savefig(arguments.figure, dpi=130)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
