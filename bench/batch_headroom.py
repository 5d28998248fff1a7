"""Do interactive requests feel a batch beside them, and how much of the headroom does it use?

A day of interactive load on the 70B and the 8B fleet, on a budget that every replica can draw: once
alone, and once with a batch job without end beside it, which may use all that is left. Headroom is
what the watts could serve and interactive requests did not ask for. Both runs have the same
requests. The TTFT at p99 is that of interactive requests alone. Simulated, energy modelled; the day
is compressed.

    python bench/batch_headroom.py
    python bench/batch_headroom.py --quick
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import document
import policy_table
from bench_fleets import Bench, Size, make_bench
from steppe.control.batch_policy import BatchPool, BatchTerms, PlanBatch
from steppe.control.batch_work import When
from steppe.control.horizon.capacity import Capacity
from steppe.control.policy.goals import at_slo_if_any
from steppe.control.policy.make import make_policy
from steppe.control.policy.policy import PoolFacts
from steppe.control.reconcile import DrainRule
from steppe.control.shortage_forecast import ShortagePoints
from steppe.power.budget import PowerBudget
from steppe.power.site_terms import SiteTerms
from steppe.power.supply import Steady, TraceClock
from steppe.report.records import RequestRecord, TickRecord
from steppe.sim.batch_jobs import Job
from steppe.sim.run import Scenario, run_scenario
from targets import at_least, at_most

FLEETS = {"70b": 8, "8b": 8}
"""Replicas of each fleet: fewer than the scoreboard has, so that the day is short to simulate."""
LOAD_SHARE, BUDGET_SHARE = 0.35, 0.8
"""Interactive load and budget, share of the full output and of the full draw."""
PROMPT_TOKENS, OUTPUT_TOKENS = 800, 300
WARM_UP_S = 60.0
PERCENTILES = (50, 95, 99)
Row = dict[str, Any]


@dataclass
class Books:
    """What the interactive requests waited, and what was drawn."""

    ttfts_s: list[float] = field(default_factory=list)
    tpots_s: list[float] = field(default_factory=list)
    firm_tokens: int = 0
    tokens: int = 0
    energy_j: float = 0.0
    budget_j: float = 0.0
    ended_s: float = 0.0

    def tick(self, record: TickRecord) -> None:
        """Take a tick."""
        width_s, self.ended_s = record.t_s - self.ended_s, record.t_s
        if record.t_s > WARM_UP_S:
            self.tokens += record.output_tokens
            self.energy_j += record.draw_w * width_s
            self.budget_j += record.budget_w * width_s

    def request(self, record: RequestRecord) -> None:
        """Take a request."""
        if record.priority == "deferrable" or record.arrival_s < WARM_UP_S:
            return
        self.firm_tokens += record.output_tokens or 0
        if record.ttft_s is not None:
            self.ttfts_s.append(record.ttft_s)
        if record.tpot_s is not None:
            self.tpots_s.append(record.tpot_s)


def scenario_of(bench: Bench, *, with_batch: bool) -> Scenario:
    """Return a day of the fleet."""
    config, frontier = bench.config, bench.frontier
    budget = PowerBudget(
        supplies=(Steady(BUDGET_SHARE * bench.full_w),),
        clock=TraceClock(0.0, config.power.speedup),
        terms=SiteTerms(0.0, 0.0, 60.0, 1.0, 0.0),
    )
    facts = PoolFacts.of(config, frontier, bench.fleet.replicas, budget)
    kept = at_slo_if_any(frontier, config.slo.tpot_s)
    pools = [BatchPool("", kept, bench.fleet.replicas)]
    full_tps = bench.fleet.replicas * frontier.full.output_tps
    rows = round(1.2 * full_tps * config.sim.duration_s / OUTPUT_TOKENS)
    job = Job("batch", 0.0, rows, PROMPT_TOKENS, OUTPUT_TOKENS, when=When.SURPLUS)
    return Scenario(
        fleet=bench.fleet,
        policy=PlanBatch(make_policy(facts), pools, BatchTerms.of(config, budget)),
        drain_rule=DrainRule(frontier.drain, config.control.drain_s),
        budget=budget,
        points=ShortagePoints.of(frontier, config.slo.tpot_s),
        arrivals=bench.arrivals,
        duration_s=config.sim.duration_s,
        jobs=(job,) if with_batch else (),
    )


def row_of(asked: tuple[Size, bool]) -> Row:
    """Run a day, with or without a batch."""
    size, with_batch = asked
    bench, books = make_bench(size), Books()
    scenario = scenario_of(bench, with_batch=with_batch)
    run_scenario(scenario, bench.config.control.period_s, books)
    seconds = size.duration_s - WARM_UP_S
    capacity = Capacity.of(bench.frontier, bench.fleet.replicas)
    most_tps = float(capacity.tps(np.array([BUDGET_SHARE * bench.full_w]))[0])
    ttfts_s = np.percentile(books.ttfts_s, PERCENTILES).tolist()
    return {
        "fleet": size.fleet,
        "batch": with_batch,
        "interactive": len(books.ttfts_s),
        "firm_tps": books.firm_tokens / seconds,
        "all_tps": books.tokens / seconds,
        "most_tps": most_tps,
        "drawn_share": books.energy_j / books.budget_j,
        **{f"p{p}_ttft_s": value for p, value in zip(PERCENTILES, ttfts_s, strict=True)},
        "p99_tpot_s": float(np.percentile(books.tpots_s, 99)),
        "tokens_per_j": books.tokens / books.energy_j,
    }


def targets(rows: Sequence[Row]) -> list[Row]:
    """Return what the results are held against, fleet by fleet."""
    found = []
    for alone, beside in zip(rows[::2], rows[1::2], strict=True):
        change = beside["p99_ttft_s"] / alone["p99_ttft_s"] - 1
        name = f"{alone['fleet']}: p99 TTFT of interactive requests with a batch beside them"
        found.append(at_most(name, change, "share more", 0.05))
        headroom_w = 1 - alone["drawn_share"]
        used_w = beside["drawn_share"] - alone["drawn_share"]
        name = f"{alone['fleet']}: headroom in watts that the batch uses"
        found.append(at_least(name, used_w / headroom_w, "share", 0.95))
    return found


def main() -> None:
    """Run, print a table, and then one JSON document."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a shorter day")
    parser.add_argument("--jobs", type=int, default=2, help="runs at one time")
    arguments = parser.parse_args()
    duration_s = 300.0 if arguments.quick else 900.0
    sizes = [Size(name, count, duration_s, LOAD_SHARE) for name, count in FLEETS.items()]
    asked = [(size, with_batch) for size in sizes for with_batch in (False, True)]
    with ProcessPoolExecutor(arguments.jobs) as pool:
        rows = list(pool.map(row_of, asked))
    policy_table.show_all("a day with and without a batch; simulated, energy modelled", rows)
    fleets = [document.fleet_of(make_bench(size)) for size in sizes]
    print(json.dumps(document.simulated("batch_headroom", fleets, arguments, rows, targets(rows))))


if __name__ == "__main__":
    main()
