"""How long does the simulator take for an hour of 64 replicas and 100,000 requests?

The fleet follows a compressed day of wind and sun: replicas sleep and wake, clocks and batch
limits change every second. The policy is a cheap one in this file, so that the time is that of the
simulator; the time of one decision of the live policy is printed beside it. Every run is a process
of its own with one thread. Times are CPU time, so that other work of the machine does not count;
the wall time is printed too. Memory is the peak of the process, with outputs of the usual length
and with four times as many tokens for the same number of requests.

    python bench/simulator_speed.py --rounds 3
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from steppe.config import EmulatedSection, PaceSection, PowerSection, RunConfig
from steppe.control.plan import Plan
from steppe.control.policy.make import make_policy
from steppe.control.policy.policy import PoolFacts
from steppe.control.state import Observation
from steppe.frontier.pareto import Frontier
from steppe.load.arrivals import Arrival
from steppe.measure.provenance import source_commit
from steppe.power.budget import budget_from_config
from steppe.report.record_folder import Recorder
from steppe.report.records import Slo
from steppe.roofline.lengths import RequestLengths
from steppe.sim.build import emulated_replica, fleet_of, kind_of, scenario_of
from steppe.sim.points import modelled_frontier
from steppe.sim.run import Scenario, run_scenario
from targets import at_most

Result = TypeVar("Result")

REPLICAS, REQUESTS, HOUR_S = 64, 100_000, 3600.0
PROMPT, OUTPUT = 1155, 211
TARGET_S = 10.0
# Not measured: of the order of an 8-billion-parameter model on an H100.
PACE = PaceSection(weights_s=0.0055, decode_s=0.00009, prefill_s=0.00003)
DAY = {
    "supply": [
        {"kind": "wind", "station": "sand_point", "rated_w": 12_000},
        {"kind": "solar", "station": "greensboro", "rated_w": 20_000},
        {"kind": "constant", "watts": 7_500},
    ],
    "start": "2001-09-05T00:00:00",
    "speedup": 24,
}


@dataclass(frozen=True, slots=True)
class EvenSplit:
    """Runs as many replicas as fit at half draw, all at the best point that fits."""

    frontier: Frontier

    def decide(self, observation: Observation) -> Plan:
        """Return the plan for this budget."""
        frontier, replicas = self.frontier, len(observation.replicas)
        spare_w = observation.gpu_budget_w - replicas * frontier.asleep_w
        half_w = (frontier.floor.draw_w + frontier.full.draw_w) / 2 - frontier.asleep_w
        awake = max(1, min(replicas, int(spare_w / half_w)))
        each_w = frontier.asleep_w + spare_w / awake
        fitting = [point for point in frontier.points if point.draw_w <= each_w]
        point = fitting[-1] if fitting else frontier.floor
        sleeping_w = (replicas - awake) * frontier.asleep_w
        return Plan((point,) * awake, awake * point.draw_w + sleeping_w, draining=replicas)


@dataclass(frozen=True, slots=True)
class Run:
    """Time and memory of one run.

    Attributes:
        simulate_s: Simulating, lines written, s of CPU.
        wall_s: The same, s of wall time.
        finish_s: Reading them back for summary and figure, s of CPU.
        peak_bytes: Largest memory of the process before the summary, bytes.
        requests: Requests that completed.
        output_tokens: Tokens sampled.
    """

    simulate_s: float
    wall_s: float
    finish_s: float
    peak_bytes: int
    requests: int
    output_tokens: int


def make_scenario(length_scale: float) -> tuple[Scenario, Frontier]:
    """Return the hour, with outputs so many times as long."""
    config = RunConfig.model_validate(
        {
            "model": {"name": "modelled-8b"},
            "engine": {"max_batch_limit": 256, "max_tokens_per_step": 2048},
            "fleet": {"replicas": REPLICAS},
            "device": EmulatedSection(kind="emulated", profile="h100", pace=PACE),
            "power": PowerSection.model_validate(DAY),
            "frontier": {"sweep": {}},
            "sim": {"duration_s": HOUR_S, "kv_tokens": 430_000},
        }
    )
    assert isinstance(config.device, EmulatedSection)
    kind = kind_of(config, emulated_replica(config.device, 1))
    clocks = np.linspace(990, 1980, 20).astype(int).tolist()
    frontier = modelled_frontier(
        kind, clocks, (8, 16, 32, 64, 128, 256), RequestLengths(PROMPT, OUTPUT)
    )
    rng = np.random.default_rng(0)
    times_s = np.sort(rng.uniform(0, HOUR_S, REQUESTS)).tolist()
    prompts = rng.gamma(1.0, PROMPT, REQUESTS).clip(1, 14_000).astype(int).tolist()
    outputs = rng.gamma(1.5, length_scale * OUTPUT / 1.5, REQUESTS).clip(1, 8_000)
    arrivals = tuple(
        Arrival(at_s, prompt, output)
        for at_s, prompt, output in zip(times_s, prompts, outputs.astype(int).tolist(), strict=True)
    )
    scenario = scenario_of(config, fleet_of(config, kind), frontier, arrivals, EvenSplit(frontier))
    return scenario, frontier


def run_hour(length_scale: float) -> Run:
    """Simulate the hour once; runs in a process of its own."""
    scenario, _ = make_scenario(length_scale)
    with tempfile.TemporaryDirectory() as folder, Recorder(Path(folder) / "run") as recorder:
        began_s, began_wall_s = time.process_time(), time.perf_counter()
        totals = run_scenario(scenario, 1.0, recorder)
        done_s, wall_s = time.process_time(), time.perf_counter() - began_wall_s
        peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        summary = recorder.finish(replace(totals, versions={}), Slo(2.0, 0.2))
        finish_s = time.process_time() - done_s
    return Run(
        simulate_s=done_s - began_s,
        wall_s=wall_s,
        finish_s=finish_s,
        peak_bytes=peak_bytes,
        requests=summary["requests"]["completed"],
        output_tokens=summary["output_tokens"],
    )


def decision_s(length_scale: float) -> float:
    """Return what one decision of the live controller's policy takes here, s."""
    scenario, frontier = make_scenario(length_scale)
    short = replace(scenario, policy=_timed(frontier), duration_s=20.0)
    run_scenario(short, 1.0, _NoRecorder())
    assert isinstance(short.policy, Timed)
    return statistics.median(short.policy.times_s)


