"""The fleet of a simulation, and the requests that its configuration speaks of."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

from steppe.config import EngineSection, ModelledSection, RunConfig
from steppe.errors import ConfigError
from steppe.load import arrivals as loads
from steppe.load.arrivals import LengthLimits
from steppe.load.synthetic import AZURE_LENGTHS
from steppe.load.traces import read_trace
from steppe.roofline.files import read_longest_context
from steppe.sim.build import fleet_of, kind_of, modelled_replica
from steppe.sim.fleet import FleetSettings
from steppe.sim.points import Lengths

DRAWS = 20_000
"""Synthetic requests whose mean is taken."""
FAR_SHARE = 0.5
"""Lengths of a sweep that differ from the load's by more than this are told of."""


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
        ConfigError: The model is not made for its requests, or a batch limit is too large.
    """
    sweep, most = config.frontier.sweep, config.engine.max_batch_limit
    if sweep is None:
        return
    longest, whole = sweep.prompt_tokens + sweep.output_tokens, _longest_context(config)
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


def mean_request(config: RunConfig) -> Lengths:
    """Return the mean request: that of the sweep, or of the load where there is no sweep.

    Raises:
        TraceError: The request trace cannot be read.
    """
    sweep = config.frontier.sweep
    if sweep is not None:
        return Lengths(sweep.prompt_tokens, sweep.output_tokens)
    return _load_request(config)


def _load_request(config: RunConfig) -> Lengths:
    load, limits = config.load, length_limits(config)
    if load.trace == "synthetic":
        rng = np.random.default_rng(0)
        drawn = AZURE_LENGTHS.draw(rng, DRAWS, load.length_scale, limits)
    else:
        scaled = loads.scale_lengths(read_trace(Path(load.trace)), load.length_scale, limits)
        drawn = np.array([(a.prompt_tokens, a.output_tokens) for a in scaled])
    return Lengths(*drawn.mean(axis=0).tolist())


def swept_as_load(config: RunConfig) -> RunConfig:
    """Return the configuration with a sweep of the load's mean request, unless it gives lengths.

    Raises:
        TraceError: The request trace cannot be read.
    """
    sweep = config.frontier.sweep
    if sweep is None or sweep.gives_lengths:
        return config
    mean = _load_request(config)
    prompt, output = (max(1, round(tokens)) for tokens in (mean.prompt_tokens, mean.output_tokens))
    swept = sweep.model_copy(update={"prompt_tokens": prompt, "output_tokens": output})
    frontier = config.frontier.model_copy(update={"sweep": swept})
    return config.model_copy(update={"frontier": frontier})


def warn_of_lengths(config: RunConfig) -> None:
    """Say in one line on stderr when a sweep gives lengths that are far from the load's.

    Raises:
        TraceError: The request trace cannot be read.
    """
    sweep = config.frontier.sweep
    if sweep is None or not sweep.gives_lengths:
        return
    mean = _load_request(config)
    if (
        abs(sweep.prompt_tokens - mean.prompt_tokens) > FAR_SHARE * mean.prompt_tokens
        or abs(sweep.output_tokens - mean.output_tokens) > FAR_SHARE * mean.output_tokens
    ):
        click.echo(
            "steppe: warning: frontier.sweep: the points and load.utilisation are those of "
            f"requests of {sweep.prompt_tokens} prompt and {sweep.output_tokens} output tokens, "
            f"the load's have {mean.prompt_tokens:.0f} and {mean.output_tokens:.0f} on average",
            err=True,
        )


def warn_of_args(engine: EngineSection) -> None:
    """Say in one line on stderr which arguments of a live engine a simulation goes without."""
    if engine.args:
        keys = ", ".join(sorted(engine.args))
        click.echo(
            f"steppe: warning: engine.args: only a live engine takes {keys}; "
            "a simulation goes without",
            err=True,
        )


def length_limits(config: RunConfig) -> LengthLimits:
    """Return limits under which prompt and output fit the model together."""
    whole = _longest_context(config)
    if whole is None:
        return loads.UNLIMITED
    return LengthLimits(max(1, whole // 2), max(1, whole // 4))


def _longest_context(config: RunConfig) -> int | None:
    """Return how many tokens the model takes, prompt and output; None where it is not said."""
    whole = config.model.max_model_len
    if whole is None and isinstance(config.device, ModelledSection):
        return read_longest_context(config.model.name)
    return whole
