"""`steppe frontier`: what each watt buys for a model on a GPU, without a measurement."""

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
from steppe.options import GivenText, NumberList, json_option
from steppe.roofline.energy_roofline import EnergyRoofline
from steppe.roofline.expected_error import ExpectedError, expected_error
from steppe.roofline.files import (
    CLOCK_CURVES,
    read_assumptions,
    read_longest_context,
    read_roofline,
)
from steppe.roofline.hardware import GpuSpec
from steppe.roofline.point import OperatingPoint
from steppe.run.frontier_subject import refuse_another

LOWEST_SHARE = 0.3
"""Lowest clock of `--clock all`, share of the highest: below it a GPU saves nothing."""
CLOCKS = 8
"""Clocks of `--clock all`."""
LEAST_GAIN = 0.001
"""Share by which a marked point must give more tokens than one that draws less."""


@dataclass(frozen=True, slots=True)
class _Options:
    """The options as given."""

    model: str
    gpu: str
    tp: int
    data_parallel: bool
    batch: tuple[int, ...]
    clock: tuple[int, ...] | Literal["all"] | None
    input_tokens: int
    output_tokens: int
    clock_curve: str
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
@click.option(
    "--input-tokens",
    type=click.IntRange(1, 10_000_000),
    default=400,
    show_default=True,
    help="Mean prompt length.",
)
@click.option(
    "--output-tokens",
    type=click.IntRange(1, 10_000_000),
    default=512,
    show_default=True,
    help="Mean output length.",
)
@click.option(
    "--clock-curve",
    type=click.Choice(list(CLOCK_CURVES)),
    default="nominal",
    show_default=True,
    help="How time and draw follow the clock: as fitted, or one standard error lower or higher.",
)
@click.option(
    "--measured",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A frontier file of this model and GPU, measured at these lengths; corrects the rest.",
)
@json_option
@click.pass_context
def frontier_group(ctx: click.Context, /, as_json: bool, **options: Any) -> None:
    """Print tokens/s, W, J/token and TPOT at saturation by the energy roofline; nothing is run.

    Each point has an expected error: 90 % of the measured runs of similar models, left out of the
    fit, were within it. Assumptions about values missing in a config.json are printed on stderr.
    """
    if ctx.invoked_subcommand is not None:
        return
    for param in ctx.command.params:
        if param.name in ("model", "gpu") and options[param.name] is None:
            raise click.MissingParameter(ctx=ctx, param=param)
    prediction = _predict(_Options(**options))
    for line in prediction.assumed:
        click.echo(f"steppe: note: {line}", err=True)
    if as_json:
        click.echo(json.dumps(_document(prediction)))
    else:
        _show(_table(prediction))


@dataclass(frozen=True, slots=True)
class _Row:
    """One predicted point.

    Attributes:
        point: The point.
        sequences: Sequences that run at once, limited by the batch limit and memory.
        pareto: Whether no other point gives as many tokens for as few watts.
        error: How far it may be off at the highest clock.
        curve_joules: J/token by the clock curve one standard error lower and higher.
    """

    point: OperatingPoint
    sequences: float
    pareto: bool
    error: ExpectedError
    curve_joules: tuple[float, float]


@dataclass(frozen=True, slots=True)
class _Prediction:
    """The points, and what they are of.

    Attributes:
        options: The options.
        roofline: The model on its GPUs.
        rows: The points.
        corrected_source: Source of the measured points that correct the model; None without any.
        assumed: What was assumed because the model's config does not state it.
    """

    options: _Options
    roofline: EnergyRoofline
    rows: tuple[_Row, ...]
    corrected_source: str | None
    assumed: tuple[str, ...]


def _predict(options: _Options) -> _Prediction:
    roofline = _roofline(options, options.clock_curve, None)
    measured, corrected_source = None, None
    if options.measured is not None:
        measured = _read_measured(options, options.measured, roofline.gpu)
        corrected_source = measured.source
        roofline = _roofline(options, options.clock_curve, measured)
    _refuse_too_long(options, roofline)
    points = _points(options, roofline)
    low, high = (_points(options, _roofline(options, name, measured)) for name in ("low", "high"))
    rows = _rows(options, roofline, points, list(zip(low, high, strict=True)))
    assumed = read_assumptions(options.model)
    return _Prediction(options, roofline, rows, corrected_source, assumed)


