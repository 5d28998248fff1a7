"""The fleets of the scoreboard: what they serve, on what, under which load, how they are judged.

Everything is modelled by the energy roofline, whose calibration the frontier names.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple

import scenarios
from steppe.config import RunConfig
from steppe.frontier.pareto import Frontier
from steppe.load.arrivals import Arrival
from steppe.report.records import Slo
from steppe.roofline.step_costs import CostFactors
from steppe.run.simulated_fleet import frontier_for, simulated_fleet
from steppe.run.simulated_load import arrivals_for
from steppe.sim.fleet_settings import FleetSettings

PERIOD_S, MARGIN_SHARE, OVER_SHARE = 1.0, 0.002, 1e-3
"""Less is left free than by default, and as much may be above a budget as the target allows."""
MIDNIGHT = datetime(2000, 1, 1)
LOWEST_CLOCK = 0.5
"""Lowest clock that is offered, share of the highest: that of a sweep, and about the lowest at
which an H100 was measured under load (`bench/clock_sweeps.py`)."""
FLEETS: dict[str, dict[str, Any]] = {
    "8b": {"model": "llama-3.1-8b", "replicas": 64, "gpus": 1, "tpot_s": 0.1, "tokens": 2048},
    "70b": {"model": "llama-3.1-70b", "replicas": 16, "gpus": 4, "tpot_s": 0.15, "tokens": 2048},
}
FLEETS["70b-steady"] = FLEETS["70b"] | {"tokens": 1728}
"""A step of the steady one has just room for the prompts that a full batch brings, so every step
computes some and the draw hardly spreads; but requests wait longer for their first token."""


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
        assumed_share: What a controller takes a replica to draw, share of what it does.
        assumed_speed: How fast a controller takes a replica to be, share of its true speed.
    """

    name: str
    config: RunConfig
    fleet: FleetSettings
    frontier: Frontier
    arrivals: tuple[Arrival, ...]
    gpus: int
    assumed_share: float = 1.0
    assumed_speed: float = 1.0

    @property
    def assumed(self) -> Frontier:
        """Operating points as a controller knows them: watts and speed may all be wrong."""
        known, share, speed = self.frontier, self.assumed_share, self.assumed_speed
        points = [
            replace(
                point,
                draw_w=share * point.draw_w,
                output_tps=speed * point.output_tps,
                tpot_s=point.tpot_s / speed,
            )
            for point in known.candidates
        ]
        asleep_w, idle_w = share * known.asleep_w, share * known.idle_w
        found = Frontier.of(points, asleep_w, idle_w, known.source)
        if known.costs is None:
            return found
        factors = CostFactors(1 / speed, 1 / speed, share / speed, share / speed)
        return found.with_costs(known.costs.scaled(factors), known.lengths)

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
        assumed_share: What a controller takes a replica to draw, share of what it does.
        clock_curve: The clock curve as fitted, or one standard error lower or higher.
        assumed_speed: How fast a controller takes a replica to be, share of its true speed.
        wake_s: Time for a replica to wake, s of the run.
        sleep_s: Time for it to go to sleep, s of the run.
        speed: Seconds of the day in a second of the run; None for a day in a run.
        begin_hour: Hour of the day at which a run begins.
        depths: Sleeps deeper than a pause: the kind of each, and its time to wake, s.
        node_rest_w: Draw of a node of eight GPUs beside them, W.
    """

    fleet: str
    replicas: int | None
    duration_s: float
    utilisation: float = 0.8
    lowest_clock_share: float = LOWEST_CLOCK
    margin_share: float = MARGIN_SHARE
    over_share: float = OVER_SHARE
    seed: int = 0
    assumed_share: float = 1.0
    clock_curve: str = "nominal"
    assumed_speed: float = 1.0
    wake_s: float = 1.0
    sleep_s: float = 0.3
    speed: float | None = None
    begin_hour: float = 0.0
    depths: tuple[tuple[str, float], ...] = ()
    node_rest_w: float = 0.0


@lru_cache(maxsize=1)
def make_bench(size: Size) -> Bench:
    """Return one of the fleets with its load."""
    config, gpus = _config_of(size), FLEETS[size.fleet]["gpus"]
    fleet = simulated_fleet(config)
    frontier = frontier_for(config, fleet.kind)
    arrivals = arrivals_for(config, frontier.full.output_tps * fleet.replicas)
    assumed = size.assumed_share, size.assumed_speed
    return Bench(size.fleet, config, fleet, frontier, arrivals, gpus, *assumed)


def _config_of(size: Size) -> RunConfig:
    what = FLEETS[size.fleet]
    gpus, lengths = what["gpus"], {"prompt_tokens": 1155, "output_tokens": 211}
    replicas = what["replicas"] if size.replicas is None else size.replicas
    sleep = {"wake_s": size.wake_s, "sleep_s": size.sleep_s}
    return RunConfig.model_validate(
        {
            "model": {"name": what["model"], "max_model_len": 16384},
            "engine": {"max_batch_limit": 256, "max_tokens_per_step": what["tokens"]},
            "fleet": {
                "replicas": replicas,
                "gpus_per_replica": gpus,
                "sleep": [{"kind": kind, "wake_s": wake_s} for kind, wake_s in size.depths],
            },
            "site": {"node_rest_w": size.node_rest_w},
            "device": {"kind": "modelled", "gpu": "h100", "clock_curve": size.clock_curve},
            "power": {
                "supply": [{"kind": "constant", "watts": 1}],
                "speedup": size.speed or scenarios.DAY_S / size.duration_s,
                "start": MIDNIGHT + timedelta(hours=size.begin_hour),
            },
            "frontier": {"sweep": lengths | {"lowest_clock_share": size.lowest_clock_share}},
            "control": {
                "policy": "follow_budget",
                "period_s": PERIOD_S,
                "margin_share": size.margin_share,
                "over_share": size.over_share,
            },
            "gateway": {"max_waiting": 20_000},
            "slo": {"ttft_s": 2.0, "tpot_s": what["tpot_s"]},
            "load": {
                "utilisation": size.utilisation,
                "daily_depth": 0.4,
                "seed": size.seed,
            },
            "sim": {"duration_s": size.duration_s, **sleep},
        }
    )
