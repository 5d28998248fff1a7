"""Do 95 % confidence intervals of `steppe bench sweep` cover the truth, and how often?

Short sweeps of one point, repeated on an emulated GPU in virtual time under a continuously
batching engine with random lengths (also virtual), measured by the code that measures real
replicas: warm-up, windows, NVML's counter as bad as the real one, bootstrap. The truth is the
emulator's own integral over one long run. An interval of 95 % should cover it in 95 of 100 runs.

    python bench/interval_coverage.py
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import tempfile
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from steppe.device.nvml import NvmlGpu, open_gpus
from steppe.emulator.environment import activate, remove_state
from steppe.emulator.library import Emulator
from steppe.emulator.pace import Pace
from steppe.energy.counter import CounterHistory, Quality
from steppe.load.arrivals import Arrival
from steppe.measure.provenance import installed_versions, source_commit
from steppe.measure.statistics import Interval
from steppe.measure.sweep.point import MeasurePlan, PointTiming, lengths_around, measure_point
from steppe.measure.sweep.result import Estimates, Phase, Setting
from steppe.measure.sweep.saturate import Saturation
from steppe.measure.sweep.subject import Rig, SubjectTotals
from targets import at_least

PACE = Pace(weights_s=0.045, decode_s=0.0025, prefill_s=0.0007)
CHUNK_TOKENS = 128
POLL_S = 0.02
REST_S = 0.5
"""The counter has ticked a few times by then, s."""
CASES = (
    Setting(Phase.MIXED, 2040, 16, 144, 26),
    Setting(Phase.MIXED, 1275, 4, 144, 26),
)
PLANS = (
    MeasurePlan(windows=3, window_s=10.0, longest_settle_s=5.0),
    MeasurePlan(windows=5, window_s=5.0, longest_settle_s=5.0),
)
QUANTITIES = ("energy_per_output_token", "output_tps", "draw_w")


class VirtualReplica:
    """A batching engine on an emulated GPU, both in virtual time; a `SweepSubject`."""

    def __init__(self, emulator: Emulator, gpu: NvmlGpu, seed: int) -> None:
        """Wait until the counter has ticked a few times."""
        self.emulator, self.gpu = emulator, gpu
        self.rng = np.random.default_rng(seed)
        self.counter = CounterHistory(gpu.capabilities.max_w, source=Quality.EMULATED)
        self.now_s, self.step_ends_s = 0.0, math.inf
        self.batch_limit = 1
        self.batch: list[list[int]] = []
        self.arrivals: Iterator[Arrival] = iter(())
        self.step_work = (0, 0)
        self.steps = self.prompt_tokens = self.output_tokens = 0
        self.sleep(REST_S)
        self.read_s, self.read_j = self.counter.covered_until_s, 0.0

    def set_point(self, clock_mhz: int, batch_limit: int) -> None:
        """Set the limits."""
        self.gpu.set_clock_limit(clock_mhz)
        self.batch_limit = batch_limit

    @contextmanager
    def saturate(
        self, arrivals: Sequence[Arrival], concurrency: int, seed: int
    ) -> Generator[Saturation]:
        """Fill the batch and keep it full; each run begins elsewhere in the arrivals."""
        start = int(self.rng.integers(len(arrivals)))
        self.arrivals = cycle([*arrivals[start:], *arrivals[:start]])
        self._begin_step()
        yield Saturation(self.now_s)

    def sleep(self, seconds: float) -> None:
        """Let virtual time pass: engine, GPU and meter."""
        end_s = self.now_s + seconds
        while self.now_s < end_s - 1e-9:
            piece_s = min(POLL_S, self.step_ends_s - self.now_s, end_s - self.now_s)
            self.emulator.tick(max(piece_s, 1e-6))
            self.now_s += max(piece_s, 1e-6)
            self.counter.add(self.now_s, self.gpu.energy_j(), self.gpu.power_w())
            if self.now_s >= self.step_ends_s - 1e-9:
                self._end_step()

    def reading(self) -> SubjectTotals:
        """Return totals and state now."""
        until_s = self.counter.covered_until_s
        window = self.counter.window(self.read_s, until_s)
        self.read_s, self.read_j = until_s, self.read_j + window.energy_j
        return SubjectTotals(
            time_s=until_s,
            energy_j=self.read_j,
            error_j=window.error_j,
            quality=str(window.quality),
            steps=self.steps,
            prompt_tokens=self.prompt_tokens,
            output_tokens=self.output_tokens,
            running=len(self.batch),
            waiting=4,
        )

    def _begin_step(self) -> None:
        while len(self.batch) < self.batch_limit:
            arrival = next(self.arrivals)
            self.batch.append([arrival.prompt_tokens, arrival.output_tokens])
        budget, prompt, decode = CHUNK_TOKENS, 0, 0
        for sequence in self.batch:
            if sequence[0]:
                taken = min(sequence[0], budget)
                sequence[0] -= taken
                budget -= taken
                prompt += taken
            else:
                sequence[1] -= 1
                decode += 1
        step = PACE.parts(prompt, decode).at(self.emulator.speed(0))
        self.step_work, self.step_ends_s = (prompt, decode), self.now_s + step.duration_s
        self.emulator.set_load(0, core=step.core, mem=step.mem, valid_s=math.inf)

    def _end_step(self) -> None:
        self.steps += 1
        self.prompt_tokens += self.step_work[0]
        self.output_tokens += self.step_work[1]
        self.batch = [sequence for sequence in self.batch if sequence[1] > 0]
        self._begin_step()


@contextmanager
def virtual_gpu() -> Generator[tuple[Emulator, NvmlGpu]]:
    """Yield an emulated L4 in virtual time."""
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder) / "gpus"
        emulator = activate("l4", 1, state)
        emulator.use_virtual_clock(True)
        try:
            yield emulator, open_gpus()[0]
        finally:
            remove_state(state)


def measure(
    emulator: Emulator, gpu: NvmlGpu, setting: Setting, plan: MeasurePlan, seed: int
) -> Estimates:
    """Measure a point once, as a sweep does."""
    replica = VirtualReplica(emulator, gpu, seed)
    rig = Rig("virtual", replica, lambda: None, replica.saturate)
    timing = PointTiming(lambda: replica.now_s, replica.sleep)
    estimates = measure_point(rig, setting, plan, timing).estimates
    assert estimates is not None, "a full batch gives tokens"
    return estimates


def truth(emulator: Emulator, gpu: NvmlGpu, setting: Setting, seconds: float) -> dict[str, float]:
    """Return the long-run values by the emulator's own integral."""
    replica = VirtualReplica(emulator, gpu, seed=1 << 31)
    replica.set_point(setting.clock_mhz, setting.batch_limit)
    with replica.saturate(lengths_around(setting, 0), setting.batch_limit, 0):
        replica.sleep(60.0)
        begin_s, begin_j = replica.now_s, emulator.snapshot(0).energy_j
        tokens = replica.output_tokens
        replica.sleep(seconds)
        energy_j = emulator.snapshot(0).energy_j - begin_j
        tokens = replica.output_tokens - tokens
    span_s = replica.now_s - begin_s
    return {
        "energy_per_output_token": energy_j / tokens,
        "output_tps": tokens / span_s,
        "draw_w": energy_j / span_s,
    }