def _roofline(options: _Options, clock_curve: str, measured: Frontier | None) -> EnergyRoofline:
    """Return the roofline with a clock curve, corrected by measured points if there are any."""
    roofline = read_roofline(
        options.model,
        options.gpu,
        options.tp,
        data_parallel=options.data_parallel,
        clock_curve=clock_curve,
    )
    if measured is None:
        return roofline
    return roofline.refitted(measured.candidates, options.input_tokens, options.output_tokens)


def _points(options: _Options, roofline: EnergyRoofline) -> list[OperatingPoint]:
    return [
        roofline.point(mhz, limit, options.input_tokens, options.output_tokens)
        for limit in options.batch
        for mhz in _clocks(options.clock, roofline.gpu)
    ]


def _read_measured(options: _Options, path: Path, gpu: GpuSpec) -> Frontier:
    """Read measured points of this model and GPU."""
    measured, subject = read_frontier_and_subject(path)
    refuse_another(path, subject, FrontierSubject(options.model, gpu.name, options.tp))
    measured = measured.unlimited_at(gpu.highest_mhz)
    _refuse_unmeasured(path, measured, gpu)
    return measured


def _refuse_unmeasured(path: Path, measured: Frontier, gpu: GpuSpec) -> None:
    """Refuse points that were computed, or that this GPU cannot run."""
    if measured.source == "modelled":
        raise ConfigError(f"{path}: source: asked for measured points, found modelled ones")
    for point in measured.candidates:
        if not gpu.lowest_mhz <= point.clock_mhz <= gpu.highest_mhz:
            raise ConfigError(
                f"{path}: clock_mhz: asked for {gpu.lowest_mhz} to {gpu.highest_mhz} MHz on "
                f"{gpu.name}, found {point.clock_mhz}"
            )


def _refuse_too_long(options: _Options, roofline: EnergyRoofline) -> None:
    """Refuse requests beyond the context of the model, or beyond the memory."""
    longest, name = options.input_tokens + options.output_tokens, roofline.model.name
    context = read_longest_context(options.model)
    if context is not None and longest > context:
        raise UsageError(
            f"asked for requests of {longest} tokens ({options.input_tokens} in, "
            f"{options.output_tokens} out), found a longest context of {context} in {name}"
        )
    if not roofline.fits(longest):
        raise UsageError(
            f"asked for requests of {longest} tokens, found no room for one beside the weights of "
            f"{name} on {options.tp} x {roofline.gpu.name}"
        )


def _clocks(option: tuple[int, ...] | Literal["all"] | None, gpu: GpuSpec) -> Sequence[int]:
    """Return the clock limits of the option; UsageError where the GPU does not have one."""
    if option is None:
        return [gpu.highest_mhz]
    if option == "all":
        lowest = max(LOWEST_SHARE * gpu.highest_mhz, gpu.lowest_mhz)
        gap = (gpu.highest_mhz - lowest) / (CLOCKS - 1)
        steps = [round(gap * i / gpu.step_mhz) * gpu.step_mhz for i in range(CLOCKS)]
        return [round(gpu.highest_mhz - step) for step in reversed(steps)]
    for mhz in option:
        if not gpu.lowest_mhz <= mhz <= gpu.highest_mhz:
            raise UsageError(
                f"--clock: asked for {gpu.lowest_mhz} to {gpu.highest_mhz} MHz on {gpu.name}, "
                f"found {mhz}"
            )
    return option


def _show(table: Table) -> None:
    """Print a table as wide as its numbers, even in a narrower terminal."""
    console = Console()
    width = console.measure(table, options=console.options.update(width=1000)).maximum
    console.width = max(console.width, width)
    console.print(table)


