"""`steppe bench compare`: is the difference between results real?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import orjson
from rich.console import Console
from rich.table import Table

from steppe.errors import UsageError
from steppe.measure.comparison import Comparison
from steppe.measure.result_files import PER_TOKEN, RATE, Result, compare_results, read_result
from steppe.options import SEED, json_option


@click.command("compare", epilog="Example: steppe bench compare runs/vllm runs/transformers")
@click.argument("results", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--points", "show_points", is_flag=True, help="Show every point, too.")
@click.option("--seed", type=SEED, default=0, show_default=True, help="Seed of the bootstrap.")
@json_option
def compare_command(results: tuple[Path, ...], show_points: bool, seed: int, as_json: bool) -> None:
    """Compare two or more RESULTS with the first: folders of `bench sweep` or `bench serve`."""
    if len(results) < 2:
        raise UsageError(f"asked to compare, found {len(results)} result")
    baseline, *others = [read_result(path) for path in results]
    comparisons = compare_results(baseline, others, seed)
    if as_json:
        click.echo(orjson.dumps(_document(baseline, others, comparisons)))
        return
    console = Console()
    for number, other in enumerate(others):
        console.print(f"[bold]{other.name}[/bold] beside {baseline.name}", highlight=False)
        if other.source != baseline.source:
            console.print(f"  [red]{other.source} beside {baseline.source}: not comparable[/red]")
        for quantity in (PER_TOKEN, RATE):
            console.print(f"  {comparisons[quantity][number].sentence}", highlight=False)
        if show_points:
            console.print(_table(comparisons[PER_TOKEN][number]))


def _table(comparison: Comparison) -> Table:
    table = Table(box=None)
    for head in ("point", "baseline J", "other J", "change", "95 % interval"):
        table.add_column(head, justify="left" if head == "point" else "right")
    for pair in comparison.pairs:
        ratio = pair.ratio
        interval = f"{ratio.low - 1:+.1%} to {ratio.high - 1:+.1%}" if ratio.is_bounded else "-"
        change = f"{ratio.value - 1:+.1%}"
        table.add_row(pair.key, f"{pair.baseline:.4g}", f"{pair.value:.4g}", change, interval)
    return table


def _document(
    baseline: Result, others: Sequence[Result], comparisons: Mapping[str, Sequence[Comparison]]
) -> dict[str, Any]:
    return {
        "baseline": baseline.name,
        "comparisons": [
            {"result": other.name, "source": other.source}
            | {quantity: _verdict(found[number]) for quantity, found in comparisons.items()}
            for number, other in enumerate(others)
        ],
    }


def _verdict(comparison: Comparison) -> dict[str, Any]:
    summary = {"is_real": comparison.is_real, "sentence": comparison.sentence}
    return asdict(comparison) | summary
