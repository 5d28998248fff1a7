"""How long does a decision take, and does it grow with the fleet?

Twenty pools decide one after another, each with the policy of a run and all its stages: from the
observation of every replica, of the traffic and of the meters to how many run at which operating
point. Half of the pools have work waiting, the others a demand. The last plan is in force at each
tick, and each budget has moved a little. At each tick one pool's requests have other lengths than
before, so that its points are computed anew; a row beside it has new lengths in all pools at once.
The fleet grows from 1,000 to 100,000 replicas. One process, one thread; the time is that of the
CPU; a busy machine still lengthens it, for cores share caches. Beside it what else a tick computes:
the actions that lead there, for every replica; and the horizon's linear program over a day, which
is solved now and then.

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

import numpy as np
from rich.console import Console
from rich.table import Table

from bench_fleets import Size, make_bench
from steppe.config import ControlSection
from steppe.control.horizon.inputs import Deferrable, HorizonInputs, HorizonTerms
from steppe.control.horizon.solve import plan_horizon
from steppe.control.measurements import ClockWork, LatencyCounts
from steppe.control.plan import Plan
from steppe.control.policy.make import make_policy
from steppe.control.policy.policy import Policy, PoolFacts
from steppe.control.reconcile import DrainRule, reconcile
from steppe.control.state import Observation, ReplicaObservation, ReplicaState
from steppe.frontier.pareto import Frontier
from steppe.measure.provenance import source_commit
from steppe.power.battery import Battery
from steppe.roofline.lengths import RequestLengths
from targets import at_most

POOLS, SEED, WARM_UP = 20, 7, 10
MODELS = ("8b", "70b")
CONVERSATION = RequestLengths(1155.0, 211.0)
FLEETS = (1_000, 10_000, 100_000)
STEPS = 144
TARGET_REPLICAS, TARGET_MS = 10_000, 10.0
BUDGET_MOVES, STEPS_OF_WINDOW = 0.02, 80.0
"""Most that a budget moves in a tick, share of the full draw; steps of a window at one clock."""


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
        awake: Its replicas as they are awake.
        asleep: The same replicas as they are asleep.
        frontier: Operating points of one replica.
        waiting: Requests that wait: in half of the pools work waits.
        lengths: The mean request of its traffic.
        budget_share: Its budget, share of what it draws at the full point.
        serving: How many replicas the last plan has awake.
    """

    policy: Policy
    awake: tuple[ReplicaObservation, ...]
    asleep: tuple[ReplicaObservation, ...]
    frontier: Frontier
    waiting: int
    lengths: RequestLengths = CONVERSATION
    budget_share: float = 0.7
    serving: int = 0

    def observe(self, now_s: float) -> Observation:
        """Return a new observation, of which nothing is counted yet: the last plan is in force."""
        full_w = len(self.awake) * self.frontier.full.draw_w
        full_tps = len(self.awake) * self.frontier.full.output_tps
        return Observation(
            now_s=now_s,
            gpu_budget_w=self.budget_share * full_w,
            draw_w=0.98 * self.budget_share * full_w,
            demand_tps=0.4 * full_tps,
            waiting=self.waiting,
            replicas=(*self.awake[: self.serving], *self.asleep[self.serving :]),
            lengths=self.lengths,
            latency=LatencyCounts(first_tokens=round(100 * now_s), ended=round(99 * now_s)),
            work=_work(self.frontier),
        )

    def decide(self, observation: Observation) -> Plan:
        """Return the plan for an observation, and remember how many replicas it has awake."""
        plan = self.policy.decide(observation)
        self.serving = len(plan.awake)
        return plan


@lru_cache
def _work(frontier: Frontier) -> tuple[ClockWork, ...]:
    """Return the steps of a window at two clocks, as meters and engines report them."""
    assert frontier.costs is not None, "a modelled frontier has the costs of a step"
    clocks = frontier.costs.clocks_mhz[0], frontier.costs.clocks_mhz[-1]
    step = np.array([[1.0], [0.9], [200.0], [1100.0], [2.5e5]])
    costs = frontier.costs.at(clocks)
    steps, prefills, sequences, prompts, context = (STEPS_OF_WINDOW * step[:, 0]).tolist()
    busy_s = (STEPS_OF_WINDOW * costs.time_s(step)[:, 0]).tolist()
    energy_j = (STEPS_OF_WINDOW * costs.energy_j(step)[:, 0]).tolist()
    return tuple(
        ClockWork(mhz, steps, prefills, sequences, prompts, context, *spent)
        for mhz, *spent in zip(clocks, busy_s, energy_j, strict=True)
    )


def pools(replicas: int) -> list[TimedPool]:
    """Return the pools, with every replica asleep before the first plan."""
    found = []
    for number, points in enumerate(frontiers()):
        awake = tuple(
            ReplicaObservation(f"{number}-{i}", ReplicaState.AWAKE, 0.0, 990, 256, 120)
            for i in range(replicas // POOLS)
        )
        asleep = tuple(replace(one, state=ReplicaState.ASLEEP, outstanding=0) for one in awake)
        facts = PoolFacts(
            points, len(awake), 1, ControlSection(), 0.15, 300.0, lambda *_: (), ttft_s=2.0
        )
        found.append(TimedPool(make_policy(facts), awake, asleep, points, 9 * (number % 2)))
    return found


def time_s(
    work: Callable[[], object], repeats: int, prepare: Callable[[], object] = lambda: None
) -> list[float]:
    """Return the CPU time of each of some repeats, after a warm-up, s.

    Args:
        work: What is timed.
        repeats: How often.
        prepare: What comes before each and is not timed.
    """
    taken = []
    for _ in range(WARM_UP + repeats):
        prepare()
        began_s = time.process_time()
        work()
        taken.append(time.process_time() - began_s)
    return taken[WARM_UP:]


def time_decision(replicas: int, changed: int, repeats: int) -> dict[str, Any]:
    """Return one row: the decisions of all pools, one after another, as in a tick of each.

    Args:
        replicas: Replicas of all pools together.
        changed: Pools whose requests have another mean length than at the tick before.
        repeats: Ticks to time.
    """
    rng, fleet, ticks = random.Random(SEED), pools(replicas), itertools.count()
    first = itertools.cycle(range(POOLS))
    observed: list[Observation] = []

    def observe() -> None:
        now_s = float(next(ticks))
        for _ in range(changed):
            fleet[next(first)].lengths = _other_lengths(rng)
        for pool in fleet:
            moved = pool.budget_share + rng.uniform(-BUDGET_MOVES, BUDGET_MOVES)
            pool.budget_share = min(0.9, max(0.4, moved))
        observed[:] = [pool.observe(now_s) for pool in fleet]

    def decide() -> None:
        for pool, seen in zip(fleet, observed, strict=True):
            pool.decide(seen)

    name = f"decision, {replicas:,} replicas in {POOLS} pools, new lengths in {changed}"
    return _row(name, time_s(decide, repeats, observe))


def _other_lengths(rng: random.Random) -> RequestLengths:
    return RequestLengths(rng.uniform(200.0, 4000.0), rng.uniform(50.0, 800.0))


def time_actions(replicas: int, repeats: int) -> dict[str, Any]:
    """Return one row: from the plans of all pools to the actions of every replica."""
    fleet = pools(replicas)
    observed = [pool.observe(0.0) for pool in fleet]
    plans = [pool.decide(seen) for pool, seen in zip(fleet, observed, strict=True)]

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
