"""The simulator at many replicas: time of a tick, CPU time of an hour, memory."""

from __future__ import annotations

import multiprocessing
import resource
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from scale_figures import PER_HOUR_S, spread
from steppe.config import RunConfig
from steppe.load.arrivals import Arrival
from steppe.report.records import RequestRecord, TickRecord
from steppe.run.simulated_fleet import frontier_for, simulated_fleet
from steppe.sim.build import scenario_of
from steppe.sim.run import FleetRun, Scenario

PROMPT, OUTPUT = 1155, 211
"""Tokens of the mean request: the Azure conversation trace of 2023."""
RATE_RPS = 0.43
"""Requests of each replica, 1/s: 100,000 an hour for 64, as in `simulator_speed.py`."""
PERIOD_S, SPEEDUP = 1.0, 24.0


@dataclass(frozen=True, slots=True)
class Cost:
    """What a simulation cost.

    Attributes:
        ticks_s: CPU time of each tick: observe, decide, act, record; s.
        cpu_s: CPU time of the run, s.
        made_s: CPU time to make the fleet before it, s.
        peak_bytes: Largest memory of the process, bytes.
        base_bytes: Its memory before the fleet was made, bytes.
        requests: Requests that ended.
    """

    ticks_s: list[float]
    cpu_s: float
    made_s: float
    peak_bytes: int
    base_bytes: int
    requests: int


class TimedRun(FleetRun):
    """A run that notes the CPU time of its ticks, s."""

    def __init__(self, scenario: Scenario, writer: Count) -> None:
        self.ticks_s: list[float] = []
        super().__init__(scenario, PERIOD_S, writer)

    def _tick(self, now_s: float, planned_s: float) -> None:
        began_s = time.process_time()
        super()._tick(now_s, planned_s)
        self.ticks_s.append(time.process_time() - began_s)


@dataclass(slots=True)
class Count:
    """Counts what a run would write down."""

    ticks: int = 0
    requests: int = 0

    def tick(self, record: TickRecord) -> None:
        """Count a tick."""
        self.ticks += 1

    def request(self, record: RequestRecord) -> None:
        """Count a request."""
        self.requests += 1


def config_of(replicas: int, duration_s: float) -> RunConfig:
    """Return a day of wind and sun, compressed to an hour, for so many replicas on H100."""
    return RunConfig.model_validate(
        {
            "model": {"name": "llama-3.1-8b", "max_model_len": 32768},
            "engine": {"max_batch_limit": 256, "max_tokens_per_step": 2048},
            "fleet": {"replicas": replicas},
            "device": {"kind": "modelled", "gpu": "h100", "gpus_per_node": 8},
            "power": {
                "supply": [
                    {"kind": "wind", "station": "sand_point", "rated_w": 190 * replicas},
                    {"kind": "solar", "station": "greensboro", "rated_w": 310 * replicas},
                    {"kind": "constant", "watts": 120 * replicas},
                ],
                "start": "2001-09-05T09:00:00",
                "speedup": SPEEDUP,
            },
            "frontier": {"sweep": {}},
            "gateway": {"max_waiting": 1000 * replicas},
            "sim": {"duration_s": duration_s},
        }
    )


def arrivals(replicas: int, duration_s: float) -> Iterator[Arrival]:
    """Yield requests at random times, one by one: a list of those of an hour fills the memory."""
    rng, at_s = np.random.default_rng(0), 0.0
    while True:
        gaps_s = rng.exponential(1 / (RATE_RPS * replicas), 1000)
        prompts = rng.gamma(1.0, PROMPT, 1000).clip(1, 14_000).astype(int)
        outputs = rng.gamma(1.5, OUTPUT / 1.5, 1000).clip(1, 8_000).astype(int)
        for gap_s, prompt, output in zip(gaps_s, prompts, outputs, strict=True):
            at_s += float(gap_s)
            if at_s > duration_s:
                return
            yield Arrival(at_s, int(prompt), int(output))


def simulate(replicas: int, duration_s: float) -> Cost:
    """Simulate a fleet for so long, s."""
    base_bytes, began_s = _peak_bytes(), time.process_time()
    config = config_of(replicas, duration_s)
    fleet = simulated_fleet(config)
    scenario = scenario_of(config, fleet, frontier_for(config, fleet.kind), ())
    count = Count()
    run = TimedRun(replace(scenario, arrivals=arrivals(replicas, duration_s)), count)
    made_s = time.process_time()
    run.queue.run_until(duration_s)
    cpu_s = time.process_time() - made_s
    return Cost(run.ticks_s, cpu_s, made_s - began_s, _peak_bytes(), base_bytes, count.requests)


def row_of(replicas: int, duration_s: float, cost: Cost) -> dict[str, Any]:
    """Return a row of the results; the first ticks, which wake the fleet, count as well."""
    return {
        "replicas": replicas,
        "simulated_s": duration_s,
        "tick_cpu_s": spread(cost.ticks_s),
        "cpu_s_per_simulated_hour": cost.cpu_s * PER_HOUR_S / duration_s,
        "share_of_ticks": sum(cost.ticks_s) / cost.cpu_s,
        "made_cpu_s": cost.made_s,
        "peak_bytes": cost.peak_bytes,
        "bytes_per_replica": (cost.peak_bytes - cost.base_bytes) / replicas,
        "requests": cost.requests,
    }


def measure(replicas: int, duration_s: float) -> dict[str, Any]:
    """Return the row of a simulation in a process of its own."""
    spawned = multiprocessing.get_context("spawn")
    ours, theirs = spawned.Pipe()
    process = spawned.Process(target=_answer, args=(theirs, replicas, duration_s))
    process.start()
    row: dict[str, Any] = ours.recv()
    process.join()
    return row


def _answer(pipe: Connection, replicas: int, duration_s: float) -> None:
    pipe.send(row_of(replicas, duration_s, simulate(replicas, duration_s)))


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