def cover(setting: Setting, plan: MeasurePlan, repeats: int, seconds: float) -> dict[str, Any]:
    """Return how many of the repeated runs cover the truth, and how wide they are."""
    with virtual_gpu() as (emulator, gpu):
        true = truth(emulator, gpu, setting, seconds)
        found = [measure(emulator, gpu, setting, plan, seed) for seed in range(repeats)]
    row: dict[str, Any] = {
        "key": setting.key,
        "windows": plan.windows,
        "window_s": plan.window_s,
        "repeats": repeats,
    }
    for name in QUANTITIES:
        intervals: list[Interval] = [getattr(estimates, name) for estimates in found]
        row[name] = {
            "truth": true[name],
            "covered": sum(interval.holds(true[name]) for interval in intervals),
            "median_half_width": float(np.median([i.relative_half_width for i in intervals])),
        }
    return row


def document(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the result as the last line of a benchmark."""
    worst = min(100 * row[name]["covered"] / row["repeats"] for row in rows for name in QUANTITIES)
    target = at_least("intervals of 100 that cover the truth, worst quantity", worst, "runs", 90)
    return {
        "bench": "interval_coverage",
        "commit": source_commit(),
        "hardware": f"emulated L4 in virtual time on {platform.machine()}",
        "energy_source": "emulated",
        "versions": installed_versions(),
        "results": rows,
        "targets": [target],
    }


def main() -> None:
    """Measure, print a table, and then one JSON document."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=100)
    parser.add_argument("--truth", type=float, default=3000.0, help="virtual time, s")
    arguments = parser.parse_args()
    rows = [
        cover(setting, plan, arguments.repeats, arguments.truth)
        for setting in CASES
        for plan in PLANS
    ]
    table = Table(title="95 % intervals that cover the truth (median half width); emulated")
    for head in ("point", "windows", *QUANTITIES):
        table.add_column(head)
    for row in rows:
        shown = [
            f"{row[n]['covered']} of {row['repeats']} ({row[n]['median_half_width']:.1%})"
            for n in QUANTITIES
        ]
        table.add_row(row["key"], f"{row['windows']} x {row['window_s']:g} s", *shown)
    Console(width=120).print(table)
    print(json.dumps(document(rows)))


if __name__ == "__main__":
    main()
