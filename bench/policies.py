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
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple, get_args

import document
import policy_bound
import policy_figure
import policy_table
import scenarios
from steppe.cli.simulate import arrivals_for, frontier_for
from steppe.cli.simulated import simulated_fleet
from steppe.config import ControlSection, RunConfig
from steppe.config.control import PolicyName
from steppe.control.choose import PoolFacts, make_policy
from steppe.control.policy import Policy
from steppe.control.reconcile import DrainRule
from steppe.frontier.pareto import Frontier
from steppe.power.battery import NO_BATTERY, Battery
from steppe.power.budget import PowerBudget, SiteTerms
from steppe.power.supply import Replay, TraceClock
from steppe.report.records import RequestRecord, Slo, TickRecord
from steppe.report.summary import Summary, summarise
from steppe.sim.fleet import FleetSettings
from steppe.sim.request import Arrival
from steppe.sim.run import Failure, Scenario, simulate

PERIOD_S, MARGIN_SHARE, OVER_SHARE = 1.0, 0.002, 1e-3
"""Less is left free than by default, and as much may be above a budget as the target allows."""
NAMEPLATE_W, LEAST_CAP_W = 700.0, 200.0
"""Power limit of an H100 SXM: the largest from its data sheet, the least as commonly reported."""
LOWEST_CLOCK = 0.5
"""Lowest clock that is offered, share of the highest: that of a sweep. Below 0.69 nothing was
fitted (`frontier/gpu_spec.py`), so points there are extrapolated; `--lowest-clock 0.69` leaves
them out."""
FLEETS: dict[str, dict[str, Any]] = {
    "8b": {"model": "llama-3.1-8b", "replicas": 64, "gpus": 1, "tpot_s": 0.1, "tokens": 2048},
    "70b": {"model": "llama-3.1-70b", "replicas": 16, "gpus": 4, "tpot_s": 0.15, "tokens": 2048},
}
FLEETS["70b-steady"] = FLEETS["70b"] | {"tokens": 1728}
"""A step of the steady one has just room for the prompts that a full batch brings, so every step
computes some and the draw hardly spreads; but requests wait longer for their first token."""
POLICIES = get_args(PolicyName)


@dataclass(frozen=True, slots=True)
class Bench:
    """A fleet, its load and how it is judged.

    Attributes:
        name: Its key in `FLEETS`.
        config: What the runs have in common.
        fleet: The simulated fleet.
        frontier: Operating points of one replica.
        arrivals: The requests.
        gpus: GPUs of a replica.
    """

    name: str
    config: RunConfig
    fleet: FleetSettings
    frontier: Frontier
    arrivals: tuple[Arrival, ...]
    gpus: int

    def with_load(self, share: float) -> Bench:
        """Return the same with another load, share of this one's."""
        if share == 1.0:
            return self
        load = self.config.load
        lighter = load.model_copy(update={"utilisation": share * load.utilisation})
        config = self.config.model_copy(update={"load": lighter})
        capacity_tps = self.frontier.full.output_tps * self.fleet.replicas
        return replace(self, config=config, arrivals=arrivals_for(config, capacity_tps))

    @property
    def slo(self) -> Slo:
        """What a good request is."""
        return Slo(self.config.slo.ttft_s, self.config.slo.tpot_s)

    @property
    def full_w(self) -> float:
        """Draw of the fleet at the full point, W."""
        return self.fleet.replicas * self.frontier.full.draw_w


class Size(NamedTuple):
    """What makes a bench: small, where the load that it makes takes minutes to hand over.

    Attributes:
        fleet: Its key in `FLEETS`.
        replicas: How many; the fleet's own number if None.
        duration_s: Length of a run, s.
        utilisation: Load, share of full power.
        lowest_clock_share: Lowest clock that is offered, share of the highest.
        margin_share: Share of the budget that is left free.
        over_share: Energy that may be above the budget, share of the energy.
        seed: Of the requests: when they come, and how long they are.
    """

    fleet: str
    replicas: int | None
    duration_s: float
    utilisation: float = 0.8
    lowest_clock_share: float = LOWEST_CLOCK
    margin_share: float = MARGIN_SHARE
    over_share: float = OVER_SHARE
    seed: int = 0


@dataclass(slots=True)
class Lines:
    """Keeps what a run writes down."""

    ticks: list[TickRecord] = field(default_factory=list)
    requests: list[RequestRecord] = field(default_factory=list)

    def tick(self, record: TickRecord) -> None:
        """Take one tick."""
        self.ticks.append(record)

    def request(self, record: RequestRecord) -> None:
        """Take one request."""
        self.requests.append(record)


