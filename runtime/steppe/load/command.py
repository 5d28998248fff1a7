"""`steppe load`: replay a trace, or a synthetic one, against a server."""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import orjson
from rich.console import Console

from steppe.errors import UsageError
from steppe.load.arrivals import (
    UNLIMITED,
    Arrival,
    LengthLimits,
    at_rate,
    scale_lengths,
    until,
)
from steppe.load.client import ChatOptions, Target, served_models
from steppe.load.display import progress_line, summary_tables
from steppe.load.replay import ClosedLoop, OpenLoop, ReplayOptions, replay
from steppe.load.results import LoadResult
from steppe.load.rows import rows_file
from steppe.load.synthetic import AZURE_RATE_RPS, SyntheticLoad
from steppe.load.traces import read_trace
from steppe.options import ABOVE_ZERO, LARGEST, NOT_NEGATIVE, SEED, FiniteRange, GivenText
from steppe.outputs import NewFile
from steppe.report.records import Slo

_SYNTHETIC_S = 60.0
_AT_LEAST_ONE = click.IntRange(min=1)
LENGTH = click.IntRange(1, LARGEST)
"""Length of a prompt or an output, tokens."""
LENGTH_SCALE = FiniteRange(0, 1_000_000, min_open=True)
"""Factor on such lengths; the largest makes the longest out of one token."""


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """One load test.

    Attributes:
        url: Address of the server, with or without `/v1`.
        model: Model to ask for; the first that the server offers if None.
        source: Where arrivals come from: a trace file, a synthetic load, or they themselves.
        rate_rps: Mean arrival rate, requests/s; the trace's own if None.
        duration_s: Only arrivals due before it are sent, s; all of a trace, or a minute of
            synthetic load, if None.
        requests: Only so many of them are sent, from the first on; all if None.
        length_scale: Factor on prompt and output lengths.
        limits: What scaled lengths are clipped to.
        seed: Seed of the arrivals and of the prompts' words.
        slo: What a good request is.
        replay: How the replay behaves.
    """

    url: str
    model: str | None = None
    source: SyntheticLoad | Path | tuple[Arrival, ...] = field(default_factory=SyntheticLoad)
    rate_rps: float | None = None
    duration_s: float | None = None
    requests: int | None = None
    length_scale: float = 1.0
    limits: LengthLimits = UNLIMITED
    seed: int = 0
    slo: Slo = field(default_factory=lambda: Slo(ttft_s=2.0, tpot_s=0.2))
    replay: ReplayOptions = field(default_factory=ReplayOptions)


def plan_arrivals(plan: LoadPlan) -> tuple[Arrival, ...]:
    """Return the arrivals that a plan asks for.

    Raises:
        TraceError: The trace cannot be read or has no rate to scale.
        UsageError: No request is due within the duration, or fewer than were asked for.
    """
    arrivals = _arrivals_of(plan)
    found, within = len(arrivals), f"within {plan.duration_s or _SYNTHETIC_S:g} s"
    if not arrivals:
        raise UsageError(f"asked for requests {within}, found none due by then")
    if plan.requests is not None and plan.requests > found:
        is_whole = isinstance(plan.source, Path) and plan.duration_s is None
        place = f"in {plan.source}" if is_whole else within
        raise UsageError(f"asked for {plan.requests:,} requests, found {found:,} {place}")
    return arrivals[: plan.requests]


def _arrivals_of(plan: LoadPlan) -> tuple[Arrival, ...]:
    match plan.source:
        case SyntheticLoad() as load:
            return load.generate(
                np.random.default_rng(plan.seed),
                rate_rps=plan.rate_rps or AZURE_RATE_RPS,
                duration_s=plan.duration_s or _SYNTHETIC_S,
                length_scale=plan.length_scale,
                limits=plan.limits,
            )
        case tuple() as arrivals:
            return arrivals
        case path:
            arrivals = scale_lengths(read_trace(path), plan.length_scale, plan.limits)
            if plan.rate_rps is not None:
                arrivals = at_rate(arrivals, plan.rate_rps, path)
            return arrivals if plan.duration_s is None else until(arrivals, plan.duration_s)


def run_load(plan: LoadPlan, console: Console) -> LoadResult:
    """Run a load test and show its progress on the console.

    Ctrl-C stops sending, cancels what is outstanding, and returns what was found by then.

    Raises:
        UsageError: The server cannot be reached or lacks the model, or the plan has no requests.
    """
    return asyncio.run(_run(plan, plan_arrivals(plan), console))


async def _run(plan: LoadPlan, arrivals: tuple[Arrival, ...], console: Console) -> LoadResult:
    target = Target(plan.url, _choose_model(plan, await served_models(plan.url)))
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    signals = (signal.SIGINT, signal.SIGTERM)
    for number in signals:
        loop.add_signal_handler(number, stop.set)
    try:
        with progress_line(console, len(arrivals)) as show:
            return await replay(target, arrivals, plan.replay, show, stop)
    finally:
        for number in signals:
            loop.remove_signal_handler(number)


