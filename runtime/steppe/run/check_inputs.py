"""What can be known of a run before anything of it is started."""

from __future__ import annotations

import math
import time
from pathlib import Path

import click

from steppe.config import (
    ConstantSupply,
    EmulatedSection,
    ModelledSection,
    PowerSection,
    RunConfig,
    SignalSupply,
)
from steppe.engine.vllm_engine import is_cpu_build
from steppe.errors import ConfigError
from steppe.gateway.server import refuse_port_in_use
from steppe.load.traces import read_trace
from steppe.power.budget import PowerBudget, budget_from_config
from steppe.power.signal import Fresh, HeldSignal, Missing, SignalFile, Stale
from steppe.run.frontier_subject import configured_frontier
from steppe.run.simulated_fleet import check_sweep, simulated_fleet, swept_as_load

REWRITTEN_S = 0.1
"""A signal whose writer is at it can be read so long after, s."""


def check_inputs(config: RunConfig) -> None:
    """Look at what a live run needs.

    Raises:
        ConfigError: The frontier file cannot be read, or the GPUs are only modelled or too few.
        TraceError: A supply or request trace cannot be read.
        InstallError: There is no usable vLLM.
        UsageError: The gateway's port is in use.
    """
    if config.engine.kind == "vllm":
        is_cpu_build()
    if isinstance(config.device, ModelledSection):
        raise ConfigError("device.kind: asked to serve on modelled GPUs: only `simulate` has them")
    if isinstance(config.device, EmulatedSection) and config.ray.address == "local":
        _refuse_too_few(config, config.device.count)
    check_config(config)
    refuse_port_in_use(config.gateway.host, config.gateway.port)


def check_config(config: RunConfig) -> PowerBudget:
    """Read every file that a run of the configuration will need; return its budget.

    Raises:
        ConfigError: The frontier file cannot be read or is of another model or GPU, the engines
            cannot take its sweep, or the fleet of modelled GPUs cannot be simulated.
        ModelError: A model on a modelled GPU is not known.
        TraceError: A supply or request trace cannot be read.
    """
    budget = budget_from_config(config.power, config.site)
    if config.frontier.file is not None:
        configured_frontier(config)
    if config.load.trace != "synthetic":
        read_trace(Path(config.load.trace))
    if isinstance(config.device, ModelledSection):
        simulated_fleet(swept_as_load(config))
    else:
        check_sweep(config)
    return budget


def warn_of_early_end(power: PowerSection, budget: PowerBudget, duration_s: float) -> None:
    """Say in one line on stderr when a supply trace leaves part of a run without one.

    Args:
        power: Where the budget comes from.
        budget: The budget.
        duration_s: Length of the run, s; infinite where it has no end.
    """
    if budget.ends_s + power.stale_s < duration_s:
        whole = f"a run of {duration_s:g} s" if duration_s < math.inf else "a run without an end"
        click.echo(
            f"steppe: warning: power.supply: a trace ends {budget.ends_s:g} s into {whole}; "
            f"{power.stale_s:g} s later the budget is that of power.fallback_w, "
            f"{power.fallback_w:g} W",
            err=True,
        )


def held_signals(power: PowerSection) -> PowerSection:
    """Read the live signals that a simulation is to follow, now; return them as constants.

    A live run may begin without them, on `fallback_w`, and reads them again and again. A
    simulation would be over before its signal came, and how often it is rewritten in a second
    of the run would depend on how fast this computer is.

    Raises:
        ConfigError: A signal cannot be read, or is stale.
    """
    supply = tuple(
        _constant_of(part, place, power.stale_s) if isinstance(part, SignalSupply) else part
        for place, part in enumerate(power.supply)
    )
    return power.model_copy(update={"supply": supply})


def _constant_of(supply: SignalSupply, place: int, stale_s: float) -> ConstantSupply:
    signal = HeldSignal(SignalFile(supply.path, stale_s, time.time))
    reading = signal.read()
    if isinstance(reading, Missing):
        time.sleep(REWRITTEN_S)
        reading = signal.read()
    head = f"power.supply.{place}.path: a simulation needs a signal from its start"
    match reading:
        case Fresh(watts):
            return ConstantSupply(kind="constant", watts=watts)
        case Missing(reason):
            raise ConfigError(f"{head}: {reason}")
        case Stale(age_s):
            limit = f"power.stale_s is {stale_s:g} s"
            raise ConfigError(f"{head}: {supply.path} is {age_s:.0f} s old, {limit}")


def _refuse_too_few(config: RunConfig, gpus: int) -> None:
    """Refuse more replicas than some GPUs have room for."""
    wanted, each = config.fleet.replicas, config.fleet.gpus_per_replica
    room = gpus // each
    if not room or (wanted != "all" and wanted > room):
        raise ConfigError(
            f"fleet.replicas: asked for {wanted} with {each} GPU each, found room for {room}"
        )