def _rows(
    options: _Options,
    roofline: EnergyRoofline,
    points: Sequence[OperatingPoint],
    by_curve: Sequence[tuple[OperatingPoint, OperatingPoint]],
) -> tuple[_Row, ...]:
    """Return the points with their errors.

    Args:
        options: The options.
        roofline: The model on its GPUs.
        points: Its points.
        by_curve: The same points by the clock curve one standard error lower and higher.
    """
    best = _best(Frontier.of(points, roofline.asleep_w, roofline.asleep_w, "modelled"))
    return tuple(
        _Row(
            point=point,
            sequences=roofline.running_sequences(
                point.batch_limit, options.input_tokens, options.output_tokens
            ),
            pareto=point in best,
            error=expected_error(roofline.model, roofline.tp, point.batch_limit),
            curve_joules=(low.joules_per_token, high.joules_per_token),
        )
        for point, (low, high) in zip(points, by_curve, strict=True)
    )


def _best(frontier: Frontier) -> Sequence[OperatingPoint]:
    """Return the points that give more tokens than any point with less draw.

    Where memory holds fewer sequences than the batch limit, a larger limit changes nothing.
    """
    best = [frontier.floor]
    for point in frontier.points:
        if point.output_tps >= (1.0 + LEAST_GAIN) * best[-1].output_tps:
            best.append(point)
    return best


def _document(prediction: _Prediction) -> dict[str, object]:
    options, roofline = prediction.options, prediction.roofline
    errors = dict.fromkeys(row.error for row in prediction.rows)
    return {
        "points": [
            {
                **asdict(row.point),
                "joules_per_token": row.point.joules_per_token,
                "joules_per_token_error": row.error.joules_per_token,
                "output_tps_error": row.error.output_tps,
                "joules_per_token_by_curve": list(row.curve_joules),
                "sequences": row.sequences,
                "pareto": row.pareto,
            }
            for row in prediction.rows
        ],
        "gpu": roofline.gpu.name,
        "model": roofline.model.name,
        "tp": roofline.tp,
        "data_parallel": roofline.data_parallel,
        "input_tokens": options.input_tokens,
        "output_tokens": options.output_tokens,
        "source": "modelled",
        "clock_curve": options.clock_curve,
        "corrected_by": None if options.measured is None else str(options.measured),
        "corrected_source": prediction.corrected_source,
        "assumed": list(prediction.assumed),
        "error_basis": [
            {"up_to_batch": error.up_to_batch, "runs": error.basis} for error in errors
        ],
    }


def _title(prediction: _Prediction) -> str:
    """Return a title with the model, the GPUs and the source of the points."""
    roofline, options = prediction.roofline, prediction.options
    source = "modelled"
    if options.measured is not None:
        source += f", corrected by {options.measured}"
    if prediction.corrected_source == "emulated":
        source += " (emulated)"
    return f"{roofline.model.name} on {roofline.tp} x {roofline.gpu.name} ({source})"


def _table(prediction: _Prediction) -> Table:
    table = Table(
        title=_title(prediction),
        caption="* no other point gives as many tokens (within 0.1 %) for as few watts\n"
        "± expected error: 90 % of the measured runs of similar models were within it\n"
        "curve: J/token with the clock curve one standard error lower and higher",
    )
    knobs = "clock MHz", "batch limit"
    rest = "W", "J/token", "±", "curve", "TPOT ms", "Pareto"
    for heading in (*knobs, "sequences", "tokens/s", "±", *rest):
        table.add_column(heading, justify="right")
    for row in prediction.rows:
        point = row.point
        table.add_row(
            f"{point.clock_mhz}",
            f"{point.batch_limit}",
            f"{row.sequences:.0f}",
            f"{point.output_tps:.0f}",
            f"{row.error.output_tps:.0%}",
            f"{point.draw_w:.0f}",
            f"{point.joules_per_token:.3g}",
            f"{row.error.joules_per_token:.0%}",
            "..".join(f"{joules:.3g}" for joules in row.curve_joules),
            f"{point.tpot_s * 1e3:.1f}",
            "*" if row.pareto else "",
        )
    return table


for command in (list_command, show_command, remove_command):
    frontier_group.add_command(command)