def _choose_model(plan: LoadPlan, offered: tuple[str, ...]) -> str:
    """Return the model to ask for, checked against what the server offers."""
    if plan.model in offered:
        return plan.model
    if plan.model is None and offered:
        return offered[0]
    raise UsageError(
        f"{plan.url}: asked for model {plan.model or '(any)'}, "
        f"found {', '.join(offered) or 'no model'}"
    )


def _plan(values: dict[str, Any]) -> LoadPlan:
    """Return the plan that the command line describes.

    Raises:
        UsageError: Options contradict each other.
    """
    concurrency = values["concurrency"]
    if concurrency is not None and values["rate"] is not None:
        raise UsageError("give at most one of --concurrency and --rate")
    return LoadPlan(
        url=values["url"],
        model=values["model"],
        source=SyntheticLoad() if values["trace"] == "synthetic" else Path(values["trace"]),
        rate_rps=values["rate"],
        duration_s=values["duration"],
        length_scale=values["length_scale"],
        limits=LengthLimits(values["max_prompt"], values["max_output"]),
        seed=values["seed"],
        slo=Slo(ttft_s=values["slo_ttft"], tpot_s=values["slo_tpot"]),
        replay=ReplayOptions(
            pacing=OpenLoop() if concurrency is None else ClosedLoop(concurrency),
            chat=ChatOptions(seed=values["seed"], ignore_eos=values["ignore_eos"]),
            seed=values["seed"],
            template_tokens=values["template_tokens"],
            deadline_s=values["deadline"],
        ),
    )


@click.command(
    "load",
    epilog="Example: steppe load --url http://127.0.0.1:8000 --trace synthetic --rate 2 "
    "--duration 60 --length-scale 0.125",
)
@click.option("--url", default="http://127.0.0.1:8000", show_default=True, help="The server.")
@click.option("--model", help="Model to ask for; the server's first by default.")
@click.option(
    "--trace",
    type=GivenText(),
    default="synthetic",
    show_default=True,
    help="`synthetic`, or a trace file: Azure or BurstGPT CSV, Mooncake JSON lines.",
)
@click.option("--rate", type=ABOVE_ZERO, help="Mean requests/s; the trace's own by default.")
@click.option("--duration", type=ABOVE_ZERO, help="Send only what is due before it, s.")
@click.option("--length-scale", type=LENGTH_SCALE, default=1.0, show_default=True)
@click.option("--max-prompt", type=LENGTH, default=1_000_000, help="Longest prompt, tokens.")
@click.option("--max-output", type=LENGTH, default=1_000_000, help="Longest output, tokens.")
@click.option("--concurrency", type=_AT_LEAST_ONE, help="Closed loop: always so many outstanding.")
@click.option("--slo-ttft", type=ABOVE_ZERO, default=2.0, show_default=True, help="s")
@click.option("--slo-tpot", type=ABOVE_ZERO, default=0.2, show_default=True, help="s")
@click.option("--deadline", type=ABOVE_ZERO, help="Cancel what is unfinished then, s.")
@click.option(
    "--template-tokens", type=NOT_NEGATIVE, default=0, help="Tokens that the chat template adds."
)
@click.option("--ignore-eos/--respect-eos", default=True, help="Exact output lengths (vLLM).")
@click.option("--seed", type=SEED, default=0, show_default=True)
@click.option(
    "--requests", type=NewFile(), help="New file to write a JSON line in as each request ends."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def load_command(requests: Path | None, as_json: bool, **values: Any) -> None:
    """Replay request arrivals against an OpenAI-compatible server, on time.

    Requests start when they are due, whatever the server answers. The exit code is 1 unless
    every request completed.
    """
    plan = _plan(values)
    with nullcontext() if requests is None else rows_file(requests) as write:
        if write is not None:
            plan = replace(plan, replay=replace(plan.replay, on_end=write))
        result = run_load(plan, Console(stderr=True))
        summary = {**_asked(plan, result.model), **result.summary(plan.slo)}
        if as_json:
            click.echo(orjson.dumps(summary))
        else:
            Console().print(*summary_tables(summary))
    if not result.all_completed:
        sys.exit(1)


def _asked(plan: LoadPlan, model: str) -> dict[str, object]:
    """Return the settings that a result cannot be read without."""
    return {
        "url": plan.url,
        "model": model,
        "trace": "synthetic" if isinstance(plan.source, SyntheticLoad) else str(plan.source),
        "request_rate": plan.rate_rps,
        "length_scale": plan.length_scale,
        "seed": plan.seed,
        "slo": {"ttft_s": plan.slo.ttft_s, "tpot_s": plan.slo.tpot_s},
    }
