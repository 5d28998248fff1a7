"""A load test: its settings, its arrivals, and the run against a server."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rich.console import Console

from steppe.errors import UsageError
from steppe.load.arrivals import UNLIMITED, Arrival, LengthLimits, at_rate, scale_lengths, until
from steppe.load.client import ServerTarget, served_models
from steppe.load.display import show_progress
from steppe.load.generators import SEQUENCE_TPS, LoadGenerators, load_generators
from steppe.load.replay import ClosedLoop, OpenLoop, ReplayOptions, replay
from steppe.load.results import LoadResult
from steppe.load.shared_load import SharedLoad
from steppe.load.synthetic import SyntheticLoad
from steppe.load.traces import read_trace
from steppe.load.traffics import AZURE_RATE_RPS
from steppe.report.records import Slo

SYNTHETIC_S = 60.0
"""Length of a synthetic load that names none, s."""


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """One load test.

    Attributes:
        url: Address of the server, with or without `/v1`.
        model: Model to request; the first that the server offers if None.
        source: Where arrivals come from: a trace file, a synthetic load, or given arrivals.
        rate_rps: Mean arrival rate, requests/s; the trace's own if None.
        duration_s: Open loop: only arrivals due before it are sent, s; if None, all of a trace or
            a minute of synthetic load. The duration of a closed loop is in `ClosedLoop`.
        requests: Number of requests to send, from the first arrival on; all if None.
        length_scale: Factor on prompt and output lengths.
        limits: Limits that scaled lengths are clipped to.
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
    """Return the arrivals of a plan.

    Raises:
        TraceError: The trace cannot be read or has no rate to scale.
        UsageError: No request is due within the duration, or fewer than were asked for.
    """
    arrivals = _arrivals_of(plan)
    found, within = len(arrivals), f"within {plan.duration_s or SYNTHETIC_S:g} s"
    if not arrivals:
        raise UsageError(f"asked for requests {within}, found none due by then")
    if plan.requests is not None and plan.requests > found:
        is_whole = isinstance(plan.source, Path) and plan.duration_s is None
        where = f"in {plan.source}" if is_whole else within
        raise UsageError(f"asked for {plan.requests:,} requests, found {found:,} {where}")
    return arrivals[: plan.requests]


def _arrivals_of(plan: LoadPlan) -> tuple[Arrival, ...]:
    match plan.source:
        case SyntheticLoad() as load:
            return load.generate(
                np.random.default_rng(plan.seed),
                rate_rps=plan.rate_rps or AZURE_RATE_RPS,
                duration_s=plan.duration_s or SYNTHETIC_S,
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

    A load of more tokens/s than one process receives is shared between several. Ctrl-C stops
    sending, cancels outstanding requests, and returns the results up to then.

    Raises:
        UsageError: The server cannot be reached or lacks the model, or the plan has no requests.
        LoadError: A process failed.
    """
    arrivals = plan_arrivals(plan)
    with load_generators(expected_tps(plan.replay.pacing, arrivals)) as generators:
        return asyncio.run(_run(plan, arrivals, console, generators))


def expected_tps(pacing: OpenLoop | ClosedLoop, arrivals: Sequence[Arrival]) -> float:
    """Return how many output tokens/s a load asks for.

    Args:
        pacing: A closed loop asks for as much as its sequences may get.
        arrivals: The arrivals of an open loop, in order.
    """
    match pacing:
        case ClosedLoop(concurrency, None):
            return min(concurrency, len(arrivals)) * SEQUENCE_TPS
        case ClosedLoop(concurrency):
            return concurrency * SEQUENCE_TPS
        case OpenLoop():
            span_s = max(1.0, arrivals[-1].at_s - arrivals[0].at_s)
            return sum(arrival.output_tokens for arrival in arrivals) / span_s


async def _run(
    plan: LoadPlan,
    arrivals: tuple[Arrival, ...],
    console: Console,
    generators: LoadGenerators | None,
) -> LoadResult:
    target = ServerTarget(plan.url, _choose_model(plan, await served_models(plan.url)))
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    signals = (signal.SIGINT, signal.SIGTERM)
    for number in signals:
        loop.add_signal_handler(number, stop.set)
    match plan.replay.pacing:
        case ClosedLoop(duration_s=float(duration_s)):
            progress = show_progress(console, duration_s=duration_s)
        case _:
            progress = show_progress(console, requests=len(arrivals))
    try:
        with progress as show:
            if generators is None:
                return await replay(target, arrivals, plan.replay, show, stop)
            load = await asyncio.to_thread(generators.begin, target, arrivals, plan.replay, show)
            return await ended(load, stop)
    finally:
        for number in signals:
            loop.remove_signal_handler(number)


async def ended(load: SharedLoad, stop: asyncio.Event) -> LoadResult:
    """Wait for the result of a load, which ends early when `stop` is set.

    Raises:
        LoadError: A process failed.
    """
    result = asyncio.create_task(asyncio.to_thread(load.wait))
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait((result, stopped), return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if not result.done():
        load.stop()
    found = await result
    assert found is not None, "a wait without a limit has a result"
    return found


def _choose_model(plan: LoadPlan, offered: tuple[str, ...]) -> str:
    """Return the model to request, checked against what the server offers."""
    if plan.model in offered:
        return plan.model
    if plan.model is None and offered:
        return offered[0]
    raise UsageError(
        f"{plan.url}: asked for model {plan.model or '(any)'}, "
        f"found {', '.join(offered) or 'no model'}"
    )
