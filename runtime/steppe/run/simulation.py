"""One simulation: from a configuration to its result."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from steppe.config import RunConfig, load_config, parse_config
from steppe.config.error_message import first_error
from steppe.config.section import Section
from steppe.errors import ConfigError
from steppe.frontier.file import FrontierSubject, write_frontier
from steppe.frontier.pareto import Frontier
from steppe.report.record_folder import FRONTIER_FILE, Recorder, frontier_file
from steppe.report.records import RequestRecord, RunTotals, Slo, TickRecord
from steppe.report.result import RunResult
from steppe.report.shortages import ShortageLog
from steppe.report.summary import Summary, summarise
from steppe.run.check_slo import check_slo, warn_of_slow_fleet
from steppe.run.check_supply import (
    Sleepers,
    refuse_useless_budget,
    warn_of_early_end,
    with_held_signals,
    with_modelled_rating,
)
from steppe.run.frontier_subject import subject_of
from steppe.run.signals import exiting_on_signals
from steppe.run.simulated_fleet import (
    frontier_for,
    simulated_fleet,
    warn_of_args,
    warn_of_assumptions,
    warn_of_links,
)
from steppe.run.simulated_load import arrivals_for, warn_of_lengths, with_lengths_of_load
from steppe.run.simulated_pools import pooled_scenario, slo_of
from steppe.run.warnings import Warn, say_on_stderr
from steppe.sim.build import scenario_of
from steppe.sim.run import RecordsInMemory, RunWriter, Scenario, run_scenario

SHOW_EVERY_TICKS = 100
Source = str | os.PathLike[str] | Mapping[str, Any] | RunConfig
"""A run configuration: the path of a YAML file, its values, or the configuration itself."""


def simulate(
    config: Source, *, duration_s: float | None = None, seed: int | None = None
) -> RunResult:
    """Simulate the fleet of a configuration; every joule of it is modelled.

    Needs neither a GPU nor Ray nor vLLM. The same configuration and seed give the same result.

    Example:
        Simulate ten minutes, look at the result, and keep it as a record folder::

            import steppe

            result = steppe.simulate("configs/windy_day.yaml", duration_s=600)
            print(result.summary["output_tokens_per_joule"])
            result.ticks.plot(x="t_s", y=["budget_w", "draw_w"])
            result.save("runs/windy")

    Args:
        config: Path of a YAML file, a mapping of its values, or a `RunConfig`. Relative paths in a
            mapping are relative to the working directory.
        duration_s: Length of the run, s; `sim.duration_s` of the configuration by default.
        seed: Seed of the requests; `load.seed` of the configuration by default.

    Raises:
        ConfigError: The configuration is not valid, or cannot be simulated.
        ModelError: The model on a modelled GPU is not known.
        TraceError: A supply or request trace cannot be read.
    """
    warnings: list[str] = []
    simulation = prepare(with_options(as_config(config), duration_s, seed), warnings.append)
    records = RecordsInMemory()
    totals = simulation.run(records)
    return RunResult(
        summary=summarise(records.ticks, records.requests, totals, simulation.slo),
        frontier=simulation.frontier,
        warnings=tuple(warnings),
        tick_records=tuple(records.ticks),
        request_records=tuple(records.requests),
        subject=simulation.subject,
    )


@dataclass(frozen=True, slots=True)
class Simulation:
    """A simulation that is ready to run, once: its scenario keeps a memory.

    Attributes:
        config: What is simulated.
        frontier: Operating points of one replica.
        scenario: Fleet, policy, budget and load.
        requests: Number of requests.
        of_models: Operating points of one replica of each model; empty where there is only one.
    """

    config: RunConfig
    frontier: Frontier
    scenario: Scenario
    requests: int
    of_models: Mapping[str, Frontier] = field(default_factory=dict)

    @property
    def subject(self) -> FrontierSubject:
        """Model and GPUs that the frontier is of."""
        return subject_of(self.config)

    @property
    def slo(self) -> Slo:
        """The times that a request must keep."""
        return slo_of(self.config)

    def run(self, writer: RunWriter) -> RunTotals:
        """Run to the end; `writer` takes ticks and requests as they come."""
        totals = run_scenario(self.scenario, self.config.control.period_s, writer)
        return replace(
            totals,
            versions={"steppe": importlib.metadata.version("steppe")},
            frontier_source="file" if self.config.frontier.is_given else "modelled",
        )

    def write_frontiers(self, add_file: Callable[[str, Callable[[Path], object]], None]) -> None:
        """Write the operating points: `frontier.yaml`, or `frontier-MODEL.yaml` of each model."""
        if not self.of_models:
            add_file(FRONTIER_FILE, partial(write_frontier, self.frontier, subject=self.subject))
        for name, alone in self.config.pools.items() if self.of_models else ():
            write = partial(write_frontier, self.of_models[name], subject=subject_of(alone))
            add_file(frontier_file(name), write)


def prepare(config: RunConfig, warn: Warn) -> Simulation:
    """Read everything that a simulation of the configuration needs.

    Args:
        config: The configuration.
        warn: Takes what the user should know about the run, a line each.

    Raises:
        ConfigError: The configuration cannot be simulated.
        ModelError: The model on a modelled GPU is not known.
        TraceError: A supply or request trace cannot be read.
    """
    warn_of_links(config.grid, warn)
    given = config.model_copy(update={"power": with_held_signals(config.power)})
    if len(config.models) > 1:
        made = pooled_scenario(given, warn)
        first = next(iter(made.frontiers.values()))
        return Simulation(made.config, first, made.scenario, made.requests, made.frontiers)
    given = next(iter(given.pools.values()))
    fleet = simulated_fleet(with_lengths_of_load(given))
    settings = with_modelled_rating(with_lengths_of_load(given), fleet.replicas)
    frontier = frontier_for(settings, fleet.kind)
    check_slo(settings, frontier, warn)
    warn_of_args(given.engine, warn)
    warn_of_assumptions(given, warn)
    warn_of_lengths(given, warn)
    arrivals = arrivals_for(settings, frontier.full.output_tps * fleet.replicas, warn)
    offered_tps = sum(arrival.output_tokens for arrival in arrivals) / settings.sim.duration_s
    warn_of_slow_fleet(settings, frontier, fleet.replicas, offered_tps, warn)
    scenario = scenario_of(settings, fleet, frontier, arrivals)
    warn_of_early_end(settings.power, scenario.budget, settings.sim.duration_s, warn)
    sleepers = Sleepers(settings, frontier, fleet.replicas)
    refuse_useless_budget(settings, scenario.budget, [sleepers], warn)
    return Simulation(settings, frontier, scenario, len(arrivals))


def as_config(source: Source) -> RunConfig:
    """Return a run configuration from its file, its values or itself.

    Raises:
        ConfigError: The file cannot be read, or the values are no valid configuration.
    """
    match source:
        case RunConfig():
            return source
        case Mapping():
            return parse_config(source, "config", Path())
        case _:
            return load_config(Path(source))


def with_options(
    config: RunConfig, duration_s: float | None = None, seed: int | None = None
) -> RunConfig:
    """Return a configuration with another duration, s, or seed, where one is given.

    Raises:
        ConfigError: One of them is out of range.
    """
    sim, load = config.sim, config.load
    if duration_s is not None:
        sim = _with(sim, "sim", {"duration_s": float(duration_s)})
    if seed is not None:
        load = _with(load, "load", {"seed": seed})
    return config.model_copy(update={"sim": sim, "load": load})


S = TypeVar("S", bound=Section)


def _with(section: S, name: str, changes: dict[str, object]) -> S:
    try:
        return type(section).model_validate(section.model_dump() | changes)
    except ValidationError as error:
        raise ConfigError(f"{name}.{first_error(error, type(section))}") from error


def record_simulation(
    simulation: Simulation, folder: Path, show: Callable[[float], None]
) -> Summary:
    """Run a simulation and write its record folder; leave none if the run breaks off.

    Args:
        simulation: The simulation.
        folder: A new or empty folder.
        show: Takes the time in the run, s, now and then.

    Raises:
        UsageError: The folder holds something, or cannot be written.
    """
    with _whole_or_none(folder) as recorder:
        totals = simulation.run(_ShowingRecorder(recorder, show))
        simulation.write_frontiers(recorder.add_file)
        return recorder.finish(totals, simulation.slo)


@contextmanager
def _whole_or_none(folder: Path) -> Generator[Recorder]:
    """Delete a partial record, because the next run would refuse the folder."""
    existed = folder.exists()
    with exiting_on_signals(), ExitStack() as undo, Recorder(folder) as recorder:
        undo.callback(_delete, folder, existed)
        try:
            yield recorder
        except (KeyboardInterrupt, SystemExit):
            say_on_stderr(f"stopped; the half record in {folder} is deleted")
            raise
        undo.pop_all()


def _delete(folder: Path, existed: bool) -> None:
    for file in folder.iterdir():
        file.unlink()
    if not existed:
        folder.rmdir()


class _ShowingRecorder:
    """Records a run, logs its shortages and shows how far it is."""

    def __init__(self, recorder: Recorder, show: Callable[[float], None]) -> None:
        self._recorder, self._show = recorder, show
        self._shortages, self._ticks = ShortageLog(), 0

    def tick(self, record: TickRecord) -> None:
        self._recorder.tick(record)
        self._shortages.note(record.shortages, record.t_s)
        self._ticks += 1
        if self._ticks % SHOW_EVERY_TICKS == 0:
            self._show(record.t_s)

    def request(self, record: RequestRecord) -> None:
        self._recorder.request(record)
