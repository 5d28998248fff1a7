"""Results of `steppe bench sweep` and `steppe bench serve`, read and compared."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from steppe.errors import UsageError
from steppe.measure.comparison import (
    Comparison,
    Ratios,
    compare,
    corrected,
    energy_per_token,
    output_rate,
)
from steppe.measure.serving import LoadEnergy, Slice
from steppe.measure.sweep.store import RESULTS_FILE, read_results

SERVE_FILE = "serve.json"
PER_TOKEN, RATE = "energy_per_output_token", "output_throughput"
LOAD = "load"
"""The only point of a load test."""


@dataclass(frozen=True, slots=True)
class Result:
    """One result, ready to be compared.

    Attributes:
        name: Its folder or file.
        kind: `sweep` or `serve`; only results of one kind can be compared.
        source: `measured` or `emulated`.
        quantities: Windows of each quantity, by point.
    """

    name: str
    kind: str
    source: str
    quantities: Mapping[str, Mapping[str, Ratios]]


def read_result(path: Path) -> Result:
    """Read a result from its file or folder.

    Raises:
        UsageError: It is missing or is no result of a sweep or a load test.
    """
    file = path / SERVE_FILE if path.is_dir() else path
    if file.name == SERVE_FILE and file.is_file():
        return _read_serve(path, file)
    if path.is_dir() and not (path / RESULTS_FILE).is_file():
        raise UsageError(f"{path}: asked for {RESULTS_FILE} or {SERVE_FILE}, found neither")
    results = read_results(path)
    quantities = {PER_TOKEN: energy_per_token(results.points), RATE: output_rate(results.points)}
    return Result(str(path), "sweep", results.head.provenance.energy_source, quantities)


def compare_results(
    baseline: Result, others: Sequence[Result], seed: int
) -> dict[str, list[Comparison]]:
    """Compare results with a baseline, in each quantity.

    Args:
        baseline: The first result.
        others: The results to compare with it.
        seed: Seed of the bootstrap.

    Raises:
        UsageError: They are of different kinds or share no sound point.
    """
    for other in others:
        if other.kind != baseline.kind:
            raise UsageError(f"{other.name}: a {other.kind}, and {baseline.name} a {baseline.kind}")
    rng = np.random.default_rng(seed)
    return {
        quantity: corrected([_compare(baseline, other, quantity, rng) for other in others])
        for quantity in (PER_TOKEN, RATE)
    }


def _compare(
    baseline: Result, other: Result, quantity: str, rng: np.random.Generator
) -> Comparison:
    a, b = baseline.quantities[quantity], other.quantities[quantity]
    comparison = compare(quantity, a, b, rng)
    if comparison is None:
        raise UsageError(f"{baseline.name} and {other.name} have no sound point in common")
    return comparison


def _read_serve(path: Path, file: Path) -> Result:
    try:
        match orjson.loads(file.read_bytes()):
            case {"slices": [*pieces], "provenance": {"energy_source": str(source)}, **rest}:
                slices = tuple(_slice(number, piece) for number, piece in enumerate(pieces))
                error_j = _bound_j(rest.get("total_gpu_energy_error"))
            case _:
                raise ValueError("asked for slices, a list, and provenance.energy_source, a text")
        for total in ("duration_s", "energy_j", "output_tokens"):
            if not any(getattr(piece, total) for piece in slices):
                raise ValueError(f"asked for {total} in the slices, found none")
    except ValueError as error:
        raise UsageError(f"{file}: no result of `steppe bench serve`: {error}") from error
    energy = LoadEnergy(math.fsum(piece.energy_j for piece in slices), error_j, slices)
    quantities = {PER_TOKEN: {LOAD: energy.energy_ratios}, RATE: {LOAD: energy.rate_ratios}}
    return Result(str(path), "serve", source, quantities)


def _bound_j(value: Any) -> float:
    """Return the bound of the meter's error, J; JSON has null in place of infinity."""
    if value is None:
        return math.inf
    if not _is_number_from_0(value):
        raise ValueError(f"total_gpu_energy_error: asked for a number from 0, found {value!r:.100}")
    return float(value)


def _slice(number: int, piece: Any) -> Slice:
    match piece:
        case {"duration_s": duration_s, "energy_j": energy_j, "output_tokens": tokens} if all(
            map(_is_number_from_0, (duration_s, energy_j, tokens))
        ):
            return Slice(duration_s, energy_j, tokens)
    asked = "finite numbers from 0 in duration_s, energy_j and output_tokens"
    raise ValueError(f"slices.{number}: asked for {asked}, found {str(piece)[:100]}")


def _is_number_from_0(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value < math.inf
