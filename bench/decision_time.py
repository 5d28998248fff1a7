"""How long does a decision take, and does it grow with the fleet?

Twenty pools decide one after another, each with the policy of a run and all its stages: from the
observation of every replica, of the traffic and of the meters to how many run at which operating
point. Half of the pools have work waiting, the others a demand. At each tick one pool's requests
have other lengths than before, so that its points are computed anew; a row beside it has new
lengths in all pools at once. The fleet grows from 1,000 to 100,000 replicas. One process, one
thread; the time is that of the CPU, which a busy machine does not change. Beside it what else a
tick computes: the actions that lead there, for every replica; and the horizon's linear program over
a day, which is solved now and then.

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
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.metadata import version
from typing import Any

from rich.console import Console
from rich.table import Table

from bench_fleets import Size, make_bench
from steppe.config import ControlSection
from steppe.control.horizon.inputs import Deferrable, HorizonInputs, HorizonTerms
from steppe.control.horizon.solve import plan_horizon
from steppe.control.measurements import ClockWork, LatencyCounts
from steppe.control.policy.make import make_policy
from steppe.control.policy.policy import Policy, PoolFacts
from steppe.control.reconcile import DrainRule, reconcile
from steppe.control.state import Observation, ReplicaObservation, ReplicaState
from steppe.frontier.pareto import Frontier
from steppe.measure.provenance import source_commit
from steppe.power.battery import Battery
from steppe.roofline.lengths import RequestLengths
from targets import at_most

POOLS, SEED, WARM_UP = 20, 7, 3
MODELS = ("8b", "70b")
CONVERSATION = RequestLengths(1155.0, 211.0)
FLEETS = (1_000, 10_000, 100_000)
STEPS = 144
TARGET_REPLICAS, TARGET_MS = 10_000, 10.0
STATES = (ReplicaState.AWAKE, ReplicaState.ASLEEP)


def frontiers() -> list[Frontier]:
    """Return the points of each pool: two models, each with draws that differ a little by pool."""
    known = [make_bench(Size(name, 1, 10.0)) for name in MODELS]
    return [
        replace(known[number % len(known)], assumed_share=1 - 0.01 * number).assumed
        for number in range(POOLS)
    ]


@dataclass(slots=True)
class TimedPool:
    """A pool with the policy of a run, and what it observes.

    Attributes:
        policy: The policy, with all its stages.
        replicas: Its replicas.
        frontier: Operating points of one replica.
        waiting: Requests that wait: in half of the pools work waits.
        lengths: The mean request of its traffic.
    """

    policy: Policy
    replicas: tuple[ReplicaObservation, ...]
    frontier: Frontier
    waiting: int
    lengths: RequestLengths = CONVERSATION

    @property
    def full_w(self) -> float:
        """Draw with every replica at the full point, W."""
        return len(self.replicas) * self.frontier.full.draw_w

    def observe(self, now_s: float, budget_share: float) -> Observation:
        """Return a new observation, of which nothing is counted yet."""
        demand_tps = 0.4 * len(self.replicas) * self.frontier.full.output_tps
        budget_w = budget_share * self.full_w
        return Observation(
            now_s=now_s,
            gpu_budget_w=budget_w,
            draw_w=0.98 * budget_w,
            demand_tps=demand_tps,
            waiting=self.waiting,
            replicas=self.replicas,
            lengths=self.lengths,
            latency=LatencyCounts(first_tokens=round(100 * now_s), ended=round(99 * now_s)),
            work=_work(self.frontier),
        )


@lru_cache
def _work(frontier: Frontier) -> tuple[ClockWork, ...]:
    """Return the steps of a window at two clocks, as meters and engines report them."""
    points = frontier.full_batch.points
    return tuple(
        ClockWork(p.clock_mhz, 80.0, 70.0, 80.0 * p.batch_limit, 9e4, 1e7, 9.0, 9.0 * p.draw_w)
        for p in (points[0], points[-1])
    )


def pools(replicas: int) -> list[TimedPool]:
    """Return the pools, half of their replicas awake."""
    found = []
    for number, points in enumerate(frontiers()):
        members = tuple(
            ReplicaObservation(f"{number}-{i}", STATES[i % 2], 0.0, 990, 256, 120 * (1 - i % 2))
            for i in range(replicas // POOLS)
        )
        facts = PoolFacts(
            points, len(members), 1, ControlSection(), 0.15, 300.0, lambda *_: (), ttft_s=2.0
        )
        found.append(TimedPool(make_policy(facts), members, points, 9 * (number % 2)))
    return found


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


def time_decision(replicas: int, changed: int, repeats: int) -> dict[str, Any]:
    """Return one row: the decisions of all pools, one after another, as in a tick of each.

    Args:
        replicas: Replicas of all pools together.
        changed: Pools whose requests have another mean length than at the tick before.
        repeats: Ticks to time.
    """
    rng, fleet, ticks = random.Random(SEED), pools(replicas), itertools.count()
    first = itertools.cycle(range(POOLS))

    def decide() -> None:
        now_s = float(next(ticks))
        for _ in range(changed):
            fleet[next(first)].lengths = _other_lengths(rng)
        for pool in fleet:
            pool.policy.decide(pool.observe(now_s, rng.uniform(0.4, 0.9)))

    name = f"decision, {replicas:,} replicas in {POOLS} pools, new lengths in {changed}"
    return _row(name, time_s(decide, repeats))


def _other_lengths(rng: random.Random) -> RequestLengths:
    return RequestLengths(rng.uniform(200.0, 4000.0), rng.uniform(50.0, 800.0))


def time_actions(replicas: int, repeats: int) -> dict[str, Any]:
    """Return one row: from the plans of all pools to the actions of every replica."""
    fleet = pools(replicas)
    observed = [pool.observe(0.0, 0.6) for pool in fleet]
    plans = [pool.policy.decide(seen) for pool, seen in zip(fleet, observed, strict=True)]

    def act() -> None:
        for pool, seen, plan in zip(fleet, observed, plans, strict=True):
            reconcile(replace(seen), plan, DrainRule(pool.frontier.drain, 30.0))

    return _row(f"their actions, {replicas:,} replicas", time_s(act, repeats))


def time_horizon(repeats: int) -> dict[str, Any]:
    """Return one row: a day in steps of ten minutes, with a battery and deferrable work."""
    rng, found = random.Random(SEED), frontiers()[0]
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
    name = f"median decision, {TARGET_REPLICAS:,} replicas in {POOLS} pools, new lengths in 1"
    aimed = next(row for row in rows if row["name"] in name)
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
    table = Table(title="Time of a decision")
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
    rows = [time_decision(replicas, 1, repeats) for replicas in FLEETS]
    rows.append(time_decision(TARGET_REPLICAS, 0, repeats))
    rows.append(time_decision(TARGET_REPLICAS, POOLS, repeats))
    rows.append(time_actions(TARGET_REPLICAS, repeats))
    rows.append(time_horizon(max(3, repeats // 5)))
    show(rows)
    print(json.dumps(document(rows)))


if __name__ == "__main__":
    main()
