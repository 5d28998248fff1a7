"""`steppe bench serve`: what one load costs on a server, in joules and in time."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import orjson
from rich.console import Console
from rich.table import Table

from steppe.cli.bench_compare import SERVE_FILE
from steppe.cli.load import LENGTH, LENGTH_SCALE
from steppe.energy.meter import choose_gpus
from steppe.errors import DeviceError, UsageError
from steppe.load.arrivals import MOST_ARRIVALS, Arrival, poisson
from steppe.load.client import ChatOptions
from steppe.load.display import summary_tables
from steppe.load.plan import LoadPlan, run_load
from steppe.load.replay import ClosedLoop, OpenLoop, ReplayOptions
from steppe.load.results import LoadResult
from steppe.load.synthetic import SyntheticLoad
from steppe.measure.endpoint_meter import TICK_S, EndpointMeter
from steppe.measure.interchange import write_aiperf
from steppe.measure.provenance import Provenance
from steppe.measure.serving import FORMULAS, LoadEnergy, energy_keys
from steppe.options import ABOVE_ZERO, NOT_NEGATIVE, SEED, GivenText
from steppe.report.records import Slo
from steppe.run.energy_log import EnergyLog, JouleReader
from steppe.run.gpu_provenance import provenance_of
from steppe.run.host_meter import metering
from steppe.run.need_gpus import needing_gpus
from steppe.run.out_folders import NewFolder

_AT_LEAST_ONE = click.IntRange(min=1)
DEFAULT_REQUESTS = 10
"""Requests a user of a closed loop, where nobody says how many."""
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
    "--requests 200 --prompt 128 --output 64 --out runs/a",
)
@click.option("--url", default="http://127.0.0.1:8000", show_default=True, help="The server.")
@click.option("--model", help="Model to ask for; the server's first by default.")
@click.option("--concurrency", type=_AT_LEAST_ONE, help="Closed loop: so many users.")
@click.option("--rate", type=ABOVE_ZERO, help="Open loop: mean requests/s.")
@click.option("--requests", type=_AT_LEAST_ONE, help="Send only so many, from the first on.")
@click.option("--duration", type=ABOVE_ZERO, help="Send only what is due before it, s.")
@click.option("--prompt", type=LENGTH, help="Length of every prompt, tokens.")
@click.option("--output", type=LENGTH, help="Length of every output, tokens.")
@click.option(
    "--trace", type=GivenText(), help="A trace file in place of fixed lengths, or `synthetic`."
)
@click.option("--length-scale", type=LENGTH_SCALE, default=1.0, show_default=True)
@click.option(
    "--template-tokens", type=NOT_NEGATIVE, default=0, help="Tokens that the chat template adds."
)
@click.option("--ignore-eos/--respect-eos", default=True, help="Exact output lengths (vLLM).")
@click.option(
    "--meter",
    type=click.Choice(("gpu", "endpoint", "none")),
    default="gpu",
    show_default=True,
    help="Counters of GPUs here, of a Steppe gateway, or nobody's.",
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
@click.option("--slo-ttft", type=ABOVE_ZERO, default=2.0, show_default=True, help="s")
@click.option("--slo-tpot", type=ABOVE_ZERO, default=0.2, show_default=True, help="s")
@click.option(
    "--seed", type=SEED, default=0, show_default=True, help="Seed of arrivals and lengths."
)
@click.option(
    "--prompt-seed",
    type=SEED,
    help="Seed of the words; new each time if absent, so that no prefix cache knows them.",
)
@click.option("--out", type=NewFolder(), help="New folder for results and exports.")
@click.option("--explain", is_flag=True, help="Print the formula of every key, and end.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def serve_command(explain: bool, out: Path | None, as_json: bool, **values: Any) -> None:
    """Put a closed or an open loop of requests on a server and meter its GPUs.

    Keys are those of vLLM's bench and of AIPerf; joules, not millijoules. OUT gets serve.json,
    and AIPerf's profile_export_aiperf.json and profile_export.jsonl.
    """
    if explain:
        _explain(as_json)
        return
    plan = _plan(values)
    with _metered(values) as (meter, provenance):
        log = None if meter is None else EnergyLog(meter, values["slice_s"])
        if log is not None:
            plan = replace(plan, replay=replace(plan.replay, on_begin=log.begin))
        with contextlib.nullcontext() if log is None else log.running():
            result = run_load(plan, Console(stderr=True))
    energy, unknown = _energy_of(log, result)
    document = _document(plan, result, energy, provenance)
    if as_json:
        click.echo(orjson.dumps(document))
    else:
        Console().print(*summary_tables(document), _energy_table(document))
    if out is not None:
        _write(out, document, result)
    if unknown is not None:
        raise unknown
    if not result.all_completed:
        sys.exit(1)


def _energy_of(
    log: EnergyLog | None, result: LoadResult
) -> tuple[LoadEnergy | None, DeviceError | None]:
    """Return the energy of a load, or why nobody knows it."""
    try:
        return None if log is None else log.energy(result), None
    except DeviceError as error:
        return None, error


def _plan(values: dict[str, Any]) -> LoadPlan:
    """Return the load that the command line describes.

    Raises:
        UsageError: Options contradict each other.
    """
    _refuse_contradictions(values)
    users, rate, seed = values["concurrency"], values["rate"], values["seed"]
    options = ReplayOptions(
        pacing=OpenLoop() if users is None else ClosedLoop(users),
        chat=ChatOptions(seed=seed, ignore_eos=values["ignore_eos"]),
        seed=time.time_ns() if values["prompt_seed"] is None else values["prompt_seed"],
        template_tokens=values["template_tokens"],
    )
    return LoadPlan(
        url=values["url"],
        model=values["model"],
        source=_source(values),
        rate_rps=rate,
        duration_s=values["duration"],
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
    if fixed != (values["output"] is not None):
        raise UsageError("give both of --prompt and --output, or neither and a --trace")
    if not fixed:
        return
    if values["trace"] is not None:
        raise UsageError("give --prompt and --output, or a --trace, not both")
    if values["length_scale"] != 1.0:
        raise UsageError("give --length-scale with a --trace, not with --prompt and --output")
    if users is not None and values["duration"] is not None:
        raise UsageError("give --requests, not --duration, with --concurrency and fixed lengths")


def _source(values: dict[str, Any]) -> SyntheticLoad | Path | tuple[Arrival, ...]:
    if values["prompt"] is None:
        is_file = values["trace"] not in (None, "synthetic")
        return Path(values["trace"]) if is_file else SyntheticLoad()
    each = Arrival(0.0, values["prompt"], values["output"])
    if values["rate"] is None:
        count: int = values["requests"] or DEFAULT_REQUESTS * values["concurrency"]
        if count > MOST_ARRIVALS:
            raise UsageError(f"asked for {count:,} requests, found room for {MOST_ARRIVALS:,}")
        return (each,) * count
    rng, duration_s = np.random.default_rng(values["seed"]), values["duration"]
    return poisson(each, values["rate"], duration_s or DEFAULT_DURATION_S, rng)


@contextmanager
def _metered(values: dict[str, Any]) -> Generator[tuple[JouleReader | None, Provenance]]:
    """Meter what the command line says while the block runs."""
    url, seed = values["url"], values["seed"]
    bare = provenance_of((), values["model"] or "", url, seed)
    match values["meter"]:
        case "none":
            yield None, replace(bare, energy_source="none", meter="none", boundary="none")
        case "endpoint":
            meter = EndpointMeter(url)
            source = replace(bare, energy_source=meter.source, meter="counter")
            yield meter, replace(source, counter_period_s=TICK_S)
        case _:
            with needing_gpus("--meter endpoint and --meter none need none"):
                gpus = choose_gpus(values["gpus"])
            with metering(gpus) as host:
                yield host, provenance_of(gpus, values["model"] or "", url, seed)


def _document(
    plan: LoadPlan, result: LoadResult, energy: LoadEnergy | None, provenance: Provenance
) -> dict[str, Any]:
    """Return the whole result: vLLM's keys, AIPerf's energy keys, slices, and provenance."""
    summary = result.summary(plan.slo)
    pacing = plan.replay.pacing
    users = pacing.concurrency if isinstance(pacing, ClosedLoop) else None
    return {
        "url": plan.url,
        "model": result.model,
        "loop": "open" if users is None else "closed",
        "max_concurrency": users,
        "request_rate": plan.rate_rps,
        "seed": plan.seed,
        "prompt_seed": plan.replay.seed,
        "slo": asdict(plan.slo),
        **summary,
        **energy_keys(summary, energy, users),
        "slices": [] if energy is None else [asdict(piece) for piece in energy.slices],
        "provenance": asdict(replace(provenance, model=result.model)),
    }


def _write(out: Path, document: dict[str, Any], result: LoadResult) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        indented = orjson.dumps(document, option=orjson.OPT_INDENT_2)
        (out / SERVE_FILE).write_bytes(indented + b"\n")
        write_aiperf(out, result, document)
    except OSError as error:
        raise UsageError(f"{out}: cannot write results: {error.strerror}") from error


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
