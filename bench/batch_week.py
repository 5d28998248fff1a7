"""How much batch work runs on surplus in a windy week, and is any deadline missed?

Every six hours a job comes that is due a day later. Wind turns beside a firm connection that covers
interactive requests, and more. Four ways to run the same jobs on the same fleet: Steppe's plan with
a perfect forecast and with one that takes the wind to stay (persistence), at once when they come
(`run now`), and from 22:00 on until they are done (`run at night`). A joule of batch work is
surplus as far as the wind was above what other requests drew. Simulated, energy modelled; an hour
of the week takes half a minute.

    python bench/batch_week.py
    python bench/batch_week.py --quick
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import document
import policy_table
from bench_fleets import Bench, Size, make_bench
from steppe.config import BatchControlSection
from steppe.control.batch_policy import BatchPool, BatchTerms, PlanBatch
from steppe.control.batch_work import When
from steppe.control.policy.goals import at_slo_if_any
from steppe.control.policy.make import make_policy
from steppe.control.policy.policy import PoolFacts
from steppe.control.reconcile import DrainRule
from steppe.control.shortage_forecast import ShortagePoints
from steppe.power.budget import PowerBudget
from steppe.power.site_terms import SiteTerms
from steppe.power.supply import Steady, TraceClock, WeatherYear
from steppe.power.trace import HOUR_S
from steppe.power.wind import wind_trace
from steppe.report.records import RequestRecord, TickRecord
from steppe.run.simulated_fleet import frontier_for, simulated_fleet
from steppe.run.simulated_load import arrivals_for
from steppe.sim.batch_jobs import Job, JobProgress, late_jobs
from steppe.sim.run import Scenario, run_scenario
from targets import at_least, at_most

DAY_H, EVERY_H, DUE_H, NIGHT_H = 24, 6, 24, 22
FIRST_DAY = 336
"""Day of Sand Point's year, counted from 0, on which its windiest week begins: the wind gives 78 %
of its rating, and less than a fifth of it for 12 hours at the longest."""
SPEED = 120.0
"""Seconds of the week in a second of the run."""
FIRM_SHARE, WIND_SHARE, LOAD_SHARE, BATCH_SHARE = 0.45, 1.0, 0.12, 0.25
"""Bought power and rated wind, share of the full draw; interactive load and batch work, share of
what the fleet serves at full power."""
PROMPT_TOKENS, OUTPUT_TOKENS = 150, 100
"""A row: short, so that it takes a few minutes of the compressed week, as a long one would of one
that is not compressed."""
BATCH_LIMIT = 32
"""Largest batch: it makes fewer tokens to simulate, and rows that end sooner."""
PERIOD_S = 1.0
EVERY_S = 600.0
"""Time between two plans of the batch work, s of the week."""
STAY_S = 5.0
"""How long a replica stays awake that is not needed, and may drain, s: ten minutes of the week."""
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Way:
    """A way to run the jobs.

    Attributes:
        name: What people call it.
        persists: Whether the forecast is that the wind stays; otherwise it is perfect.
        when: When the jobs may run.
        at_night: Whether they begin in the evening.
    """

    name: str
    persists: bool = False
    when: When = When.SURPLUS
    at_night: bool = False


WAYS = (
    Way("plan, perfect forecast"),
    Way("plan, persistence", persists=True),
    Way("run now", when=When.NOW),
    Way("run at night", when=When.NOW, at_night=True),
)


@dataclass
class Books:
    """What batch work drew, and which part of it was surplus; J."""

    surplus_j: float = 0.0
    batch_j: float = 0.0
    energy_j: float = 0.0
    request_j: float = 0.0
    ttfts_s: list[float] = field(default_factory=list)
    ended_s: float = 0.0

    def tick(self, record: TickRecord) -> None:
        """Take a tick."""
        width_s, self.ended_s = record.t_s - self.ended_s, record.t_s
        self.energy_j += record.energy_j
        if record.batch is not None:
            self.batch_j += record.batch.draw_w * width_s
            self.surplus_j += record.batch.from_surplus_w(record.draw_w) * width_s

    def request(self, record: RequestRecord) -> None:
        """Take a request."""
        if record.priority == "deferrable":
            self.request_j += record.energy_j or 0.0
        elif record.ttft_s is not None:
            self.ttfts_s.append(record.ttft_s)


def week_bench(replicas: int, duration_s: float) -> Bench:
    """Return the fleet and its interactive load."""
    found = make_bench(Size("70b", replicas, duration_s, LOAD_SHARE, speed=SPEED))
    engine = found.config.engine.model_copy(update={"max_batch_limit": BATCH_LIMIT})
    batch = BatchControlSection(every_s=EVERY_S)
    times = {"dwell_s": STAY_S, "drain_s": STAY_S, "period_s": PERIOD_S, "batch": batch}
    control = found.config.control.model_copy(update=times)
    config = found.config.model_copy(update={"engine": engine, "control": control})
    fleet = simulated_fleet(config)
    frontier = frontier_for(config, fleet.kind)
    arrivals = arrivals_for(config, frontier.full.output_tps * fleet.replicas)
    return replace(found, config=config, fleet=fleet, frontier=frontier, arrivals=arrivals)


def jobs_of(bench: Bench, way: Way, days: int) -> tuple[Job, ...]:
    """Return the jobs of the week; the last deadline is its end."""
    hour_s = HOUR_S / SPEED
    hours = range(0, days * DAY_H - DUE_H + 1, EVERY_H)
    full_tps = bench.fleet.replicas * bench.frontier.full.output_tps
    tokens = BATCH_SHARE * full_tps * EVERY_H * hour_s
    rows = max(1, round(tokens / OUTPUT_TOKENS))
    return tuple(
        Job(
            f"job-{hour}",
            (_evening(hour) if way.at_night else hour) * hour_s,
            rows,
            PROMPT_TOKENS,
            OUTPUT_TOKENS,
            due_s=(hour + DUE_H) * hour_s,
            when=way.when,
        )
        for hour in hours
    )


def _evening(hour: int) -> int:
    """Return the hour at which the next night begins."""
    return hour + (NIGHT_H - hour) % DAY_H


def budget_of(bench: Bench, first_day: int) -> PowerBudget:
    """Return the power of the week: wind, and a firm connection."""
    wind = wind_trace("sand_point", WIND_SHARE * bench.full_w)
    firm = Steady(FIRM_SHARE * bench.full_w, "grid")
    return PowerBudget(
        supplies=(WeatherYear(wind, first_day * DAY_H * HOUR_S, "wind"), firm),
        clock=TraceClock(0.0, SPEED),
        terms=SiteTerms(0.0, 0.0, 60.0, 1.0, 0.0),
    )


def scenario_of(bench: Bench, way: Way, days: int, first_day: int) -> Scenario:
    """Return one run of the week."""
    config, frontier = bench.config, bench.frontier
    budget = budget_of(bench, first_day)
    facts = PoolFacts.of(config, frontier, bench.fleet.replicas, budget)
    kept = at_slo_if_any(frontier, config.slo.tpot_s)
    terms = replace(BatchTerms.of(config, budget), persists=way.persists)
    pools = [BatchPool("", kept, bench.fleet.replicas)]
    return Scenario(
        fleet=bench.fleet,
        policy=PlanBatch(make_policy(facts), pools, terms),
        drain_rule=DrainRule(frontier.drain, config.control.drain_s),
        budget=budget,
        points=ShortagePoints.of(frontier, config.slo.tpot_s),
        arrivals=bench.arrivals,
        duration_s=config.sim.duration_s,
        jobs=jobs_of(bench, way, days),
    )


def row_of(bench: Bench, way: Way, days: int, first_day: int) -> Row:
    """Run the week in one way."""
    books, found = Books(), list[JobProgress]()
    scenario = scenario_of(bench, way, days, first_day)
    run_scenario(scenario, PERIOD_S, books, found.extend)
    return {
        "week_from_day": first_day,
        "way": way.name,
        "jobs": len(found),
        "missed": late_jobs(found, scenario.duration_s),
        "surplus_share": books.surplus_j / books.batch_j if books.batch_j else 0.0,
        "batch_j": books.batch_j,
        "batch_j_of_requests": books.request_j,
        "batch_tokens_per_j": sum(each.output_tokens for each in found) / books.batch_j,
        "waited_h": _mean_h([_waited_s(each) for each in found]),
        "took_h": _mean_h(
            [(p.ended_s or 0.0) - p.job.at_s for p in found if p.ended_s is not None]
        ),
        "p99_ttft_s": sorted(books.ttfts_s)[int(0.99 * len(books.ttfts_s))],
    }


def _waited_s(progress: JobProgress) -> float:
    return (progress.began_s or 0.0) - progress.job.at_s


def _mean_h(times_s: Sequence[float]) -> float:
    return sum(times_s) / max(1, len(times_s)) * SPEED / HOUR_S


def targets(rows: Sequence[Row]) -> list[Row]:
    """Return what the results are held against: those of the plan with each forecast."""
    found = []
    for row in rows:
        if row["way"].startswith("plan"):
            name = f"{row['way']}: batch joules from surplus"
            found.append(at_least(name, row["surplus_share"], "share", 0.9))
            name = f"{row['way']}: deadlines missed"
            found.append(at_most(name, row["missed"], "jobs", 0))
    return found


def main() -> None:
    """Run, print a table, and then one JSON document."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="three days")
    parser.add_argument("--first-day", type=int, default=FIRST_DAY, help="day of the year, from 0")
    parser.add_argument("--jobs", type=int, default=2, help="runs at one time")
    arguments = parser.parse_args()
    days, replicas = (3, 5) if arguments.quick else (7, 5)
    duration_s = days * DAY_H * HOUR_S / SPEED
    bench = week_bench(replicas, duration_s)
    run = partial(row_of, bench, days=days, first_day=arguments.first_day)
    with ProcessPoolExecutor(arguments.jobs) as pool:
        rows = list(pool.map(run, WAYS))
    policy_table.show_all("a windy week of batch work; simulated, energy modelled", rows)
    fleets = [document.fleet_of(bench)]
    print(json.dumps(document.simulated("batch_week", fleets, arguments, rows, targets(rows))))


if __name__ == "__main__":
    main()
