"""The fleet of a simulation and its frontier."""

from __future__ import annotations

import numpy as np

from steppe.config import EngineSection, GridSection, ModelledSection, RunConfig
from steppe.errors import ConfigError
from steppe.frontier.pareto import Frontier
from steppe.roofline.files import read_assumptions
from steppe.run.frontier_subject import configured_frontier
from steppe.run.simulated_load import longest_context, mean_request
from steppe.run.warnings import Warn
from steppe.sim.build import fleet_of, kind_of, modelled_replica
from steppe.sim.engine.kind import ReplicaKind
from steppe.sim.fleet_settings import FleetSettings
from steppe.sim.points import modelled_frontier

DENSE_CLOCKS = 20
"""Clock limits of a modelled frontier, as many as a live sweep offers."""


def simulated_fleet(config: RunConfig) -> FleetSettings:
    """Return the fleet that a simulation of the configuration runs.

    Raises:
        ConfigError: Its GPUs are real or not known, it does not say how many replicas there are,
            or the engines cannot take its sweep.
        ModelError: The energy roofline needs a model that is not known.
        TraceError: The request trace cannot be read.
    """
    check_sweep(config)
    kind = kind_of(config, modelled_replica(config, mean_request(config)))
    fleet = fleet_of(config, kind)
    sweep, held = config.frontier.sweep, kind.engine.kv_tokens
    if sweep is not None and (longest := sweep.prompt_tokens + sweep.output_tokens) > held:
        raise ConfigError(f"frontier.sweep: a request needs {longest} tokens, the KV holds {held}")
    return fleet


def check_sweep(config: RunConfig) -> None:
    """Refuse a sweep that the engines cannot take.

    Raises:
        ConfigError: A request is longer than the model's context, or a batch limit is too large.
    """
    sweep, most = config.frontier.sweep, config.engine.max_batch_limit
    if sweep is None:
        return
    longest, whole = sweep.prompt_tokens + sweep.output_tokens, longest_context(config)
    if whole is not None and longest > whole:
        raise ConfigError(
            f"frontier.sweep: asked for requests of {longest} tokens ({sweep.prompt_tokens} in, "
            f"{sweep.output_tokens} out), found a longest context of {whole} in {config.model.name}"
        )
    if (largest := max(sweep.batch_limits or (1,))) > most:
        raise ConfigError(
            f"frontier.sweep.batch_limits: asked for {largest}, "
            f"found engine.max_batch_limit: {most}"
        )


def warn_of_args(engine: EngineSection, warn: Warn) -> None:
    """Warn of arguments of a live engine that a simulation ignores."""
    if engine.args:
        keys = ", ".join(sorted(engine.args))
        warn(f"engine.args: only a live engine takes {keys}; a simulation goes without")


def warn_of_links(grid: GridSection | None, warn: Warn) -> None:
    """Warn of links to the grid that a simulation does not have."""
    links = [] if grid is None else [n for n in ("openadr", "dsx") if getattr(grid, n) is not None]
    if links:
        keys = ", ".join(f"grid.{name}" for name in links)
        warn(f"{keys}: only a live run listens; a simulation announces grid.drills")


def warn_of_assumptions(config: RunConfig, warn: Warn) -> None:
    """Warn of what is assumed about the model because its `config.json` does not state it."""
    if isinstance(config.device, ModelledSection):
        for line in read_assumptions(config.model.name):
            warn(line)


def frontier_for(config: RunConfig, kind: ReplicaKind) -> Frontier:
    """Read the frontier from its file, or compute what a sweep would have measured.

    Raises:
        ConfigError: The file does not fit the engines, the model or the GPU.
    """
    if config.frontier.is_given:
        return configured_frontier(config).unlimited_at(kind.full_clock_mhz)
    assert config.frontier.sweep is not None, "the config has exactly one of the two"
    sweep, largest = config.frontier.sweep, config.engine.max_batch_limit
    full_mhz = kind.full_clock_mhz
    lowest_mhz = max(kind.lowest_clock_mhz, round(sweep.lowest_clock_share * full_mhz))
    clocks_mhz = np.linspace(lowest_mhz, full_mhz, DENSE_CLOCKS).round().astype(int)
    dense = sorted({max(1, round(largest * 0.75**i)) for i in range(20)})
    batch_limits = sweep.batch_limits or dense
    return modelled_frontier(kind, clocks_mhz.tolist(), batch_limits, mean_request(config))
