"""The table of expected errors that `frontier_error.py --write` ships.

The error of a kind of model is the 90th percentile over its measured runs, each of a model that
was left out of the fit. A kind of which fewer than `LEAST_MODELS` models were measured gets the
largest error among the groups that share one trait with it (all mixtures of experts, all
quantised models, all on several GPUs). No kind gets less than a dense 16-bit model on one GPU.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from pathlib import Path

import numpy as np

from steppe.roofline.expected_error import ExpectedError, ModelKind

BATCH_EDGES = (8, 32, 128, 513)
"""Where the ranges of batch limits begin, and the end of the last one."""
LEAST_MODELS = 3
PLAIN = ModelKind(has_experts=False, is_quantised=False, on_several_gpus=False)


@dataclass(frozen=True, slots=True)
class LeftOutRun:
    """One measured run of a model that was left out of the fit.

    Attributes:
        model: The model's id.
        kind: Its kind.
        batch_limit: Its batch limit.
        joules_per_token: Relative error of the energy per token, no sign.
        output_tps: Relative error of the tokens per second, no sign.
    """

    model: str
    kind: ModelKind
    batch_limit: int
    joules_per_token: float
    output_tps: float


def expected_errors(runs: Sequence[LeftOutRun]) -> list[ExpectedError]:
    """Return the error of every kind in every range of batch limits."""
    table = []
    for flags in product((False, True), repeat=3):
        kind = ModelKind(*flags)
        for begin, end in pairwise(BATCH_EDGES):
            near = [run for run in runs if begin <= run.batch_limit < end]
            table.append(_of_kind(kind, near, end - 1))
    return table


def _of_kind(kind: ModelKind, runs: Sequence[LeftOutRun], up_to_batch: int) -> ExpectedError:
    own = [run for run in runs if run.kind == kind]
    groups = {_words(kind): own}
    if len({run.model for run in own}) < LEAST_MODELS:
        groups = {
            f"all with {trait}": [run for run in runs if trait in _traits(run.kind)]
            for trait in _traits(kind)
        }
    groups[_words(PLAIN)] = [run for run in runs if run.kind == PLAIN]
    widest = max(groups, key=lambda name: _p90([r.joules_per_token for r in groups[name]]))
    return ExpectedError(
        kind=kind,
        up_to_batch=up_to_batch,
        joules_per_token=_p90([run.joules_per_token for run in groups[widest]]),
        output_tps=max(_p90([run.output_tps for run in group]) for group in groups.values()),
        rows=len(groups[widest]),
        models=len({run.model for run in groups[widest]}),
        similar=widest,
    )


def _traits(kind: ModelKind) -> list[str]:
    """Return what makes a prediction harder than that of a dense 16-bit model on one GPU."""
    named = {
        "a mixture of experts": kind.has_experts,
        "quantised weights": kind.is_quantised,
        "several GPUs": kind.on_several_gpus,
    }
    return [name for name, applies in named.items() if applies]


def _words(kind: ModelKind) -> str:
    layers = "mixture of experts" if kind.has_experts else "dense"
    weights = "quantised weights" if kind.is_quantised else "16-bit weights"
    return f"{layers}, {weights}, {'several GPUs' if kind.on_several_gpus else 'one GPU'}"


def _p90(errors: Sequence[float]) -> float:
    return float(np.quantile(errors, 0.9))


def write_expected_errors(path: Path, table: Sequence[ExpectedError]) -> None:
    """Write the table as CSV."""
    with path.open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        names = ("experts", "quantised", "several_gpus", "up_to_batch", "joules_per_token")
        rows.writerow([*names, "output_tps", "rows", "models", "similar"])
        for found in table:
            kind = found.kind
            rows.writerow(
                [
                    kind.has_experts,
                    kind.is_quantised,
                    kind.on_several_gpus,
                    found.up_to_batch,
                    f"{found.joules_per_token:.3f}",
                    f"{found.output_tps:.3f}",
                    found.rows,
                    found.models,
                    found.similar,
                ]
            )
