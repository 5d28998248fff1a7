"""How wrong is the energy of a window, and does the stated bound hold?

Emulated GPUs in virtual time under a load that changes like a serving engine's (prefill, decode,
pauses), read every 10 ms with jitter. The truth is the emulator's own integral. Beside the counter
that is interpolated between its ticks (Steppe's) stand three common ways: the difference of two
counter readings, and the trapezoid rule over instant power and over NVML's GetPowerUsage. The load
changes in steps, which suits our interpolation, and the emulated power sensor updates in step with
the counter: the result shows how well such sensors can be read, not how good a real one is.

    python bench/meter_accuracy.py
"""

from __future__ import annotations

import argparse
import bisect
import json
import math
import platform
import random
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from steppe.device.nvml import NvmlGpu, open_gpus
from steppe.emulator.environment import activate, remove_state
from steppe.emulator.library import Emulator
from steppe.energy.counter import CounterHistory, Quality
from steppe.energy.integral import PowerHistory
from steppe.measure.provenance import source_commit
from targets import at_most

PROFILES = ("h100", "a100", "l4")
WINDOWS_S = (0.3, 1.0, 3.0, 10.0)
SEEDS = (1, 2, 3)
POLL_S = 0.01
# Shares of compute and of memory bandwidth, and the least and most time of a phase, s.
PREFILL, DECODE, PAUSE = ((1.0, 0.3), 0.02, 0.3), ((0.3, 0.9), 0.05, 1.0), ((0.0, 0.0), 0.05, 0.5)
PHASES, WEIGHTS = (PREFILL, DECODE, PAUSE), (4, 5, 1)


@dataclass(slots=True)
class Run:
    """One run: the truth, and the four meters."""

    counter: CounterHistory
    instant: PowerHistory
    usage: PowerHistory
    times_s: list[float] = field(default_factory=list)
    true_j: list[float] = field(default_factory=list)
    counter_j: list[float] = field(default_factory=list)

    @property
    def meters(self) -> dict[str, Callable[[int, int], float]]:
        """The ways to find the energy between two readings, J."""

        def by_window(history: CounterHistory | PowerHistory) -> Callable[[int, int], float]:
            return lambda a, b: history.window(self.times_s[a], self.times_s[b]).energy_j

        return {
            "interpolated counter": by_window(self.counter),
            "counter difference": lambda a, b: self.counter_j[b] - self.counter_j[a],
            "instant trapezoid": by_window(self.instant),
            "GetPowerUsage trapezoid": by_window(self.usage),
        }


def drive(emulator: Emulator, gpu: NvmlGpu, seconds: float, seed: int) -> Run:
    """Load GPU 0 for some virtual time, and read every meter."""
    rng, max_w = random.Random(seed), gpu.capabilities.max_w
    polls = round(seconds / POLL_S)
    run = Run(CounterHistory(max_w), PowerHistory(max_w, polls), PowerHistory(max_w, polls))
    now_s, change_s = 0.0, 0.0
    for _ in range(polls):
        if now_s >= change_s:
            ((core, mem), least_s, most_s) = rng.choices(PHASES, WEIGHTS)[0]
            emulator.set_load(0, core=core, mem=mem, valid_s=math.inf)
            change_s = now_s + rng.uniform(least_s, most_s)
        step_s = rng.uniform(0.5, 1.5) * POLL_S
        emulator.tick(step_s)
        now_s += step_s
        sample, counter_j = gpu.sample(), gpu.energy_j()
        run.counter.add(now_s, counter_j, sample.power_w)
        run.instant.add(now_s, sample.power_w)
        run.usage.add(now_s, sample.average_power_w)
        run.times_s.append(now_s)
        run.true_j.append(emulator.snapshot(0).energy_j)
        run.counter_j.append(counter_j)
    return run


def windows(run: Run, window_s: float, count: int, rng: random.Random) -> list[tuple[int, int]]:
    """Return random pairs of readings that lie a window apart, after a second of warm-up."""
    last = bisect.bisect_right(run.times_s, run.counter.covered_until_s - window_s - POLL_S)
    first = bisect.bisect_left(run.times_s, 1.0)
    starts = [rng.randrange(first, last - 1) for _ in range(count)]
    return [(a, bisect.bisect_left(run.times_s, run.times_s[a] + window_s)) for a in starts]


