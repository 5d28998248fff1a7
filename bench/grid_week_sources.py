"""What a simulated fleet could have given the grid, every ten minutes of some weeks.

The fleet serves a load with a daily swing and batch jobs that come every six hours and are due a
day later, on measured wind (La Haute Borne, ENGIE, 2014) beside a firm connection. Its control loop
decides as a live one; what the controller knows at each sample goes through `sources_of`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from bench_fleets import Bench, Size, make_bench
from steppe.config import BatchControlSection, TraceSupply
from steppe.control.batch_policy import BatchPool, BatchTerms, PlanBatch
from steppe.control.batch_work import BatchWork
from steppe.control.plan import Plan
from steppe.control.policy.goals import at_slo_if_any
from steppe.control.policy.make import make_policy
from steppe.control.policy.policy import Policy, PoolFacts
from steppe.control.reconcile import DrainRule
from steppe.control.shortage_forecast import ShortagePoints
from steppe.control.state import Observation
from steppe.frontier.pareto import Frontier
from steppe.grid.offers.history import Moment
from steppe.grid.offers.of_fleet import FleetNow, PoolNow, Worth, sources_of
from steppe.power.budget import PowerBudget
from steppe.power.site_terms import SiteTerms
from steppe.power.supply import Steady, TraceClock, WeatherYear
from steppe.power.trace import HOUR_S, load_trace
from steppe.report.records import RequestRecord, TickRecord
from steppe.run.simulated_fleet import frontier_for, simulated_fleet
from steppe.run.simulated_load import arrivals_for
from steppe.sim.batch_jobs import Job
from steppe.sim.run import Scenario, run_scenario

WIND = Path("../shared/data/renewable/la_haute_borne_wind_8.2MW_10min_2014.csv.gz")
DAY_H, EVERY_H, DUE_H = 24, 6, 24
SPEED = 600.0
"""Seconds of the week in a second of the run: a tick is a sample of ten minutes."""
SAMPLE_S = 600.0
REPLICAS = 3
FIRM_SHARE, WIND_SHARE, LOAD_SHARE, BATCH_SHARE = 0.45, 1.0, 0.3, 0.25
"""Bought power and rated wind, share of the full draw; interactive load and batch work, share of
what the fleet serves at full power."""
PROMPT_TOKENS, OUTPUT_TOKENS, BATCH_LIMIT = 150, 100, 32
PERIOD_S, STAY_S = 1.0, 5.0


@dataclass
class Noted:
    """A policy that notes what the fleet could give, and decides as another one.

    Attributes:
        policy: The other policy.
        frontier: Operating points of one replica.
        moments: What was noted, in time of the week.
    """

    policy: Policy
    frontier: Frontier
    moments: list[Moment] = field(default_factory=list)

    def decide(self, observation: Observation) -> Plan:
        """Note, and decide."""
        if observation.draw_w is not None:
            pool = PoolNow(self.frontier, observation)
            jobs = tuple(map(_of_week, observation.batch))
            fleet = FleetNow((pool,), jobs, observation.gpu_budget_w, worth=Worth(1.0, 0.2))
            self.moments.append(Moment(SPEED * observation.now_s, sources_of(fleet)))
        return self.policy.decide(observation)


def _of_week(job: BatchWork) -> BatchWork:
    """Return batch work in seconds of the week."""
    due_in_s = None if job.due_in_s is None else SPEED * job.due_in_s
    return replace(job, output_tokens=SPEED * job.output_tokens, due_in_s=due_in_s)


@dataclass
class NoRecords:
    """Keeps no record of the run."""

    def tick(self, record: TickRecord) -> None:
        """Take a tick."""

    def request(self, record: RequestRecord) -> None:
        """Take a request."""


def moments_of(days: int, first_day: int, seed: int, wind: Path = WIND) -> Sequence[Moment]:
    """Return what a fleet could give at each sample of some days.

    Args:
        days: How many days.
        first_day: Day of 2014 on which they begin, counted from 0.
        seed: Of the requests.
        wind: File of the wind farm.
    """
    bench = _bench(days * DAY_H * HOUR_S / SPEED, seed)
    config, frontier = bench.config, bench.frontier
    budget = _budget(bench, first_day, wind)
    facts = PoolFacts.of(config, frontier, bench.fleet.replicas, budget)
    kept = at_slo_if_any(frontier, config.slo.tpot_s)
    terms = replace(BatchTerms.of(config, budget), persists=True)
    inner = PlanBatch(make_policy(facts), [BatchPool("", kept, bench.fleet.replicas)], terms)
    policy = Noted(inner, frontier)
    scenario = Scenario(
        fleet=bench.fleet,
        policy=policy,
        drain_rule=DrainRule(frontier.drain, config.control.drain_s),
        budget=budget,
        points=ShortagePoints.of(frontier, config.slo.tpot_s),
        arrivals=bench.arrivals,
        duration_s=config.sim.duration_s,
        jobs=_jobs(bench, days),
    )
    run_scenario(scenario, PERIOD_S, NoRecords())
    return _spaced(policy.moments)


def _spaced(moments: Sequence[Moment]) -> list[Moment]:
    """Return one moment of each sample: a step of the budget makes a tick of its own."""
    found: list[Moment] = []
    for moment in moments:
        if not found or moment.at_s >= found[-1].at_s + 0.9 * SAMPLE_S:
            found.append(moment)
    return found


def _bench(duration_s: float, seed: int) -> Bench:
    size = Size("70b", REPLICAS, duration_s, LOAD_SHARE, speed=SPEED, seed=seed)
    found = make_bench(size)
    engine = found.config.engine.model_copy(update={"max_batch_limit": BATCH_LIMIT})
    times = {"dwell_s": STAY_S, "drain_s": STAY_S, "period_s": PERIOD_S}
    batch = BatchControlSection(every_s=SAMPLE_S)
    control = found.config.control.model_copy(update={**times, "batch": batch})
    config = found.config.model_copy(update={"engine": engine, "control": control})
    fleet = simulated_fleet(config)
    frontier = frontier_for(config, fleet.kind)
    arrivals = arrivals_for(config, frontier.full.output_tps * fleet.replicas)
    return replace(found, config=config, fleet=fleet, frontier=frontier, arrivals=arrivals)


def _jobs(bench: Bench, days: int) -> tuple[Job, ...]:
    hour_s = HOUR_S / SPEED
    full_tps = bench.fleet.replicas * bench.frontier.full.output_tps
    rows = max(1, round(BATCH_SHARE * full_tps * EVERY_H * hour_s / OUTPUT_TOKENS))
    return tuple(
        Job(
            f"job-{hour}",
            hour * hour_s,
            rows,
            PROMPT_TOKENS,
            OUTPUT_TOKENS,
            due_s=(hour + DUE_H) * hour_s,
        )
        for hour in range(0, days * DAY_H, EVERY_H)
    )


def _budget(bench: Bench, first_day: int, wind: Path) -> PowerBudget:
    rated_w = WIND_SHARE * bench.full_w
    year = load_trace(TraceSupply(kind="trace", path=wind, rated_w=rated_w))
    firm = Steady(FIRM_SHARE * bench.full_w, "grid")
    return PowerBudget(
        supplies=(WeatherYear(year, first_day * DAY_H * HOUR_S, "wind"), firm),
        clock=TraceClock(0.0, SPEED),
        terms=SiteTerms(0.0, 0.0, 60.0, 1.0, 0.0),
    )
