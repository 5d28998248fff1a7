"""`steppe bench sweep`: measure a replica over its operating points."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import orjson
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from steppe.config import RunConfig, load_config
from steppe.errors import UsageError
from steppe.measure.sweep.frontier import Offer
from steppe.measure.sweep.grid import SweepGrid, left_to_do, powers_of_two, spread_clocks
from steppe.measure.sweep.point import MeasurePlan
from steppe.measure.sweep.result import PointResult
from steppe.measure.sweep.store import ResultsFile, RunHead, read_results
from steppe.measure.sweep.sweep import run_sweep
from steppe.options import ABOVE_ZERO, SEED, FiniteRange, NumberList
from steppe.run.check_inputs import check_inputs
from steppe.run.host_meter import see_gpus
from steppe.run.out_folders import SweepFolder
from steppe.run.sweep_report import conclude
from steppe.run.sweep_rigs import ServerOptions, SweepTarget, fleet_target, server_target

DENSE_CLOCKS = 20
DEFAULT_SLO_S = 0.2


@dataclass(frozen=True, slots=True)
class SweepAsked:
    """What the command line asks of a sweep; None and empty: as the config or the GPU has it."""

    clocks: tuple[int, ...] | None
    clock_count: int
    batch: tuple[int, ...] | None
    prompt: tuple[int, ...] | None
    output: tuple[int, ...] | None
    apart: bool

    def refuse_early(self, config: RunConfig) -> None:
        """Refuse, before a fleet starts, what its replicas cannot take.

        Raises:
            UsageError: A clock or a batch limit is none of theirs, or the config cannot be served.
        """
        check_inputs(config)
        _refuse_large(self.batch or (), config.engine.max_batch_limit)
        gpus = see_gpus(config) if self.clocks else ()
        for gpu in gpus[:1]:
            _refuse_unknown("--clock", self.clocks or (), gpu.capabilities.sm_clocks_mhz)

    def grid(self, ready: SweepTarget, config: RunConfig | None) -> SweepGrid:
        """Return the points to measure.

        Raises:
            UsageError: A clock or a batch limit is none that the replica can take.
        """
        section = config.frontier.sweep if config is not None else None
        lowest_share = section.lowest_clock_share if section else 0.5
        clocks = self.clocks
        if clocks is None:
            count = section.clocks if section else self.clock_count
            clocks = spread_clocks(ready.clocks_mhz, count, lowest_share)
        _refuse_unknown("--clock", clocks, ready.clocks_mhz)
        batch = self.batch or (section.batch_limits if section else None)
        batch = batch or powers_of_two(ready.largest_batch)
        _refuse_large(batch, ready.largest_batch)
        prompts = self.prompt or (section.prompt_tokens if section else 128,)
        outputs = self.output or (section.output_tokens if section else 64,)
        lengths = tuple((p, o) for p in prompts for o in outputs)
        return SweepGrid(clocks, batch, lengths, self.apart, ready.longest_tokens)


def _refuse_large(batch: tuple[int, ...], largest: int) -> None:
    if max(batch, default=0) > largest:
        raise UsageError(f"--batch: asked for {max(batch)}, found a replica of at most {largest}")


def _refuse_unknown(option: str, asked: tuple[int, ...], known: tuple[int, ...]) -> None:
    unknown = [value for value in asked if value not in known]
    if unknown:
        near = min(known, key=lambda clock: abs(clock - unknown[0])) if known else "no clock knob"
        raise UsageError(f"{option}: asked for {unknown[0]} MHz, found {near} as the nearest")


@click.command(
    "sweep",
    epilog="Example: steppe bench sweep configs/demo.yaml --out runs/sweep --batch 1,2,4,8,16",
)
@click.argument("config", type=click.Path(path_type=Path), required=False)
@click.option("--url", help="Measure this OpenAI server instead of a CONFIG.")
@click.option("--model", help="With --url: model to ask for; the server's first by default.")
@click.option("--gpu", "gpus", type=int, multiple=True, help="With --url: its GPUs; all if absent.")
@click.option("--out", type=SweepFolder(), required=True, help="New folder, or one to go on with.")
@click.option("--clock", "clocks", type=NumberList(), help="Clock limits, MHz.")
@click.option(
    "--clocks",
    "clock_count",
    type=click.IntRange(min=2),
    default=5,
    show_default=True,
    help="With --url: how many clock limits to spread.",
)
@click.option("--batch", type=NumberList(), help="Batch limits; with --url, numbers of clients.")
@click.option("--prompt", type=NumberList(), help="Mean prompt lengths, tokens.")
@click.option("--output", type=NumberList(), help="Mean output lengths, tokens.")
@click.option("--apart/--mixed-only", default=True, help="Prefill and decode alone, too.")
@click.option(
    "--replicas",
    type=click.Choice(("one", "all")),
    default="all",
    show_default=True,
    help="Share the points out over all replicas, which are alike.",
)
@click.option("--windows", type=click.IntRange(min=2), default=5, show_default=True)
@click.option("--window", type=ABOVE_ZERO, default=10.0, show_default=True, help="Its length, s.")
@click.option(
    "--settle",
    type=FiniteRange(min=0),
    default=15.0,
    show_default=True,
    help="Longest wait for the temperature to stand, s.",
)
@click.option("--slo-tpot", type=ABOVE_ZERO, help="Longest gap between tokens, s; the config's.")
@click.option("--seed", type=SEED, default=0, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def sweep_command(out: Path, as_json: bool, **values: Any) -> None:
    """Measure one replica of CONFIG over batch limits, clock limits and lengths.

    Results grow in OUT/results.jsonl while it runs; the same command goes on where it stopped.
    """
    if (values["config"] is None) == (values["url"] is None):
        raise UsageError("give exactly one of CONFIG and --url")
    console = Console(stderr=as_json)
    config = None if values["config"] is None else load_config(values["config"])
    plan = MeasurePlan(
        windows=values["windows"],
        window_s=values["window"],
        longest_settle_s=values["settle"],
        seed=values["seed"],
        prompt_seed=time.time_ns(),
    )
    names = ("clocks", "clock_count", "batch", "prompt", "output", "apart")
    asked = SweepAsked(**{name: values[name] for name in names})
    if config is not None:
        asked.refuse_early(config)
    with _ready(config, values, console) as ready:
        grid = asked.grid(ready, config)
        _measure(ready, grid, plan, out, console)
    slo_s = values["slo_tpot"] or (config.slo.tpot_s if config is not None else DEFAULT_SLO_S)
    document = conclude(read_results(out), _offer(ready, grid), slo_s, console)
    if as_json:
        click.echo(orjson.dumps(document))


def _ready(
    config: RunConfig | None, values: dict[str, Any], console: Console
) -> contextlib.AbstractContextManager[SweepTarget]:
    if config is not None:
        return fleet_target(config, values["replicas"], values["seed"], console)
    batch, lengths = values["batch"] or (1, 4, 16), (values["prompt"], values["output"])
    longest = 2 * sum(max(numbers) if numbers else 128 for numbers in lengths)
    server = ServerOptions(
        url=values["url"],
        model=values["model"],
        gpus=values["gpus"],
        seed=values["seed"],
        largest_batch=max(batch),
        longest_tokens=longest,
    )
    return server_target(server)


def _measure(
    ready: SweepTarget, grid: SweepGrid, plan: MeasurePlan, out: Path, console: Console
) -> None:
    store = ResultsFile(out)
    store.begin(RunHead(ready.provenance, ready.rest, asdict(plan)))
    left = left_to_do(grid.settings, store.done)
    skipped = len(grid.settings) - len(left)
    if skipped:
        console.print(f"{skipped} of {len(grid.settings)} points are measured already")
    if not left:
        return
    with _progress(console, len(left)) as advance:

        def keep(point: PointResult) -> None:
            store.add(point)
            advance(point)

        run_sweep(ready.rigs, left, plan, keep)


@contextmanager
def _progress(console: Console, total: int) -> Generator[Callable[[PointResult], None]]:
    """Show a bar on a terminal, a line a point elsewhere."""
    columns = (
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        BarColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("measuring", total=total)

        def advance(point: PointResult) -> None:
            bar.update(task, advance=1, description=point.setting.key)
            console.print(_line(point), highlight=False)

        yield advance


def _line(point: PointResult) -> str:
    estimates = point.estimates
    flags = f" [red]{', '.join(point.flags)}[/red]" if point.flags else ""
    if estimates is None:
        return f"{point.setting.key}: no token{flags}"
    joules = estimates.energy_per_output_token
    return (
        f"{point.setting.key}: {joules.value:.3g} J/token ±{joules.relative_half_width:.1%}, "
        f"{estimates.output_tps.value:.3g} tokens/s, {estimates.draw_w.value:.3g} W{flags}"
    )


def _offer(ready: SweepTarget, grid: SweepGrid) -> Offer | None:
    """Return the points to offer along fitted curves; None without counted steps."""
    if not ready.counts_steps:
        return None
    prompt, output = grid.lengths[0]
    top = max(grid.clocks_mhz, default=0)
    within = [c for c in ready.clocks_mhz if min(grid.clocks_mhz, default=0) <= c <= top]
    clocks = spread_clocks(within, DENSE_CLOCKS) if grid.clocks_mhz else ()
    return Offer(clocks, max(grid.batch_limits), prompt / output)
