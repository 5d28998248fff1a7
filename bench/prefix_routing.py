"""How many prompt tokens, and how many joules, does prefix affinity save?

Sixteen simulated replicas of Llama-3.1-70B, each on four H100s, serve the conversation trace of
Mooncake (Qin et al., FAST 2025), whose prompts have hashes of their blocks. Requests go to the
replica with the least outstanding work, or to the one that holds the longest part of their prompt,
with keys and values in GPU memory alone or in host memory, too. On the first day the budget falls
six times from 80 to 28 % of the full draw, so that replicas sleep and wake; the trace is played so
fast that the fleet can serve most of it. The second day is a windy one, on which power is scarce.

Every case serves the same requests, in an order that is drawn anew for each day. Everything is
modelled by the energy roofline; nothing here was measured on a GPU. Before that, the simulator is
compared with the roofline: requests of the Azure conversation trace, of whose prompts the cache
holds a known share, at a load above what the fleet can serve.

    python bench/prefix_routing.py --trace mooncake_conversation.jsonl
"""

from __future__ import annotations

import argparse
import json
import random
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import document
import policies
import scenarios
from bench_fleets import FLEETS, Bench, Size, make_bench
from steppe.config import RunConfig
from steppe.control.policy.make import make_policy
from steppe.load.arrivals import Arrival
from steppe.load.traces import read_trace
from steppe.power.trace import SupplyTrace
from steppe.report.records import RequestRecord, TickRecord
from steppe.report.summary import summarise
from steppe.roofline.lengths import RequestLengths
from steppe.run.simulated_fleet import frontier_for, simulated_fleet
from steppe.run.simulated_load import arrivals_for, with_lengths_of_load
from steppe.sim.build import scenario_of
from steppe.sim.points import modelled_frontier
from steppe.sim.run import RecordsInMemory, run_scenario
from targets import at_least

FLEET, LONGEST_CONTEXT = "70b", 131_072
TTFT_S = 10.0
"""Prompts have 12,000 tokens on average and up to 126,000, which take seconds to compute."""
SWINGS, HIGH_SHARE, LOW_SHARE = 6, 0.8, 0.28
HIT_SHARES = (0.25, 0.5)
ROOFLINE_GAINS = (1.16, 1.41)
"""What the roofline was said to give for these shares of hits."""


@dataclass(frozen=True, slots=True)
class Case:
    """How requests are routed, and what caches hold.

    Attributes:
        name: Its name in the table.
        affinity: Whether requests go to the replica that holds their prefix.
        uses_host: Whether keys and values are kept in host memory, too.
    """

    name: str
    affinity: bool
    uses_host: bool


CASES = (
    Case("least outstanding", affinity=False, uses_host=False),
    Case("least outstanding, host memory", affinity=False, uses_host=True),
    Case("affinity", affinity=True, uses_host=False),
    Case("affinity, host memory", affinity=True, uses_host=True),
)


@dataclass(frozen=True, slots=True)
class Day:
    """A budget, and how fast the trace is played under it.

    Attributes:
        name: Its name in the table.
        speed: Seconds of the trace in a second of the run.
    """

    name: str
    speed: float

    def happening(self, full_w: float, duration_s: float) -> scenarios.Happening:
        """Return the budget for a fleet of this full draw, W."""
        if self.name == "windy day":
            return scenarios.windy_day(full_w, duration_s)
        half_s = duration_s / SWINGS / 2
        shares = [LOW_SHARE if step % 2 else HIGH_SHARE for step in range(2 * SWINGS + 1)]
        times_s = tuple(step * half_s for step in range(len(shares)))
        budget = SupplyTrace(times_s, tuple(share * full_w for share in shares), None)
        return scenarios.Happening(self.name, budget, LOW_SHARE * full_w)


