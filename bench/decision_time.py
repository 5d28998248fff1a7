"""How long does a decision take, and does it grow with the fleet?

Pools with made-up frontiers of 40 points share a budget: the decision is timed, from the
observation of every replica to how many run at which operating point. The fleet grows from 1,000
to 100,000 replicas; half of the pools have work waiting, the others a demand. One process, one
thread; the time is that of the CPU, which a busy machine does not change. Beside it what else a
tick computes: the actions that lead there, for every replica; the decision in one pool with all
the stages of a run around it; and the horizon's linear program over a day, which is solved now and
then.

    python bench/decision_time.py
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from typing import Any

from rich.console import Console
from rich.table import Table

from steppe.config import ControlSection
from steppe.control.horizon.inputs import Deferrable, HorizonInputs, HorizonTerms
from steppe.control.horizon.solve import plan_horizon
from steppe.control.policy.goals import FollowBudget
from steppe.control.policy.make import make_policy
from steppe.control.policy.policy import PoolFacts
from steppe.control.pools import Pool, PoolObservation, ShareBudget
from steppe.control.reconcile import DrainRule, reconcile
from steppe.control.state import Observation, ReplicaObservation, ReplicaState
from steppe.frontier.pareto import Frontier
from steppe.measure.provenance import source_commit
from steppe.power.battery import Battery
from steppe.roofline.point import OperatingPoint
from targets import at_most

POOLS, POINTS, SEED, WARM_UP = 20, 40, 7, 3
FLEETS = (1_000, 10_000, 100_000)
STEPS = 144
TARGET_REPLICAS, TARGET_MS = 10_000, 10.0
STATES = (ReplicaState.AWAKE, ReplicaState.ASLEEP)


def frontier(rng: random.Random) -> Frontier:
    """Return 40 points of a made-up GPU: output rises more and more slowly with the draw."""
    asleep_w, top_tps, bend_w = rng.uniform(80, 120), rng.uniform(1e3, 8e3), rng.uniform(100, 400)
    points = []
    for i in range(POINTS):
        draw_w = 200 + 12.5 * i
        output_tps = top_tps * (draw_w - 150) / (draw_w - 150 + bend_w)
        output_tps *= 1 + 0.0005 * rng.random()
        points.append(OperatingPoint(600 + 30 * i, 8 * (1 + i), output_tps, draw_w))
    return Frontier.of(points, asleep_w, asleep_w + 10, "modelled")


def fleet(replicas: int, rng: random.Random) -> list[PoolObservation]:
    """Return the pools at one instant."""
    pools = []
    for number in range(POOLS):
        found = frontier(rng)
        members = tuple(
            ReplicaObservation(f"{number}-{i}", STATES[i % 2], 0.0, 900, 64, 20 * (1 - i % 2))
            for i in range(replicas // POOLS)
        )
        demand_tps = 0.4 * len(members) * found.full.output_tps
        waiting = 9 * (number % 2)
        pool = Pool(
            f"model-{number}", found, found.floor.draw_w, {"interactive": 10.0, "deferrable": 1.0}
        )
        observed = Observation(0.0, 0.0, None, demand_tps, waiting, members)
        pools.append(PoolObservation(pool, observed, {"interactive": demand_tps}))
    return pools


def time_s(work: Callable[[], object], repeats: int) -> list[float]:
    """Return the CPU time of each of some repeats, after a warm-up, s."""
    for _ in range(WARM_UP):
        work()
    taken = []
    for _ in range(repeats):
        began_s = time.process_time()
        work()
        taken.append(time.process_time() - began_s)
    return taken


def time_decision(replicas: int, repeats: int) -> dict[str, Any]:
    """Return one row: the decision for a fleet at a budget that moves a little each time."""
    rng = random.Random(SEED)
    pools = fleet(replicas, rng)
    names = {one.pool.name: FollowBudget(one.pool.frontier, one.pool.drain_w) for one in pools}
    policy = ShareBudget(names)
    full_w = sum(len(one.observation.replicas) * one.pool.frontier.full.draw_w for one in pools)

    def decide() -> None:  # each time on a new observation, of which nothing is counted yet
        seen = [replace(one, observation=replace(one.observation)) for one in pools]
        policy.decide(full_w * rng.uniform(0.4, 0.9), seen)

    taken = time_s(decide, repeats)
    return _row(f"decision, {replicas:,} replicas in {POOLS} pools", taken)


def time_actions(replicas: int, repeats: int) -> dict[str, Any]:
    """Return one row: from the plans of all pools to the actions of every replica."""
    rng = random.Random(SEED)
    pools = fleet(replicas, rng)
    names = {one.pool.name: FollowBudget(one.pool.frontier, one.pool.drain_w) for one in pools}
    full_w = sum(len(one.observation.replicas) * one.pool.frontier.full.draw_w for one in pools)
    plans = [found.plan for found in ShareBudget(names).decide(0.6 * full_w, pools)]

    def act() -> None:
        for one, plan in zip(pools, plans, strict=True):
            reconcile(replace(one.observation), plan, DrainRule(one.pool.frontier.drain, 30.0))

    return _row(f"their actions, {replicas:,} replicas", time_s(act, repeats))


def time_run(replicas: int, repeats: int) -> dict[str, Any]:
    """Return one row: the decision in a single pool, with all that a run has around it."""
    rng = random.Random(SEED)
    found = frontier(rng)
    members = tuple(
        ReplicaObservation(f"{i}", STATES[i % 2], 0.0, 900, 64, 20 * (1 - i % 2))
        for i in range(replicas)
    )
    policy = make_policy(PoolFacts(found, replicas, 1, ControlSection(), 1.0, 300.0, lambda *_: ()))
    full_w, ticks = replicas * found.full.draw_w, itertools.count()

    def decide() -> None:
        now_s, budget_w = float(next(ticks)), full_w * rng.uniform(0.4, 0.9)
        policy.decide(Observation(now_s, budget_w, budget_w, 0.0, 9, members))

    return _row(f"a run's decision, {replicas:,} replicas in 1 pool", time_s(decide, repeats))


def time_horizon(repeats: int) -> dict[str, Any]:
    """Return one row: a day in steps of ten minutes, with a battery and deferrable work."""
    rng = random.Random(SEED)
    found = frontier(rng)
    battery = Battery(3.6e8, 2e4, 2e4, 0.95, 0.95)
    terms = HorizonTerms(found, replicas=64, step_s=600.0, battery=battery)
    inputs = HorizonInputs(
        supply_w=[rng.uniform(5e3, 4e4) for _ in range(STEPS)],
        demand_tps=[32 * found.full.output_tps] * STEPS,
        work=(Deferrable(STEPS // 2, 3e8), Deferrable(STEPS - 1, 3e8)),
        stored_j=1.8e8,
    )
    taken = time_s(lambda: plan_horizon(terms, inputs), repeats)
    return _row(f"horizon, {STEPS} steps of 600 s", taken)


def _row(name: str, taken: list[float]) -> dict[str, Any]:
    ordered = sorted(1e3 * t for t in taken)
    return {
        "name": name,
        "repeats": len(ordered),
        "median_ms": statistics.median(ordered),
        "p95_ms": ordered[int(0.95 * (len(ordered) - 1))],
        "worst_ms": ordered[-1],
    }


def document(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the result as the last line of a benchmark."""
    name = f"median decision, {TARGET_REPLICAS:,} replicas in {POOLS} pools"
    aimed = next(row for row in rows if f"decision, {TARGET_REPLICAS:,}" in row["name"])
    return {
        "bench": "decision_time",
        "commit": source_commit(),
        "hardware": f"one of {os.cpu_count()} cores, {platform.machine()}",
        "versions": {name: version(name) for name in ("numpy", "scipy")},
        "results": rows,
        "targets": [at_most(name, aimed["median_ms"], "ms", TARGET_MS)],
    }


def show(rows: list[dict[str, Any]]) -> None:
    """Print the table for people."""
    table = Table(title=f"Time of a decision, {POINTS} points a pool")
    for heading in ("what", "repeats", "median", "p95", "worst"):
        table.add_column(heading)
    for row in rows:
        times = [f"{row[key]:.2f} ms" for key in ("median_ms", "p95_ms", "worst_ms")]
        table.add_row(row["name"], str(row["repeats"]), *times)
    Console(width=120).print(table)


def main() -> None:
    """Measure, print a table, and then one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--repeats", type=int, default=50)
    repeats = parser.parse_args().repeats
    rows = [time_decision(replicas, repeats) for replicas in FLEETS]
    rows += [time_actions(TARGET_REPLICAS, repeats), time_run(TARGET_REPLICAS, repeats)]
    rows.append(time_horizon(max(3, repeats // 5)))
    show(rows)
    print(json.dumps(document(rows)))


if __name__ == "__main__":
    main()
