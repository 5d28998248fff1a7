"""`steppe frontier`: what each watt buys for a model on a GPU, before anyone measured it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import click
from rich.console import Console
from rich.table import Table

from steppe.cli.frontier_cache import list_command, remove_command, show_command
from steppe.errors import ConfigError, UsageError
from steppe.frontier.file import FrontierSubject, read_frontier_and_subject
from steppe.frontier.pareto import Frontier
from steppe.options import GivenText, NumberList
from steppe.roofline.energy_roofline import EnergyRoofline
from steppe.roofline.files import read_longest_context, read_roofline
from steppe.roofline.hardware import GpuSpec
from steppe.roofline.point import OperatingPoint
from steppe.run.frontier_subject import refuse_another

LOWEST_SHARE = 0.3
"""Lowest clock of `--clock all`, share of the highest: below it a GPU saves nothing."""
CLOCKS = 8
"""Clocks of `--clock all`."""
LEAST_GAIN = 0.001
"""Share by which a point must give more tokens than one that draws less, to be worth a mark."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """The options, as they were given."""

    model: str
    gpu: str
    tp: int
    data_parallel: bool
    batch: tuple[int, ...]
    clock: tuple[int, ...] | Literal["all"] | None
    input_tokens: int
    output_tokens: int
    measured: Path | None


class _ClockList(click.ParamType[Any]):
    """Clock limits, MHz, or `all`."""

    name = "n,n,...|all"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...] | Literal["all"]:
        """Return the clock limits, or `all`."""
        return "all" if value == "all" else NumberList().convert(value, param, ctx)


@click.group(
    "frontier",
    invoke_without_command=True,
    epilog="Example: steppe frontier --model llama-3.1-8b --gpu h100 --batch 8,64,256 --clock all",
)
@click.option(
    "--model",
    type=GivenText(),
    help="A folder with config.json, or a well-known name.",
)
@click.option(
    "--gpu",
    type=GivenText(),
    help="A GPU of configs/gpus, or a YAML file like those.",
)
@click.option("--tp", type=click.IntRange(min=1), default=1, help="GPUs that share the model.")
@click.option(
    "--data-parallel",
    is_flag=True,
    help="Attention runs data-parallel on these GPUs, and only experts are spread.",
)
@click.option(
    "--batch",
    type=NumberList(),
    default="8,16,32,64,128,256,512",
    show_default=True,
    help="Batch limits.",
)
@click.option(
    "--clock", type=_ClockList(), help="SM clock limits, MHz, or `all`; the highest by default."
)
@click.option("--input-tokens", type=click.IntRange(1, 10_000_000), default=400, show_default=True)
@click.option("--output-tokens", type=click.IntRange(1, 10_000_000), default=512, show_default=True)
@click.option(
    "--measured",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A frontier file of this model and GPU, measured at these lengths; corrects the rest.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def frontier_group(ctx: click.Context, /, as_json: bool, **options: Any) -> None:
    """Print tokens/s, W, J/token and TPOT at saturation by the energy roofline; nothing is run."""
    if ctx.invoked_subcommand is not None:
        return
    for param in ctx.command.params:
        if param.name in ("model", "gpu") and options[param.name] is None:
            raise click.MissingParameter(ctx=ctx, param=param)
    wanted = _Asked(**options)
    roofline = read_roofline(
        wanted.model, wanted.gpu, wanted.tp, data_parallel=wanted.data_parallel
    )
    corrected_source = None
    if wanted.measured is not None:
        known, subject = read_frontier_and_subject(wanted.measured)
        refuse_another(
            wanted.measured, subject, FrontierSubject(wanted.model, roofline.gpu.name, wanted.tp)
        )
        known = known.unlimited_at(roofline.gpu.highest_mhz)
        _refuse_unmeasured(wanted.measured, known, roofline.gpu)
        corrected_source = known.source
        roofline = roofline.refitted(known.candidates, wanted.input_tokens, wanted.output_tokens)
    _refuse_too_long(wanted, roofline)
    clocks = _clocks(wanted.clock, roofline.gpu)
    points = [
        roofline.point(mhz, limit, wanted.input_tokens, wanted.output_tokens)
        for limit in wanted.batch
        for mhz in clocks
    ]
    rows = _rows(wanted, roofline, points)
    if as_json:
        click.echo(json.dumps(_document(wanted, roofline, rows, corrected_source)))
    else:
        _show(_table(_title(wanted, roofline, corrected_source), rows))


for command in (list_command, show_command, remove_command):
    frontier_group.add_command(command)


def _refuse_unmeasured(path: Path, known: Frontier, gpu: GpuSpec) -> None:
    """Refuse points that were computed, or that this GPU cannot have run at."""
    if known.source == "modelled":
        raise ConfigError(f"{path}: source: asked for measured points, found modelled ones")
    for point in known.candidates:
        if not gpu.lowest_mhz <= point.clock_mhz <= gpu.highest_mhz:
            raise ConfigError(
                f"{path}: clock_mhz: asked for {gpu.lowest_mhz} to {gpu.highest_mhz} MHz on "
                f"{gpu.name}, found {point.clock_mhz}"
            )


def _refuse_too_long(wanted: _Asked, roofline: EnergyRoofline) -> None:
    """Refuse requests that the model was not made for, or for which there is no memory."""
    longest, name = wanted.input_tokens + wanted.output_tokens, roofline.model.name
    context = read_longest_context(wanted.model)
    if context is not None and longest > context:
        raise UsageError(
            f"asked for requests of {longest} tokens ({wanted.input_tokens} in, "
            f"{wanted.output_tokens} out), found a longest context of {context} in {name}"
        )
    if not roofline.fits(longest):
        raise UsageError(
            f"asked for requests of {longest} tokens, found no room for one beside the weights of "
            f"{name} on {wanted.tp} x {roofline.gpu.name}"
        )


def _clocks(asked: tuple[int, ...] | Literal["all"] | None, gpu: GpuSpec) -> Sequence[int]:
    """Return the clock limits that were asked for, as far as the GPU has them."""
    if asked is None:
        return [gpu.highest_mhz]
    if asked == "all":
        lowest = max(LOWEST_SHARE * gpu.highest_mhz, gpu.lowest_mhz)
        gap = (gpu.highest_mhz - lowest) / (CLOCKS - 1)
        steps = [round(gap * i / gpu.step_mhz) * gpu.step_mhz for i in range(CLOCKS)]
        return [round(gpu.highest_mhz - step) for step in reversed(steps)]
    for mhz in asked:
        if not gpu.lowest_mhz <= mhz <= gpu.highest_mhz:
            raise UsageError(
                f"--clock: asked for {gpu.lowest_mhz} to {gpu.highest_mhz} MHz on {gpu.name}, "
                f"found {mhz}"
            )
    return asked


def _show(table: Table) -> None:
    """Print a table as wide as its numbers, also where the terminal is narrower."""
    console = Console()
    whole = console.measure(table, options=console.options.update(width=1000)).maximum
    console.width = max(console.width, whole)
    console.print(table)


@dataclass(frozen=True, slots=True)
class _Row:
    """One point of the answer.

    Attributes:
        point: The point.
        sequences: Sequences that memory holds under its batch limit.
        pareto: Whether no other point gives as many tokens for as few watts.
    """

    point: OperatingPoint
    sequences: float
    pareto: bool


def _rows(
    wanted: _Asked, roofline: EnergyRoofline, points: Sequence[OperatingPoint]
) -> Sequence[_Row]:
    lengths = wanted.input_tokens, wanted.output_tokens
    best = _best(Frontier.of(points, roofline.asleep_w, roofline.asleep_w, "modelled"))
    return [_Row(p, roofline.running_sequences(p.batch_limit, *lengths), p in best) for p in points]


def _best(frontier: Frontier) -> Sequence[OperatingPoint]:
    """Return the points whose tokens are more than those of any that draws less, not just as many.

    Where memory holds fewer sequences than the batch limit, a larger one changes nothing.
    """
    best = [frontier.floor]
    for point in frontier.points:
        if point.output_tps >= (1.0 + LEAST_GAIN) * best[-1].output_tps:
            best.append(point)
    return best


def _document(
    wanted: _Asked,
    roofline: EnergyRoofline,
    rows: Sequence[_Row],
    corrected_source: str | None,
) -> dict[str, object]:
    return {
        "points": [
            {
                **asdict(row.point),
                "joules_per_token": row.point.joules_per_token,
                "sequences": row.sequences,
                "pareto": row.pareto,
            }
            for row in rows
        ],
        "gpu": roofline.gpu.name,
        "model": roofline.model.name,
        "tp": roofline.tp,
        "data_parallel": roofline.data_parallel,
        "input_tokens": wanted.input_tokens,
        "output_tokens": wanted.output_tokens,
        "source": "modelled",
        "corrected_by": None if wanted.measured is None else str(wanted.measured),
        "corrected_source": corrected_source,
    }


def _title(wanted: _Asked, roofline: EnergyRoofline, corrected_source: str | None) -> str:
    """Say what the points are of, and what they rest on."""
    rests_on = "modelled"
    if wanted.measured is not None:
        rests_on += f", corrected by {wanted.measured}"
    if corrected_source == "emulated":
        rests_on += " (emulated)"
    return f"{roofline.model.name} on {roofline.tp} x {roofline.gpu.name} ({rests_on})"


def _table(title: str, rows: Sequence[_Row]) -> Table:
    table = Table(
        title=title,
        caption="* no other point gives as many tokens (within 0.1 %) for as few watts",
    )
    knobs, rest = ("clock MHz", "batch limit"), ("W", "J/token", "TPOT ms", "Pareto")
    for heading in (*knobs, "sequences", "tokens/s", *rest):
        table.add_column(heading, justify="right")
    for row in rows:
        point = row.point
        table.add_row(
            f"{point.clock_mhz}",
            f"{point.batch_limit}",
            f"{row.sequences:.0f}",
            f"{point.output_tps:.0f}",
            f"{point.draw_w:.0f}",
            f"{point.joules_per_token:.3g}",
            f"{point.tpot_s * 1e3:.1f}",
            "*" if row.pareto else "",
        )
    return table
