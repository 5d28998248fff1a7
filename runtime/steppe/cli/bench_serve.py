"""`steppe bench serve`: what one load costs on a server, in joules and in time."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import click
import orjson
from rich.console import Console
from rich.table import Table

from steppe.cli.load import LENGTH, LENGTH_SCALE
from steppe.cli.traffic_options import load_source, traffic_options
from steppe.errors import UsageError
from steppe.load.arrivals import MOST_ARRIVALS, Arrival, poisson
from steppe.load.client import ChatOptions
from steppe.load.display import summary_tables
from steppe.load.plan import LoadPlan
from steppe.load.replay import ClosedLoop, OpenLoop, ReplayOptions
from steppe.load.synthetic import SyntheticLoad
from steppe.measure.serving import FORMULAS
from steppe.options import ABOVE_ZERO, NOT_NEGATIVE, SEED, GivenText, json_option
from steppe.report.records import Slo
from steppe.run.output_folders import NewFolder
from steppe.run.serve_load import measure_load, write_load

_AT_LEAST_ONE = click.IntRange(min=1)
DEFAULT_REQUESTS = 10
"""Requests for each user of a closed loop without --requests and --duration."""
DEFAULT_DURATION_S = 60.0
_ENERGY_ROWS = (
    ("energy, J", "total_gpu_energy"),
    ("mean draw, W", "average_gpu_power"),
    ("output tokens/J", "output_tokens_per_joule"),
    ("J/output token", "energy_per_output_token"),
    ("J/total token", "energy_per_total_token"),
    ("J/request", "energy_per_request"),
    ("good requests/s/W", "goodput_per_watt"),
)


@click.command(
    "serve",
    epilog="Example: steppe bench serve --url http://127.0.0.1:8000 --concurrency 16 "
    "--duration 60 --prompt 128 --output 64 --out runs/a",
)
@click.option("--url", default="http://127.0.0.1:8000", show_default=True, help="The server.")
@click.option("--model", help="Model to ask for; the server's first by default.")
@click.option("--concurrency", type=_AT_LEAST_ONE, help="Closed loop: number of users.")
@click.option("--rate", type=ABOVE_ZERO, help="Open loop: mean requests/s.")
@click.option("--requests", type=_AT_LEAST_ONE, help="Number of requests to send.")
@click.option(
    "--duration",
    type=ABOVE_ZERO,
    help="Open loop: send only requests due before it, s. Closed loop: start requests for so "
    "long, s, and let the last ones end.",
)
@click.option("--prompt", type=LENGTH, help="Length of every prompt, tokens.")
@click.option("--output", type=LENGTH, help="Length of every output, tokens.")
@click.option(
    "--trace", type=GivenText(), help="A trace file in place of fixed lengths, or `synthetic`."
)
@traffic_options
@click.option(
    "--length-scale",
    type=LENGTH_SCALE,
    default=1.0,
    show_default=True,
    help="Factor on prompt and output lengths.",
)
@click.option(
    "--template-tokens", type=NOT_NEGATIVE, default=0, help="Tokens that the chat template adds."
)
@click.option("--ignore-eos/--respect-eos", default=True, help="Exact output lengths (vLLM).")
@click.option(
    "--meter",
    type=click.Choice(("gpu", "endpoint", "none")),
    default="gpu",
    show_default=True,
    help="Energy counters of GPUs here, of a Steppe gateway, or none.",
)
@click.option("--gpu", "gpus", type=int, multiple=True, help="The server's GPUs; all if absent.")
@click.option(
    "--slice",
    "slice_s",
    type=ABOVE_ZERO,
    default=5.0,
    show_default=True,
    help="Time slices for the interval, s.",
)
@click.option(
    "--slo-ttft",
    type=ABOVE_ZERO,
    default=2.0,
    show_default=True,
    help="Longest time to the first token of a good request, s.",
)
@click.option(
    "--slo-tpot",
    type=ABOVE_ZERO,
    default=0.2,
    show_default=True,
    help="Longest mean time per output token of a good request, s.",
)
@click.option(
    "--seed", type=SEED, default=0, show_default=True, help="Seed of arrivals and lengths."
)
@click.option(
    "--prompt-seed",
    type=SEED,
    help="Seed of the words; new each time if absent, so that no prefix cache holds them.",
)
@click.option("--out", type=NewFolder(), help="New folder for results and exports.")
@click.option("--explain", is_flag=True, help="Print the formula of every key, and end.")
@json_option
def serve_command(explain: bool, out: Path | None, as_json: bool, **values: Any) -> None:
    """Send a closed or an open loop of requests to a server and meter its GPUs.

    Keys are those of vLLM's bench and of AIPerf; joules, not millijoules. OUT gets serve.json,
    and AIPerf's profile_export_aiperf.json and profile_export.jsonl.
    """
    if explain:
        _explain(as_json)
        return
    plan = _plan(values)
    console = Console(stderr=True)
    measurement = measure_load(plan, values["meter"], values["gpus"], values["slice_s"], console)
    if as_json:
        click.echo(orjson.dumps(measurement.document))
    else:
        document = measurement.document
        Console().print(*summary_tables(document), _energy_table(document))
    if out is not None:
        write_load(out, measurement)
    if measurement.meter_error is not None:
        raise measurement.meter_error
    if not measurement.result.all_completed:
        sys.exit(1)


def _plan(values: dict[str, Any]) -> LoadPlan:
    """Return the load that the command line describes.

    Raises:
        UsageError: Options contradict each other.
    """
    _refuse_contradictions(values)
    users, rate, seed = values["concurrency"], values["rate"], values["seed"]
    options = ReplayOptions(
        pacing=OpenLoop() if users is None else ClosedLoop(users, values["duration"]),
        chat=ChatOptions(seed=seed, ignore_eos=values["ignore_eos"]),
        seed=time.time_ns() if values["prompt_seed"] is None else values["prompt_seed"],
        template_tokens=values["template_tokens"],
    )
    return LoadPlan(
        url=values["url"],
        model=values["model"],
        source=_source(values),
        rate_rps=rate,
        duration_s=values["duration"] if users is None else None,
        requests=values["requests"],
        length_scale=values["length_scale"],
        seed=seed,
        slo=Slo(ttft_s=values["slo_ttft"], tpot_s=values["slo_tpot"]),
        replay=options,
    )


def _refuse_contradictions(values: dict[str, Any]) -> None:
    users, fixed = values["concurrency"], values["prompt"] is not None
    if (users is None) == (values["rate"] is None):
        raise UsageError("give exactly one of --concurrency and --rate")
    if users is not None and None not in (values["requests"], values["duration"]):
        raise UsageError("give --requests or --duration with --concurrency, not both")
    if fixed != (values["output"] is not None):
        raise UsageError("give both of --prompt and --output, or neither and a --trace")
    if not fixed:
        return
    if values["trace"] is not None:
        raise UsageError("give --prompt and --output, or a --trace, not both")
    if values["traffic"] is not None or values["traffic_changes"]:
        raise UsageError("give --prompt and --output, or a --traffic, not both")
    if values["length_scale"] != 1.0:
        raise UsageError("give --length-scale with a --trace, not with --prompt and --output")


def _source(values: dict[str, Any]) -> SyntheticLoad | Path | tuple[Arrival, ...]:
    if values["prompt"] is None:
        return load_source(values)
    each = Arrival(0.0, values["prompt"], values["output"])
    if values["rate"] is None:
        count: int = values["requests"] or DEFAULT_REQUESTS * values["concurrency"]
        if count > MOST_ARRIVALS:
            raise UsageError(f"asked for {count:,} requests, found room for {MOST_ARRIVALS:,}")
        return (each,) * count
    duration_s = values["duration"] or DEFAULT_DURATION_S
    return poisson(each, values["rate"], duration_s, values["seed"])


def _energy_table(document: dict[str, Any]) -> Table:
    table = Table(show_header=False, box=None)
    table.add_column(style="bold")
    table.add_column(justify="right")
    provenance = document["provenance"]
    table.add_row("energy source", f"{provenance['energy_source']}, {provenance['boundary']}")
    for label, key in _ENERGY_ROWS:
        value = document[key]
        table.add_row(label, "-" if value is None else f"{value:.4g}")
    span = document["energy_per_output_token_interval"]
    shown = "-" if span is None else f"{span[0]:.4g} to {span[1]:.4g}"
    table.add_row("95 % interval of J/output token", shown)
    return table


def _explain(as_json: bool) -> None:
    if as_json:
        click.echo(orjson.dumps(FORMULAS))
        return
    table = Table("key", "formula", box=None)
    for key, formula in FORMULAS.items():
        table.add_row(key, formula)
    Console().print(table)
