"""`steppe simulate`: the same control loop over a fleet in virtual time."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path

import click
import numpy as np
from rich.console import Console
from rich.status import Status

from steppe.config import (
    RunConfig,
    load_config,
)
from steppe.frontier.file import write_frontier
from steppe.frontier.pareto import Frontier
from steppe.load import arrivals as loads
from steppe.load.arrivals import LengthLimits, offered_rate
from steppe.load.synthetic import DailyEnvelope, SyntheticLoad
from steppe.load.traces import read_trace
from steppe.options import ABOVE_ZERO, GivenPath
from steppe.report.closing import summary_panel
from steppe.report.quantities import span
from steppe.report.recorder import Recorder, summary_text
from steppe.report.records import RequestRecord, Slo, TickRecord
from steppe.run.check_inputs import held_signals, warn_of_early_end
from steppe.run.check_slo import check_slo, warn_of_slow_fleet
from steppe.run.frontier_subject import configured_frontier, subject_of
from steppe.run.leave_signals import leaving_on_signals
from steppe.run.out_folders import NewFolder
from steppe.run.simulated_fleet import (
    length_limits,
    mean_request,
    simulated_fleet,
    swept_as_load,
    warn_of_args,
    warn_of_lengths,
)
from steppe.sim.build import scenario_of
from steppe.sim.engine.kind import ReplicaKind
from steppe.sim.points import modelled_frontier
from steppe.sim.request import SimulatedArrival
from steppe.sim.run import simulate

DENSE_CLOCKS = 20
"""Clock limits of a modelled frontier, as a live sweep offers them."""
DAY_S = 86_400.0
QUIET_SHARE = 0.1
"""A trace that leaves more of a run than this without requests is told of."""


@click.command(
    "simulate", epilog="Example: steppe simulate configs/windy_day.yaml --record runs/windy"
)
@click.argument("config", type=GivenPath(path_type=Path))
@click.option("--record", type=NewFolder(), required=True, help="New folder to write the run in.")
@click.option(
    "--duration",
    type=ABOVE_ZERO,
    help="Seconds to simulate; the config's sim.duration_s by default.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as one JSON document.")
def simulate_command(config: Path, record: Path, duration: float | None, as_json: bool) -> None:
    """Simulate the fleet of CONFIG; every joule of it is modelled.

    A signal supply is read once, at the start, and holds for the whole run. Ctrl-C leaves no
    record.
    """
    console = Console(stderr=as_json)
    asked = _asked(config, duration)
    settings = swept_as_load(asked)
    fleet = simulated_fleet(settings)
    frontier = frontier_for(settings, fleet.kind)
    check_slo(settings, frontier)
    warn_of_args(asked.engine)
    warn_of_lengths(asked)
    arrivals = arrivals_for(settings, frontier.full.output_tps * fleet.replicas)
    asked_tps = sum(arrival.output_tokens for arrival in arrivals) / settings.sim.duration_s
    warn_of_slow_fleet(settings, frontier, fleet.replicas, asked_tps)
    scenario = scenario_of(settings, fleet, frontier, arrivals)
    warn_of_early_end(settings.power, scenario.budget, settings.sim.duration_s)
    console.print(
        f"simulating {fleet.replicas} replicas and {len(arrivals)} requests; energy modelled"
    )
    shown = console.status("simulating")
    with _whole_or_none(record) as recorder, shown as status:
        journal = Shown(recorder, status, scenario.duration_s)
        totals = simulate(scenario, settings.control.period_s, journal)
        written = partial(write_frontier, frontier, subject=subject_of(settings))
        recorder.leave("frontier.yaml", written)
        status.update("drawing the figure")
        version = {"steppe": importlib.metadata.version("steppe")}
        slo = Slo(settings.slo.ttft_s, settings.slo.tpot_s)
        summary = recorder.finish(replace(totals, versions=version), slo)
    if as_json:
        click.echo(summary_text(summary), nl=False)
    else:
        console.print(summary_panel(summary, record))


def _asked(config: Path, duration: float | None) -> RunConfig:
    """Return the configuration with the duration that is asked for, and its signals read."""
    settings = load_config(config)
    if duration is not None:
        settings = settings.model_copy(
            update={"sim": settings.sim.model_copy(update={"duration_s": duration})}
        )
    return settings.model_copy(update={"power": held_signals(settings.power)})


@contextmanager
def _whole_or_none(record: Path) -> Generator[Recorder]:
    """Record a run, or leave nothing: the next one would refuse a folder with half a record."""
    was_there = record.exists()
    with leaving_on_signals(), ExitStack() as undo, Recorder(record) as recorder:
        undo.callback(_delete, record, was_there)
        try:
            yield recorder
        except (KeyboardInterrupt, SystemExit):
            click.echo(f"steppe: stopped; the half record in {record} is deleted", err=True)
            raise
        undo.pop_all()


def _delete(record: Path, was_there: bool) -> None:
    for file in record.iterdir():
        file.unlink()
    if not was_there:
        record.rmdir()


class Shown:
    """A recorder that shows how far the run is."""

    def __init__(self, recorder: Recorder, status: Status, duration_s: float) -> None:
        self._recorder, self._status, self._duration_s = recorder, status, duration_s
        self._ticks = 0

    def tick(self, record: TickRecord) -> None:
        """Write one tick; show every hundredth."""
        self._recorder.tick(record)
        self._ticks += 1
        if self._ticks % 100 == 0:
            done, whole = span(record.t_s), span(self._duration_s)
            self._status.update(f"simulating: {done} of {whole}")

    def request(self, record: RequestRecord) -> None:
        """Write one request."""
        self._recorder.request(record)


def frontier_for(config: RunConfig, kind: ReplicaKind) -> Frontier:
    """Read the frontier from its file, or compute what a sweep would have measured.

    Raises:
        ConfigError: The file does not fit the engines, the model or the GPU.
    """
    if config.frontier.file is not None:
        return configured_frontier(config).unlimited_at(kind.full_clock_mhz)
    assert config.frontier.sweep is not None, "the config has exactly one of the two"
    sweep, largest = config.frontier.sweep, config.engine.max_batch_limit
    full_mhz = kind.full_clock_mhz
    lowest_mhz = max(kind.lowest_clock_mhz, round(sweep.lowest_clock_share * full_mhz))
    clocks_mhz = np.linspace(lowest_mhz, full_mhz, DENSE_CLOCKS).round().astype(int)
    dense = sorted({max(1, round(largest * 0.75**i)) for i in range(20)})
    batch_limits = sweep.batch_limits or dense
    return modelled_frontier(kind, clocks_mhz.tolist(), batch_limits, mean_request(config))


def arrivals_for(config: RunConfig, capacity_tps: float) -> tuple[SimulatedArrival, ...]:
    """Return the requests of a run; none may come in a quiet one.

    Args:
        config: The configuration.
        capacity_tps: Output tokens/s of the whole fleet at full power.

    Raises:
        TraceError: The trace cannot be read, or has no rate to scale.
    """
    load, rng = config.load, np.random.default_rng(config.load.seed)
    found = _trace(config, capacity_tps, rng)
    shares = np.array(
        [load.priorities.interactive, load.priorities.standard, load.priorities.deferrable]
    )
    ranks = rng.choice(len(shares), size=len(found), p=shares / shares.sum()).tolist()
    return tuple(
        SimulatedArrival(a.at_s, a.prompt_tokens, a.output_tokens, rank)
        for a, rank in zip(found, ranks, strict=True)
    )


def _trace(
    config: RunConfig, capacity_tps: float, rng: np.random.Generator
) -> tuple[loads.Arrival, ...]:
    load, duration_s, longest = config.load, config.sim.duration_s, length_limits(config)
    if load.trace == "synthetic":
        synthetic = SyntheticLoad(envelope=_envelope(config))
        mean_tokens = synthetic.lengths.mean_output_tokens(load.length_scale, longest)
        offered_rps = offered_rate(capacity_tps, load.utilisation, mean_tokens)
        return synthetic.generate(
            rng,
            rate_rps=load.rate_rps or offered_rps,
            duration_s=duration_s,
            length_scale=load.length_scale,
            limits=longest,
        )
    return _replayed(config, capacity_tps, longest)


def _replayed(
    config: RunConfig, capacity_tps: float, longest: LengthLimits
) -> tuple[loads.Arrival, ...]:
    """Return the requests of a trace; say on stderr what is not as it was recorded."""
    load, duration_s, path = config.load, config.sim.duration_s, Path(config.load.trace)
    recorded = read_trace(path)
    scaled = loads.scale_lengths(recorded, load.length_scale, longest)
    offered_rps = offered_rate(capacity_tps, load.utilisation, loads.mean_output_tokens(scaled))
    rate_rps = load.rate_rps or offered_rps
    at_rate = loads.at_rate(scaled, rate_rps, path)
    played = loads.until(at_rate, duration_s)
    asked = loads.scale_lengths(recorded[: len(played)], load.length_scale, loads.UNLIMITED)
    _warn_of_cut(asked, longest, path)
    ends_s, span_s = at_rate[-1].at_s, recorded[-1].at_s - recorded[0].at_s
    if span_s > 0 and ends_s < (1 - QUIET_SHARE) * duration_s:
        _warn(
            f"{path} is played at {rate_rps:.4g} requests/s, its own rate is "
            f"{(len(recorded) - 1) / span_s:.4g}: it ends {ends_s:.4g} s into a run of "
            f"{duration_s:g} s"
        )
    return played


def _warn_of_cut(asked: Sequence[loads.Arrival], longest: LengthLimits, path: Path) -> None:
    cut = sum(longest.clip(arrival) != arrival for arrival in asked)
    if cut:
        _warn(
            f"{cut} of {len(asked)} requests of {path} are cut to what the model takes, at most "
            f"{longest.prompt_tokens} prompt and {longest.output_tokens} output tokens"
        )


def _warn(problem: str) -> None:
    click.echo(f"steppe: warning: load.trace: {problem}", err=True)


def _envelope(config: RunConfig) -> DailyEnvelope:
    """Return the daily swing in run time: a day lasts 24 h over the speed-up."""
    power, load = config.power, config.load
    start = power.start or datetime(2000, 1, 1)
    begin_hour = start.hour + start.minute / 60 + start.second / 3600
    until_peak_s = (load.daily_peak_hour - begin_hour) % 24 * 3600
    return DailyEnvelope(load.daily_depth, until_peak_s / power.speedup, DAY_S / power.speedup)
