"""`steppe load`: replay a trace, or a synthetic load, against a server."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import orjson
from rich.console import Console

from steppe.cli.traffic_options import SYNTHETIC, load_source, traffic_options
from steppe.errors import UsageError
from steppe.load.arrivals import LengthLimits
from steppe.load.client import ChatOptions
from steppe.load.display import summary_tables
from steppe.load.plan import LoadPlan, run_load
from steppe.load.replay import ClosedLoop, OpenLoop, ReplayOptions
from steppe.load.rows import rows_file
from steppe.options import (
    ABOVE_ZERO,
    LARGEST,
    NOT_NEGATIVE,
    SEED,
    FiniteRange,
    GivenText,
    json_option,
)
from steppe.outputs import NewFile
from steppe.report.records import Slo

_AT_LEAST_ONE = click.IntRange(min=1)
LENGTH = click.IntRange(1, LARGEST)
"""Length of a prompt or an output, tokens."""
LENGTH_SCALE = FiniteRange(0, 1_000_000, min_open=True)
"""Factor on such lengths; the largest makes the longest out of one token."""


@click.command(
    "load",
    epilog="Example: steppe load --url http://127.0.0.1:8000 --trace synthetic --rate 2 "
    "--duration 60 --length-scale 0.125",
)
@click.option("--url", default="http://127.0.0.1:8000", show_default=True, help="The server.")
@click.option("--model", help="Model to request; the server's first by default.")
@click.option(
    "--trace",
    type=GivenText(),
    default="synthetic",
    show_default=True,
    help="`synthetic`, or a trace file: Azure or BurstGPT CSV, Mooncake "
    "JSON lines, requests.jsonl of a run.",
)
@traffic_options
@click.option("--rate", type=ABOVE_ZERO, help="Mean requests/s; the trace's own by default.")
@click.option(
    "--duration",
    type=ABOVE_ZERO,
    help="Open loop: send only requests due before it, s. Closed loop: start requests for so "
    "long, s, repeating the trace.",
)
@click.option(
    "--length-scale",
    type=LENGTH_SCALE,
    default=1.0,
    show_default=True,
    help="Factor on prompt and output lengths.",
)
@click.option("--max-prompt", type=LENGTH, default=1_000_000, help="Longest prompt, tokens.")
@click.option("--max-output", type=LENGTH, default=1_000_000, help="Longest output, tokens.")
@click.option("--concurrency", type=_AT_LEAST_ONE, help="Closed loop: requests outstanding.")
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
@click.option("--deadline", type=ABOVE_ZERO, help="Cancel unfinished requests after it, s.")
@click.option(
    "--template-tokens", type=NOT_NEGATIVE, default=0, help="Tokens that the chat template adds."
)
@click.option("--ignore-eos/--respect-eos", default=True, help="Exact output lengths (vLLM).")
@click.option(
    "--seed",
    type=SEED,
    default=0,
    show_default=True,
    help="Seed of arrivals, lengths and words.",
)
@click.option(
    "--requests", type=NewFile(), help="New file to write a JSON line in as each request ends."
)
@json_option
def load_command(requests: Path | None, as_json: bool, **values: Any) -> None:
    """Replay request arrivals against an OpenAI-compatible server.

    In an open loop requests start when they are due, regardless of the answers. The exit code is
    1 unless every request completed.
    """
    plan = _plan(values)
    with nullcontext() if requests is None else rows_file(requests) as write:
        if write is not None:
            plan = replace(plan, replay=replace(plan.replay, on_end=write))
        result = run_load(plan, Console(stderr=True))
        settings = _settings(plan, result.model, values["traffic"])
        summary = {**settings, **result.summary(plan.slo)}
        if as_json:
            click.echo(orjson.dumps(summary))
        else:
            Console().print(*summary_tables(summary))
    if not result.all_completed:
        sys.exit(1)


def _plan(values: dict[str, Any]) -> LoadPlan:
    """Return the plan that the command line describes.

    Raises:
        UsageError: Options contradict each other, or a traffic changes out of order.
    """
    concurrency, duration_s = values["concurrency"], values["duration"]
    if concurrency is not None and values["rate"] is not None:
        raise UsageError("give at most one of --concurrency and --rate")
    return LoadPlan(
        url=values["url"],
        model=values["model"],
        source=load_source(values),
        rate_rps=values["rate"],
        duration_s=duration_s if concurrency is None else None,
        length_scale=values["length_scale"],
        limits=LengthLimits(values["max_prompt"], values["max_output"]),
        seed=values["seed"],
        slo=Slo(ttft_s=values["slo_ttft"], tpot_s=values["slo_tpot"]),
        replay=ReplayOptions(
            pacing=OpenLoop() if concurrency is None else ClosedLoop(concurrency, duration_s),
            chat=ChatOptions(seed=values["seed"], ignore_eos=values["ignore_eos"]),
            seed=values["seed"],
            template_tokens=values["template_tokens"],
            deadline_s=values["deadline"],
        ),
    )


def _settings(plan: LoadPlan, model: str, traffic: str | None) -> dict[str, object]:
    """Return the settings that a result cannot be read without."""
    return {
        "url": plan.url,
        "model": model,
        "trace": str(plan.source) if isinstance(plan.source, Path) else SYNTHETIC,
        "traffic": None if isinstance(plan.source, Path) else traffic or "conversation",
        "request_rate": plan.rate_rps,
        "length_scale": plan.length_scale,
        "seed": plan.seed,
        "slo": {"ttft_s": plan.slo.ttft_s, "tpot_s": plan.slo.tpot_s},
    }