def errors(run: Run, pairs: list[tuple[int, int]]) -> dict[str, float]:
    """Return the 95th percentile of the relative error of each meter."""
    found = {}
    for name, energy_j in run.meters.items():
        shares = sorted(
            abs(energy_j(a, b) / (run.true_j[b] - run.true_j[a]) - 1.0) for a, b in pairs
        )
        found[name] = shares[int(0.95 * len(shares))]
    return found


def broken_bounds(run: Run, pairs: list[tuple[int, int]]) -> int:
    """Return how many windows the true energy is outside of the stated bound."""
    broken = 0
    for a, b in pairs:
        window = run.counter.window(run.times_s[a], run.times_s[b])
        assert window.quality is Quality.COUNTER
        broken += abs(window.energy_j - (run.true_j[b] - run.true_j[a])) > window.error_j
    return broken


def measure(profile: str, seconds: float, count: int) -> list[dict[str, Any]]:
    """Return one row for each window length: the median over the seeds, and the worst."""
    found: dict[float, list[dict[str, float]]] = {window_s: [] for window_s in WINDOWS_S}
    broken = dict.fromkeys(WINDOWS_S, 0)
    for seed in SEEDS:
        with tempfile.TemporaryDirectory() as folder:
            state = Path(folder) / "gpus"
            emulator = activate(profile, 1, state)
            emulator.use_virtual_clock(True)
            run = drive(emulator, open_gpus()[0], seconds, seed)
            remove_state(state)
        rng = random.Random(seed)
        for window_s in WINDOWS_S:
            pairs = windows(run, window_s, count, rng)
            found[window_s].append(errors(run, pairs))
            broken[window_s] += broken_bounds(run, pairs)
    return [
        {
            "profile": profile,
            "window_s": window_s,
            "windows": count * len(SEEDS),
            "bound_broken": broken[window_s],
            "p95_error": {
                name: {
                    "median": sorted(row[name] for row in rows)[len(rows) // 2],
                    "worst": max(row[name] for row in rows),
                }
                for name in rows[0]
            },
        }
        for window_s, rows in found.items()
    ]


def document(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the result as the last line of a benchmark."""
    ours = "interpolated counter"

    def worst(window_s: float) -> float:
        return float(max(r["p95_error"][ours]["worst"] for r in rows if r["window_s"] == window_s))

    broken = sum(row["bound_broken"] for row in rows)
    total = sum(row["windows"] for row in rows)
    return {
        "bench": "meter_accuracy",
        "commit": source_commit(),
        "hardware": f"emulated {', '.join(PROFILES)} in virtual time on {platform.machine()}",
        "energy_source": "emulated",
        "versions": {"python": platform.python_version(), "nvidia-ml-py": version("nvidia-ml-py")},
        "results": rows,
        "targets": [
            at_most("p95 error of 1 s windows, worst", worst(1.0), "share", 0.02),
            at_most("p95 error of 10 s windows, worst", worst(10.0), "share", 0.002),
            at_most(f"windows of {total} outside of the bound", broken, "windows", 0),
        ],
    }


def show(rows: list[dict[str, Any]]) -> None:
    """Print the table for people."""
    table = Table(title="95th percentile of the energy error, median of 3 seeds (emulated)")
    for heading in ("GPU", "window", *rows[0]["p95_error"], "bound broken"):
        table.add_column(heading)
    for row in rows:
        shares = [f"{share['median']:.2%}" for share in row["p95_error"].values()]
        broken = f"{row['bound_broken']} of {row['windows']}"
        table.add_row(row["profile"], f"{row['window_s']} s", *shares, broken)
    Console(width=120).print(table)


def main() -> None:
    """Measure, print a table, and then one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=300.0, help="virtual time of a run")
    parser.add_argument("--windows", type=int, default=500, help="of each length and run")
    arguments = parser.parse_args()
    rows = [
        row
        for profile in PROFILES
        for row in measure(profile, arguments.seconds, arguments.windows)
    ]
    show(rows)
    print(json.dumps(document(rows)))


if __name__ == "__main__":
    main()
