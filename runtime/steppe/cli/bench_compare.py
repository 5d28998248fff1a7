"""`steppe bench compare`: is the difference between results real?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import orjson
from rich.console import Console
from rich.table import Table

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
from steppe.options import SEED

SERVE_FILE = "serve.json"
PER_TOKEN, RATE = "energy_per_output_token", "output_throughput"
LOAD = "load"
"""The only point of a load test."""


@dataclass(frozen=True, slots=True)
class Result:
    """One result, ready to be compared.

    Attributes:
        name: Where it came from.
        kind: `sweep` or `serve`: only alike can be compared.
        source: `measured` or `emulated`.
        quantities: Windows of each quantity, by point.
    """

    name: str
    kind: str
    source: str
    quantities: Mapping[str, Mapping[str, Ratios]]


@click.command("compare", epilog="Example: steppe bench compare runs/vllm runs/transformers")
@click.argument("results", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--points", "show_points", is_flag=True, help="Show every point, too.")
@click.option("--seed", type=SEED, default=0, show_default=True, help="Seed of the bootstrap.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def compare_command(results: tuple[Path, ...], show_points: bool, seed: int, as_json: bool) -> None:
    """Compare two or more RESULTS with the first: folders of `bench sweep` or `bench serve`."""
    if len(results) < 2:
        raise UsageError(f"asked to compare, found {len(results)} result")
    baseline, *others = [_read(path) for path in results]
    for other in others:
        if other.kind != baseline.kind:
            raise UsageError(f"{other.name}: a {other.kind}, and {baseline.name} a {baseline.kind}")
    rng = np.random.default_rng(seed)
    found = {quantity: _compare(baseline, others, quantity, rng) for quantity in (PER_TOKEN, RATE)}
    if as_json:
        click.echo(orjson.dumps(_document(baseline, others, found)))
        return
    console = Console()
    for number, other in enumerate(others):
        console.print(f"[bold]{other.name}[/bold] beside {baseline.name}", highlight=False)
        if other.source != baseline.source:
            console.print(f"  [red]{other.source} beside {baseline.source}: not comparable[/red]")
        for quantity in (PER_TOKEN, RATE):
            console.print(f"  {found[quantity][number].sentence}", highlight=False)
        if show_points:
            console.print(_table(found[PER_TOKEN][number]))


def _compare(
    baseline: Result, others: Sequence[Result], quantity: str, rng: np.random.Generator
) -> list[Comparison]:
    comparisons = []
    for other in others:
        a, b = baseline.quantities[quantity], other.quantities[quantity]
        comparison = compare(quantity, a, b, rng)
        if comparison is None:
            raise UsageError(f"{baseline.name} and {other.name} have no sound point in common")
        comparisons.append(comparison)
    return corrected(comparisons)


def _read(path: Path) -> Result:
    file = path / SERVE_FILE if path.is_dir() else path
    if file.name == SERVE_FILE and file.is_file():
        return _read_serve(path, file)
    if path.is_dir() and not (path / RESULTS_FILE).is_file():
        raise UsageError(f"{path}: asked for {RESULTS_FILE} or {SERVE_FILE}, found neither")
    results = read_results(path)
    quantities = {PER_TOKEN: energy_per_token(results.points), RATE: output_rate(results.points)}
    return Result(str(path), "sweep", results.head.provenance.energy_source, quantities)


def _read_serve(path: Path, file: Path) -> Result:
    try:
        match orjson.loads(file.read_bytes()):
            case {"slices": [*pieces], "provenance": {"energy_source": str(source)}, **rest}:
                slices = tuple(_slice(place, piece) for place, piece in enumerate(pieces))
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
    """Return the bound of the meter's error, J; JSON knows no infinity, and has null."""
    if value is None:
        return math.inf
    if not _is_sound(value):
        raise ValueError(f"total_gpu_energy_error: asked for a number from 0, found {value!r:.100}")
    return float(value)


def _is_sound(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value < math.inf


def _slice(place: int, piece: Any) -> Slice:
    keys = ("duration_s", "energy_j", "output_tokens")
    found: list[Any] = [piece.get(k) for k in keys] if isinstance(piece, Mapping) else [None]
    if not all(map(_is_sound, found)):
        asked = "finite numbers from 0 in duration_s, energy_j and output_tokens"
        raise ValueError(f"slices.{place}: asked for {asked}, found {str(piece)[:100]}")
    return Slice(*found)


def _table(comparison: Comparison) -> Table:
    table = Table(box=None)
    for head in ("point", "baseline J", "other J", "change", "95 % interval"):
        table.add_column(head, justify="left" if head == "point" else "right")
    for pair in comparison.pairs:
        ratio = pair.ratio
        span = f"{ratio.low - 1:+.1%} to {ratio.high - 1:+.1%}" if ratio.is_bounded else "-"
        values = (f"{pair.baseline:.4g}", f"{pair.value:.4g}", f"{ratio.value - 1:+.1%}", span)
        table.add_row(pair.key, *values)
    return table


def _document(
    baseline: Result, others: Sequence[Result], found: Mapping[str, Sequence[Comparison]]
) -> dict[str, Any]:
    return {
        "baseline": baseline.name,
        "comparisons": [
            {"result": other.name, "source": other.source}
            | {quantity: _verdict(rows[number]) for quantity, rows in found.items()}
            for number, other in enumerate(others)
        ],
    }


def _verdict(comparison: Comparison) -> dict[str, Any]:
    said = {"is_real": comparison.is_real, "sentence": comparison.sentence}
    return asdict(comparison) | said