@dataclass(frozen=True, slots=True)
class Timed:
    """A policy, and how long each of its decisions took, s."""

    inner: Any
    times_s: list[float]

    def decide(self, observation: Observation) -> Plan:
        """Return the inner policy's plan, and note how long it took."""
        began_s = time.process_time()
        plan: Plan = self.inner.decide(observation)
        self.times_s.append(time.process_time() - began_s)
        return plan


def _timed(frontier: Frontier) -> Timed:
    config = RunConfig.model_validate(
        {
            "model": {"name": "modelled-8b"},
            "device": {"kind": "emulated"},
            "power": {"supply": [{"kind": "constant", "watts": 0}]},
            "frontier": {"sweep": {}},
        }
    )
    budget = budget_from_config(config.power, config.site)
    return Timed(make_policy(PoolFacts.of(config, frontier, REPLICAS, budget)), [])


class _NoRecorder:
    def tick(self, record: object) -> None:
        """Record nothing."""

    def request(self, record: object) -> None:
        """Record nothing."""


def apart(call: Callable[[float], Result], argument: float) -> Result:
    """Return what a call gives in a fresh process."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_answer, args=(theirs, call, argument))
    process.start()
    result: Result = ours.recv()
    process.join()
    return result


def _answer(pipe: Connection, call: Callable[[float], object], argument: float) -> None:
    pipe.send(call(argument))


def measure(rounds: int) -> dict[str, Any]:
    """Run everything, each run in a fresh process."""
    usual = [apart(run_hour, 1.0) for _ in range(rounds)]
    long, decide_s = apart(run_hour, 4.0), apart(decision_s, 1.0)
    return {
        "simulate_s": _spread([run.simulate_s for run in usual]),
        "wall_s": _spread([run.wall_s for run in usual]),
        "summary_s": _spread([run.finish_s for run in usual]),
        "peak_bytes": _spread([float(run.peak_bytes) for run in usual]),
        "completed": usual[0].requests,
        "output_tokens": usual[0].output_tokens,
        "four_times_the_tokens": {
            "simulate_s": long.simulate_s,
            "wall_s": long.wall_s,
            "peak_bytes": long.peak_bytes,
            "completed": long.requests,
            "output_tokens": long.output_tokens,
        },
        "live_policy_decision_s": decide_s,
    }


def show(results: dict[str, Any]) -> None:
    """Print the table."""
    long = results["four_times_the_tokens"]
    print(f"{'':24} {'usual':>12} {'long outputs':>14}")
    rows = (
        ("simulate, CPU s", results["simulate_s"]["median"], long["simulate_s"]),
        ("simulate, wall s", results["wall_s"]["median"], long["wall_s"]),
        ("peak memory, MB", results["peak_bytes"]["median"] / 1e6, long["peak_bytes"] / 1e6),
        ("requests completed", results["completed"], long["completed"]),
        ("output tokens", results["output_tokens"], long["output_tokens"]),
    )
    for name, usual, other in rows:
        print(f"{name:24} {usual:12,.1f} {other:14,.1f}")
    print(f"summary and figure, CPU s{results['summary_s']['median']:12.1f}")
    print(f"one decision of the live policy: {results['live_policy_decision_s'] * 1e3:.1f} ms")


def document(results: dict[str, Any]) -> dict[str, Any]:
    """Return the benchmark's last line."""
    took_s = results["simulate_s"]["median"]
    usual_bytes = results["peak_bytes"]["median"]
    growth = results["four_times_the_tokens"]["peak_bytes"] / usual_bytes
    return {
        "bench": "simulator_speed",
        "commit": source_commit(),
        "hardware": {"machine": platform.machine(), "cpus": os.cpu_count(), "gpu": None},
        "versions": {"python": platform.python_version(), "steppe": version("steppe")},
        "results": results,
        "targets": [
            at_most(
                "1 h of 64 replicas and 100,000 requests on one core", took_s, "CPU s", TARGET_S
            ),
            at_most("peak memory with four times the tokens, ratio", growth, "", 1.1),
        ],
    }


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=3)
    outcome = measure(parser.parse_args().rounds)
    show(outcome)
    print(json.dumps(document(outcome)))