def config_of(trace: Path, day: Day, case: Case, host_bytes: int, bound: float) -> RunConfig:
    """Return the run of a case on a day."""
    what, recorded = FLEETS[FLEET], read_trace(trace)
    duration_s = recorded[-1].at_s / day.speed
    host = {"kv_host_bytes": host_bytes} if case.uses_host else {}
    return with_lengths_of_load(
        RunConfig.model_validate(
            {
                "model": {"name": what["model"], "max_model_len": LONGEST_CONTEXT},
                "engine": {"max_batch_limit": 256, "max_tokens_per_step": what["tokens"], **host},
                "fleet": {"replicas": what["replicas"], "gpus_per_replica": what["gpus"]},
                "device": {"kind": "modelled", "gpu": "h100"},
                "power": {"supply": [{"kind": "constant", "watts": 1}]},
                "frontier": {"sweep": {}},
                "gateway": {
                    "max_waiting": 20_000,
                    "prefix_affinity": case.affinity,
                    "prefix_load_bound": bound,
                },
                "slo": {"ttft_s": TTFT_S, "tpot_s": what["tpot_s"]},
                "load": {"trace": str(trace), "rate_rps": (len(recorded) - 1) / duration_s},
                "sim": {"duration_s": duration_s, "wake_s": 1.0, "sleep_s": 0.3},
            }
        )
    )


def bench_of(config: RunConfig) -> Bench:
    """Return the fleet of a run with its load."""
    fleet = simulated_fleet(config)
    frontier = frontier_for(config, fleet.kind)
    arrivals = arrivals_for(config, frontier.full.output_tps * fleet.replicas)
    return Bench(FLEET, config, fleet, frontier, arrivals, FLEETS[FLEET]["gpus"])


def run(bench: Bench, happening: scenarios.Happening) -> dict[str, Any]:
    """Let a fleet follow a budget; return a row of the table."""
    began_s, records = time.process_time(), RecordsInMemory()
    control, budget = bench.config.control, policies.budget_of(happening)
    policy = make_policy(policies.facts_of(bench, control, budget))
    scenario = scenario_of(bench.config, bench.fleet, bench.frontier, bench.arrivals, policy)
    totals = run_scenario(replace(scenario, budget=budget), control.period_s, records)
    summary = summarise(records.ticks, records.requests, totals, bench.slo)
    return {
        "hit_share": hit_share(records.requests),
        "output_tokens_per_joule": summary["output_tokens_per_joule"],
        "output_tokens": summary["output_tokens"],
        "energy_j": summary["energy_j"],
        "slo_attainment": summary["slo_attainment"],
        "completed": summary["requests"]["completed"],
        "ttft_p95_s": summary["latency"]["ttft_s"]["p95"],
        "over_budget_share": (summary["tracking"]["over_budget_j"] or 0.0) / summary["energy_j"],
        "awake": awake_range(records.ticks),
        "cpu_s": time.process_time() - began_s,
    }


def hit_share(requests: list[RequestRecord]) -> float:
    """Return the prompt tokens that caches held, over all."""
    prompts = sum(request.prompt_tokens or 0 for request in requests)
    return sum(request.cached_tokens or 0 for request in requests) / prompts


def awake_range(ticks: list[TickRecord]) -> list[int]:
    """Return the fewest and the most replicas that were awake at once."""
    awake = [sum(replica.state == "awake" for replica in tick.replicas) for tick in ticks]
    return [min(awake), max(awake)]


def measure(trace: Path, days: tuple[Day, ...], host_bytes: int, bound: float, seed: int) -> Any:
    """Return a row for each case on each day."""
    rng, rows = random.Random(seed), []
    tasks = [(day, case) for day in days for case in CASES]
    rng.shuffle(tasks)
    for day, case in tasks:
        bench = bench_of(config_of(trace, day, case, host_bytes, bound))
        happening = day.happening(bench.full_w, bench.config.sim.duration_s)
        row = {"day": day.name, "speed": day.speed, "case": case.name, **run(bench, happening)}
        rows.append(row)
        show(row)
    order = [case.name for case in CASES]
    return sorted(rows, key=lambda row: (row["day"], order.index(row["case"])))


