"""`steppe bench sweep`: measure a replica over its operating points."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import click
import orjson
from rich.console import Console

from steppe.config import load_config
from steppe.errors import UsageError
from steppe.measure.sweep.point import MeasurePlan
from steppe.options import ABOVE_ZERO, SEED, FiniteRange, NumberList, json_option
from steppe.run import sweep
from steppe.run.output_folders import SweepFolder
from steppe.run.sweep import DEFAULT_SLO_S, GridOptions
from steppe.run.sweep_rigs import SweepTarget, fleet_target


@click.command(
    "sweep",
    epilog="Example: steppe bench sweep configs/demo.yaml --out runs/sweep --batch 1,2,4,8,16",
)
@click.argument("config", type=click.Path(path_type=Path), required=False)
@click.option("--url", help="Measure this OpenAI server instead of a CONFIG.")
@click.option("--model", help="With --url: model to ask for; the server's first by default.")
@click.option("--gpu", "gpus", type=int, multiple=True, help="With --url: its GPUs; all if absent.")
@click.option("--out", type=SweepFolder(), required=True, help="New folder, or one to continue.")
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
@click.option(
    "--trace",
    type=click.Path(path_type=Path),
    help="Lengths of your own requests, in place of --prompt and --output: requests.jsonl of a "
    "run, rows of steppe load, Azure or BurstGPT CSV, Mooncake JSON lines.",
)
@click.option(
    "--apart/--mixed-only",
    default=True,
    help="Also measure prefill and decode alone; with them the frontier has the costs of a step.",
)
@click.option(
    "--replicas",
    type=click.Choice(("one", "all")),
    default="all",
    show_default=True,
    help="Share the points over all replicas, which are alike.",
)
@click.option(
    "--windows",
    type=click.IntRange(min=2),
    default=5,
    show_default=True,
    help="Measured windows of each point.",
)
@click.option("--window", type=ABOVE_ZERO, default=10.0, show_default=True, help="Its length, s.")
@click.option(
    "--settle",
    type=FiniteRange(min=0),
    default=15.0,
    show_default=True,
    help="Longest wait for the temperature to settle, s.",
)
@click.option("--slo-tpot", type=ABOVE_ZERO, help="Longest gap between tokens, s; the config's.")
@click.option(
    "--seed",
    type=SEED,
    default=0,
    show_default=True,
    help="Seed of arrivals and lengths.",
)
@json_option
def sweep_command(out: Path, as_json: bool, **values: Any) -> None:
    """Measure one replica of CONFIG over batch limits, clock limits and lengths.

    Prints the estimated duration first. Results grow in OUT/results.jsonl while it runs; the same
    command continues where it stopped.
    """
    if (values["config"] is None) == (values["url"] is None):
        raise UsageError("give exactly one of CONFIG and --url")
    if values["trace"] is not None and (values["prompt"] or values["output"]):
        raise UsageError("give --trace or --prompt and --output, not both")
    console = Console(stderr=as_json)
    config = None if values["config"] is None else load_config(values["config"])
    plan = MeasurePlan(
        windows=values["windows"],
        window_s=values["window"],
        longest_settle_s=values["settle"],
        seed=values["seed"],
        prompt_seed=time.time_ns(),
    )
    options = GridOptions(
        clocks=values["clocks"],
        clock_count=values["clock_count"],
        batch=values["batch"],
        prompt=values["prompt"],
        output=values["output"],
        trace=values["trace"],
        apart=values["apart"],
    )
    options.check_trace()
    ready: AbstractContextManager[SweepTarget]
    if config is not None:
        options.check(config)
        ready = fleet_target(config, values["replicas"], values["seed"], console)
    else:
        url, model, gpus = values["url"], values["model"], values["gpus"]
        ready = sweep.sweep_server(
            url, model, gpus, seed=values["seed"], options=options, console=console
        )
    with ready as target:
        grid = options.grid(target, config, values["seed"])
        sweep.measure(target, grid, plan, out, console)
    slo_s = values["slo_tpot"] or (config.slo.tpot_s if config is not None else DEFAULT_SLO_S)
    document = sweep.report(target, grid, out, slo_s, console)
    if as_json:
        click.echo(orjson.dumps(document))
