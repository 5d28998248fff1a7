"""Does the fit of a sweep hold for an engine that does not have the form of the fit?

A replica in virtual time is paced by the emulated GPU and measured at the points of a sweep: five
clocks and the batch limits of the case, with mixed load, prefill alone and decode alone. The fit
has steps, tokens and joules, not the pace. Where streaming and computing follow each other
(`overlap: 1`, no context), the pace has the form of the fit, and the errors are those of the
arithmetic. Where they overlap, as on real GPUs, it has not. Printed for each case:

- errors of the curves at the measured points: median, and what a tenth exceed;
- errors of tokens/s and draw at clocks and batch limits between those, against the same replica;
- the median error of the costs of a step at points that were left out;
- whether the fit, or the costs, would be refused.

    nice -n 15 python bench/sweep_fit.py
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from steppe.config import PaceSection
from steppe.measure.provenance import source_commit
from steppe.measure.sweep.frontier import Offer, SweptFrontier, frontier_from
from steppe.measure.sweep.grid import SweepGrid
from steppe.measure.sweep.point import lengths_around
from steppe.measure.sweep.result import (
    ClientTimes,
    GpuSummary,
    MeasuredWindow,
    Phase,
    PointResult,
    RestWatts,
    Setting,
)
from steppe.roofline.energy_roofline import StepWork
from steppe.roofline.lengths import RequestLengths
from steppe.sim.engine.pace_model import PaceModel, emulated_profile
from targets import at_most

TOKENS_PER_STEP = 2048
STEPS = {Phase.MIXED: 1500, Phase.PREFILL: 400, Phase.DECODE: 1500}
"""Steps of a window; a quarter as many pass before it."""
CLOCK_SHARES = (0.5, 0.625, 0.75, 0.875, 1.0)
BETWEEN_SHARES = (0.56, 0.82)
REST = RestWatts(floor_idle_w=1.0, asleep_w=1.0)
H100 = {"weights_s": 0.0055, "decode_s": 3e-5, "prefill_s": 3e-5}
"""Assumed; about those of an 8-billion model in bfloat16: 16 GB of weights at 3 TB/s."""
OVERLAPPED = {**H100, "launch_s": 0.0015, "overlap": 4.0}
L4 = {"weights_s": 0.045, "decode_s": 0.0025, "prefill_s": 0.0007}


@dataclass(frozen=True, slots=True)
class Case:
    """One engine and the load that it is swept with.

    Attributes:
        gpu: The emulated GPU.
        pace: Constants of its steps.
        batches: Batch limits.
        lengths: Mean prompt and output, tokens.
    """

    gpu: str
    pace: Mapping[str, float]
    batches: tuple[int, ...]
    lengths: tuple[int, int]


POWERS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
CASES = {
    "H100, one after the other": Case("h100", H100, POWERS, (1155, 211)),
    "H100, overlapped": Case("h100", {**OVERLAPPED, "context_s": 4e-8}, POWERS, (1155, 211)),
    "H100, overlapped, 3 batches": Case(
        "h100", {**OVERLAPPED, "context_s": 4e-8}, (8, 64, 256), (1155, 211)
    ),
    "H100, overlapped, short prompts": Case(
        "h100", {**OVERLAPPED, "context_s": 4e-8}, POWERS, (128, 512)
    ),
    "H100, overlapped, long context": Case(
        "h100", {**OVERLAPPED, "context_s": 16e-8}, POWERS, (2000, 500)
    ),
    "H100, overlap 8, long answers": Case(
        "h100", {**OVERLAPPED, "context_s": 8e-8, "overlap": 8.0}, POWERS, (500, 1500)
    ),
    "L4 of the demo": Case("l4", L4, (2, 4, 8, 16), (144, 26)),
    "L4, overlapped": Case(
        "l4", {**L4, "launch_s": 0.003, "context_s": 2e-5, "overlap": 4.0}, (2, 4, 8, 16), (144, 26)
    ),
}


def measured(model: PaceModel, setting: Setting) -> PointResult:
    """Return a point of a saturated replica, once its batch has turned over."""
    arrivals = itertools.cycle(lengths_around(setting, 0))
    batch: list[list[int]] = []  # prompt left, output left, context
    steps = STEPS[setting.phase]
    warm_up = max(steps // 4, 2 * setting.output_tokens if setting.phase is Phase.MIXED else 0)
    time_s = energy_j = 0.0
    prompts = outputs = 0
    for step in range(warm_up + steps):
        while len(batch) < setting.batch_limit:
            arrival = next(arrivals)
            batch.append([arrival.prompt_tokens, arrival.output_tokens, 0])
        work, sampled = _step(batch)
        if step >= warm_up:
            step_s = model.step_s(work, setting.clock_mhz)
            time_s, energy_j = (
                time_s + step_s,
                energy_j + step_s * model.step_draw_w(work, setting.clock_mhz),
            )
            prompts, outputs = prompts + work.prefill_tokens, outputs + sampled
        batch = [s for s in batch if s[0] or s[1] > 0]
    window = MeasuredWindow(time_s, energy_j, 0.0, steps, prompts, outputs)
    return PointResult(
        setting, "replica", "", 0.0, (window,), 0.0, "emulated", ClientTimes(), GpuSummary(), ()
    )


def _step(batch: list[list[int]]) -> tuple[StepWork, int]:
    """Run a step: decodes first, then prompts; return its work and the tokens that it sampled."""
    decoding = [s for s in batch if not s[0]]
    room, prompts, sampled = TOKENS_PER_STEP - len(decoding), 0, len(decoding)
    for sequence in batch:
        if sequence[0]:
            chunk = min(sequence[0], room)
            sequence[0] -= chunk
            sequence[2] += chunk
            room, prompts = room - chunk, prompts + chunk
            if chunk and not sequence[0]:
                sequence[1] -= 1
                sampled += 1
    for sequence in decoding:
        sequence[1] -= 1
        sequence[2] += 1
    return StepWork(prompts, len(decoding), sum(s[2] for s in decoding)), sampled


def run(case: Case) -> dict[str, Any]:
    """Sweep one case and return the errors of its fit."""
    profile = emulated_profile(case.gpu)
    model = PaceModel(profile, PaceSection.model_validate(case.pace))
    clocks = tuple(round(share * profile.full_mhz) for share in CLOCK_SHARES)
    grid = SweepGrid(clocks, case.batches, (case.lengths,), True, 8192, clocks[::2])
    points = [measured(model, setting) for setting in grid.settings]
    lengths = RequestLengths(*case.lengths)
    mix = lengths.prompt_tokens / lengths.output_tokens
    offer = Offer(clocks, max(case.batches), mix, lengths, TOKENS_PER_STEP)
    swept = frontier_from(points, REST, "emulated", offer)
    assert swept.fit is not None
    costs = swept.frontier.costs
    tokens, draws = between(model, case, swept, mix)
    return {
        "time_median": swept.fit.time_error,
        "time_tail": swept.fit.time_tail,
        "draw_median": swept.fit.draw_error,
        "draw_tail": swept.fit.draw_tail,
        "between_tokens_worst": max(tokens),
        "between_draw_worst": max(draws),
        "costs_time": None if costs is None else costs.time_error,
        "costs_energy": None if costs is None else costs.energy_error,
        "refused": list(swept.refused),
    }


def between(
    model: PaceModel, case: Case, swept: SweptFrontier, mix: float
) -> tuple[list[float], list[float]]:
    """Return the errors of tokens/s and of draw at points that were not measured."""
    assert swept.fit is not None
    tokens, draws = [], []
    batches = {round((a * b) ** 0.5) for a, b in itertools.pairwise(case.batches)}
    for share, batch in itertools.product(BETWEEN_SHARES, sorted(batches)[-3:]):
        clock_mhz = round(share * model.profile.full_mhz)
        truth = measured(model, Setting(Phase.MIXED, clock_mhz, batch, *case.lengths)).windows[0]
        found = swept.fit.point(clock_mhz, batch, mix)
        tokens.append(abs(found.output_tps * truth.duration_s / truth.output_tokens - 1))
        draws.append(abs(found.draw_w * truth.duration_s / truth.energy_j - 1))
    return tokens, draws


def show(results: Mapping[str, Mapping[str, Any]]) -> None:
    """Print a table."""
    table = Table(
        "engine", "time", "worst tenth", "draw", "worst tenth", "tokens/s between",
        "W between", "costs: time", "energy", "refused", box=None,
    )  # fmt: skip
    for name, row in results.items():
        cells = ["-" if v is None else f"{v:.1%}" for k, v in row.items() if k != "refused"]
        table.add_row(name, *cells, "yes" if row["refused"] else "no")
    Console(width=160).print(table)


def main() -> None:
    """Sweep all cases, print a table, and then one JSON document."""
    argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0]).parse_args()
    console = Console(stderr=True)
    results = {name: run(case) for name, case in track(CASES.items(), "sweeping", console=console)}
    show(results)
    medians = [row["time_median"] for row in results.values()]
    worst = max(row["between_tokens_worst"] for row in results.values())
    document = {
        "bench": "sweep_fit",
        "commit": source_commit(),
        "hardware": f"one of {os.cpu_count()} cores, {platform.machine()}",
        "energy_source": "emulated",
        "versions": {"numpy": np.__version__},
        "results": results,
        "targets": [
            at_most("worst median error of the time", max(medians), "share", 0.1),
            at_most("worst error of tokens/s between points", worst, "share", 0.2),
        ],
    }
    print(json.dumps(document))


if __name__ == "__main__":
    main()