def gains_of_hits(duration_s: float) -> list[dict[str, float]]:
    """Return what known shares of hits give, simulated and by the roofline, in tokens/J."""
    bench = make_bench(Size(FLEET, None, duration_s, utilisation=1.3))
    lengths, full = RequestLengths(1155, 211), bench.frontier.full
    level = scenarios.ample(0.6 * bench.full_w, duration_s)
    rows = []
    for share in (0.0, *HIT_SHARES):
        hit = replace(bench, arrivals=tuple(_with_hits(a, share) for a in bench.arrivals))
        cached = share * lengths.prompt_tokens
        held = RequestLengths(lengths.prompt_tokens - cached, lengths.output_tokens, cached)
        clock, batch = (full.clock_mhz,), (full.batch_limit,)
        point = modelled_frontier(bench.fleet.kind, clock, batch, held).full
        found = run(hit, level)
        rows.append(
            {
                "hit_share": share,
                "simulated_tpj": found["output_tokens_per_joule"],
                "roofline_tpj": 1 / point.joules_per_token,
            }
        )
    for row in rows:
        row["simulated_gain"] = row["simulated_tpj"] / rows[0]["simulated_tpj"]
        row["roofline_gain"] = row["roofline_tpj"] / rows[0]["roofline_tpj"]
    return rows


def _with_hits(arrival: Arrival, share: float) -> Arrival:
    cached = min(int(share * arrival.prompt_tokens), arrival.prompt_tokens - 1)
    return replace(arrival, cached_tokens=cached)


def show(row: dict[str, Any]) -> None:
    """Print a row of the table."""
    awake = "-".join(map(str, row["awake"]))
    print(
        f"{row['day']:10} {row['case']:31} hits {row['hit_share']:6.1%}  "
        f"{row['output_tokens_per_joule']:.4f} tok/J  SLO {row['slo_attainment']:6.1%}  "
        f"TTFT p95 {row['ttft_p95_s']:6.2f} s  awake {awake:5}  {row['cpu_s']:3.0f} s of CPU",
        flush=True,
    )


def targets_of(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the targets: shares of hits and gains on each day."""
    found = []
    for day in dict.fromkeys(row["day"] for row in rows):
        by_case = {row["case"]: row for row in rows if row["day"] == day}
        least, _, gpu, host = (by_case[case.name] for case in CASES)
        gain = host["output_tokens_per_joule"] / least["output_tokens_per_joule"]
        gpu_gain = gpu["output_tokens_per_joule"] / least["output_tokens_per_joule"]
        found += [
            at_least(f"{day}: hits in GPU memory", gpu["hit_share"], "share", 0.2),
            at_least(f"{day}: hits with host memory", host["hit_share"], "share", 0.35),
            at_least(f"{day}: tokens/J over least outstanding, GPU memory", gpu_gain, "x", 1.2),
            at_least(f"{day}: tokens/J over least outstanding, host memory", gain, "x", 1.2),
        ]
    return found


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trace", type=Path, required=True, help="Mooncake conversation trace")
    parser.add_argument("--swings-speed", type=float, default=1.5)
    parser.add_argument("--windy-speed", type=float, default=3.88)
    parser.add_argument("--host-bytes", type=int, default=1_000_000_000_000, help="of a replica")
    parser.add_argument("--bound", type=float, default=3.0, help="gateway.prefix_load_bound")
    parser.add_argument("--roofline-s", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    gains = gains_of_hits(given.roofline_s)
    for row in gains:
        print(" ".join(f"{name} {value:.3f}" for name, value in row.items()))
    days = (Day("swings", given.swings_speed), Day("windy day", given.windy_speed))
    rows = measure(given.trace, days, given.host_bytes, given.bound, given.seed)
    targets = targets_of(rows)
    for gain, hits, target in zip(gains[1:], HIT_SHARES, ROOFLINE_GAINS, strict=True):
        name = f"tokens/J with {hits:.0%} of the prompts in the cache, simulated"
        targets.append(at_least(name, gain["simulated_gain"], "x", target))
    fleet = document.fleet_of(make_bench(Size(FLEET, None, given.roofline_s, utilisation=1.3)))
    results = [*gains, *rows]
    print(json.dumps(document.simulated("prefix_routing", [fleet], given, results, targets)))


if __name__ == "__main__":
    main()