@lru_cache(maxsize=1)
def make_bench(size: Size) -> Bench:
    """Return one of the fleets with its load."""
    config, gpus = _config_of(size), FLEETS[size.fleet]["gpus"]
    fleet = simulated_fleet(config)
    frontier = frontier_for(config, fleet.kind)
    arrivals = arrivals_for(config, frontier.full.output_tps * fleet.replicas)
    return Bench(size.fleet, config, fleet, frontier, arrivals, gpus)


def _config_of(size: Size) -> RunConfig:
    what = FLEETS[size.fleet]
    gpus, lengths = what["gpus"], {"prompt_tokens": 1155, "output_tokens": 211}
    replicas = what["replicas"] if size.replicas is None else size.replicas
    return RunConfig.model_validate(
        {
            "model": {"name": what["model"], "max_model_len": 16384},
            "engine": {"max_batch_limit": 256, "max_tokens_per_step": what["tokens"]},
            "fleet": {"replicas": replicas, "gpus_per_replica": gpus},
            "device": {"kind": "modelled", "gpu": "h100"},
            "power": {
                "supply": [{"kind": "constant", "watts": 1}],
                "speedup": scenarios.DAY_S / size.duration_s,
            },
            "frontier": {"sweep": lengths | {"lowest_clock_share": size.lowest_clock_share}},
            "control": {
                "policy": "follow_budget",
                "period_s": PERIOD_S,
                "margin_share": size.margin_share,
                "over_share": size.over_share,
                "nameplate_w": NAMEPLATE_W * gpus,
                "least_cap_w": LEAST_CAP_W * gpus,
            },
            "gateway": {"max_waiting": 20_000},
            "slo": {"ttft_s": 2.0, "tpot_s": what["tpot_s"]},
            "load": {
                "utilisation": size.utilisation,
                "daily_depth": 0.4,
                "seed": size.seed,
            },
            "sim": {"duration_s": size.duration_s, "wake_s": 1.0, "sleep_s": 0.3},
        }
    )


def budget_of(happening: scenarios.Happening, battery: Battery = NO_BATTERY) -> PowerBudget:
    """Return the budget of a happening, at the boundary of the GPUs; a battery begins half full."""
    return PowerBudget(
        supplies=(Replay(happening.budget, 0.0),),
        clock=TraceClock(0.0, 1.0),
        terms=SiteTerms(0.0, happening.fallback_w, scenarios.STALE_S, 1.0, 0.0),
        battery=battery,
        stored_j=battery.capacity_j / 2,
    )


def run(
    bench: Bench, policy: str, happening: scenarios.Happening
) -> tuple[Summary, list[TickRecord]]:
    """Put a policy through a happening."""
    control = bench.config.control.model_copy(update={"policy": policy})
    return run_with(bench, control, budget_of(happening), happening.deaths)


def run_with(
    bench: Bench,
    control: ControlSection,
    budget: PowerBudget,
    deaths: Sequence[scenarios.Death] = (),
) -> tuple[Summary, list[TickRecord]]:
    """Let a control section follow a budget, while replicas die."""
    facts = PoolFacts(
        bench.frontier,
        bench.fleet.replicas,
        bench.slo.tpot_s,
        bench.config.gateway.max_wait_s,
        budget.forecast,
        budget.store,
        bench.config.power.speedup,
    )
    return run_policy(bench, make_policy(control, facts), control, budget, deaths)


def run_policy(
    bench: Bench,
    policy: Policy,
    control: ControlSection,
    budget: PowerBudget,
    deaths: Sequence[scenarios.Death] = (),
) -> tuple[Summary, list[TickRecord]]:
    """Let a policy follow a budget, at the times of a control section, while replicas die."""
    scenario = Scenario(
        fleet=bench.fleet,
        policy=policy,
        drain_rule=DrainRule(bench.frontier.drain, control.drain_s),
        budget=budget,
        arrivals=bench.arrivals,
        duration_s=bench.config.sim.duration_s,
        lead_s=control.lead_s,
        failures=tuple(Failure(d.at_s, math.floor(d.share * bench.fleet.replicas)) for d in deaths),
    )
    lines = Lines()
    totals = simulate(scenario, control.period_s, lines)
    return summarise(lines.ticks, lines.requests, totals, bench.slo), lines.ticks


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
    add("--seed", type=int, default=0, help="of the requests")
    add("--policy", action="append", choices=POLICIES, help="all when absent")
    names = [make.__name__ for make in scenarios.HAPPENINGS]
    add("--happening", action="append", choices=names, help="all when absent")
    add("--jobs", type=int, default=1, help="processes that share the runs")
    add("--figure", type=Path, help="PNG to draw the table in")
    return parser.parse_args()


def main() -> None:
    """Run, print a table, and then one JSON document."""
    arguments = parsed()
    size = Size(*(getattr(arguments, name) for name in Size._fields))
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
