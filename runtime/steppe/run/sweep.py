"""A sweep from options to results on disk, with its estimated duration and its progress."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from steppe.config import RunConfig
from steppe.errors import UsageError
from steppe.frontier.file import FrontierSubject
from steppe.load.traces import read_trace
from steppe.measure.sweep.frontier import Offer
from steppe.measure.sweep.grid import SweepGrid, left_to_do, powers_of_two, spread_clocks
from steppe.measure.sweep.length_sample import sample_of_trace
from steppe.measure.sweep.point import MeasurePlan, warm_up_for
from steppe.measure.sweep.result import PointResult
from steppe.measure.sweep.store import ResultsFile, RunHead, read_results
from steppe.measure.sweep.sweep import run_sweep
from steppe.roofline.lengths import RequestLengths
from steppe.run.check_inputs import check_inputs
from steppe.run.host_meter import config_gpus
from steppe.run.sweep_progress import duration_line, sweep_progress
from steppe.run.sweep_report import SweptLoad, conclude
from steppe.run.sweep_rigs import ServerOptions, SweepTarget, server_target

DENSE_CLOCKS = 20
DEFAULT_SLO_S = 0.2


@dataclass(frozen=True, slots=True)
class GridOptions:
    """Which points to measure; None: as the config or the GPU has it.

    Attributes:
        clocks: Clock limits, MHz.
        clock_count: Without them and without a config: how many clock limits to spread.
        batch: Batch limits.
        prompt: Mean prompt lengths, tokens.
        output: Mean output lengths, tokens.
        trace: File with the lengths of the user's own requests, in place of means.
        apart: Also measure prefill alone and decode alone.
    """

    clocks: tuple[int, ...] | None
    clock_count: int
    batch: tuple[int, ...] | None
    prompt: tuple[int, ...] | None
    output: tuple[int, ...] | None
    trace: Path | None
    apart: bool

    def check_trace(self) -> None:
        """Read the trace, if there is one, before anything starts.

        Raises:
            TraceError: It cannot be read.
        """
        if self.trace is not None:
            read_trace(self.trace)

    def check(self, config: RunConfig) -> None:
        """Refuse, before a fleet starts, what its replicas cannot do.

        Raises:
            UsageError: They lack a clock or a batch limit, or the config cannot be served.
        """
        check_inputs(config)
        _refuse_large(self.batch or (), config.engine.max_batch_limit)
        gpus = config_gpus(config) if self.clocks else ()
        for gpu in gpus[:1]:
            _refuse_unknown(self.clocks or (), gpu.capabilities.sm_clocks_mhz)

    def grid(self, target: SweepTarget, config: RunConfig | None, seed: int) -> SweepGrid:
        """Return the points to measure.

        Args:
            target: What is measured.
            config: Its configuration, if it has one.
            seed: Seed of the sample of a trace.

        Raises:
            UsageError: The replica lacks a clock or a batch limit.
            TraceError: The trace cannot be read.
        """
        section = config.frontier.sweep if config is not None else None
        lowest_share = section.lowest_clock_share if section else 0.5
        clocks = self.clocks
        if clocks is None:
            count = section.clocks if section else self.clock_count
            clocks = spread_clocks(target.clocks_mhz, count, lowest_share)
        _refuse_unknown(clocks, target.clocks_mhz)
        batch = self.batch or (section.batch_limits if section else None)
        batch = batch or powers_of_two(target.largest_batch)
        _refuse_large(batch, target.largest_batch)
        if self.trace is not None:
            sample = sample_of_trace(self.trace, seed, target.request_limit)
            longest, means = target.longest_tokens, (sample.rounded,)
            return SweepGrid(clocks, batch, means, self.apart, longest, sample=sample)
        prompts = self.prompt or (section.prompt_tokens if section else 128,)
        outputs = self.output or (section.output_tokens if section else 64,)
        lengths = tuple((p, o) for p in prompts for o in outputs)
        return SweepGrid(clocks, batch, lengths, self.apart, target.longest_tokens)


def _refuse_large(batch: tuple[int, ...], largest: int) -> None:
    if max(batch, default=0) > largest:
        raise UsageError(f"--batch: asked for {max(batch)}, found a replica of at most {largest}")


def _refuse_unknown(clocks: tuple[int, ...], known: tuple[int, ...]) -> None:
    unknown = [clock for clock in clocks if clock not in known]
    if unknown:
        near = min(known, key=lambda clock: abs(clock - unknown[0])) if known else "no clock knob"
        raise UsageError(f"--clock: asked for {unknown[0]} MHz, found {near} as the nearest")


def sweep_server(
    url: str,
    model: str | None,
    gpus: tuple[int, ...],
    *,
    seed: int,
    options: GridOptions,
    console: Console,
) -> AbstractContextManager[SweepTarget]:
    """Meter the GPUs here of a server that runs already.

    Args:
        url: Its address.
        model: Model to ask for; its first if None.
        gpus: Indices of its GPUs on this host; all if empty.
        seed: Seed of lengths and prompts.
        options: Points to measure.
        console: Takes progress messages.
    """
    longest = 2 * sum(max(lengths or (128,)) for lengths in (options.prompt, options.output))
    server = ServerOptions(
        url=url,
        model=model,
        gpus=gpus,
        seed=seed,
        largest_batch=max(options.batch or (1, 4, 16)),
        longest_tokens=longest,
    )
    return server_target(server, console)


def measure(
    target: SweepTarget, grid: SweepGrid, plan: MeasurePlan, out: Path, console: Console
) -> None:
    """Measure the points that the results in a folder lack; results grow there meanwhile.

    Raises:
        UsageError: The folder holds results of something else.
        SteppeError: A replica or a meter failed.
    """
    if grid.sample is not None:
        console.print(grid.sample.summary, highlight=False, soft_wrap=True)
        plan = replace(plan, sample=grid.sample)
    settings = grid.settings
    plan = warm_up_for(settings, plan)
    store = ResultsFile(out)
    store.begin(RunHead(target.provenance, target.rest, asdict(plan)))
    left = left_to_do(settings, store.done)
    if len(left) < len(settings):
        console.print(f"{len(settings) - len(left)} of {len(settings)} points are measured already")
    if not left:
        return
    console.print(duration_line(len(left), len(target.rigs), plan), highlight=False)
    with sweep_progress(console, len(left)) as progress:

        def keep(point: PointResult) -> None:
            store.add(point)
            progress.on_point(point)

        run_sweep(target.rigs, left, plan, keep, on_stage=progress.on_stage)


def report(
    target: SweepTarget, grid: SweepGrid, out: Path, slo_s: float, console: Console
) -> dict[str, Any]:
    """Write what follows from the results in a folder, and return it as one document."""
    results, offer = read_results(out), _offer(target, grid)
    provenance = target.provenance
    subject = FrontierSubject(
        model=provenance.model,
        gpu=", ".join(sorted(set(provenance.gpus))) or None,
        gpus_per_replica=target.gpus_per_replica,
    )
    swept = SweptLoad(subject, offer, grid.sample)
    return conclude(results, swept, slo_s, console)


def _offer(target: SweepTarget, grid: SweepGrid) -> Offer | None:
    """Return the points to offer along fitted curves; None where steps are not counted."""
    if not target.counts_steps:
        return None
    lengths = grid.sample.lengths if grid.sample else RequestLengths(*grid.lengths[0])
    lowest, highest = min(grid.clocks_mhz, default=0), max(grid.clocks_mhz, default=0)
    within = [clock for clock in target.clocks_mhz if lowest <= clock <= highest]
    clocks = spread_clocks(within, DENSE_CLOCKS) if grid.clocks_mhz else ()
    return Offer(
        clocks,
        max(grid.batch_limits),
        lengths.prompt_tokens / lengths.output_tokens,
        lengths=lengths,
        tokens_per_step=target.tokens_per_step,
    )
