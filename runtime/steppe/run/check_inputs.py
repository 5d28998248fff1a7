"""What can be known of a run before anything of it is started."""

from __future__ import annotations

from pathlib import Path

from steppe.config import (
    EmulatedSection,
    ModelledSection,
    RunConfig,
)
from steppe.engine.vllm_engine import is_cpu_build
from steppe.errors import ConfigError
from steppe.gateway.server import refuse_port_in_use
from steppe.load.traces import read_trace
from steppe.power.budget import PowerBudget, budget_from_config
from steppe.run.frontier_subject import configured_frontier
from steppe.run.simulated_fleet import check_sweep, simulated_fleet
from steppe.run.simulated_load import with_lengths_of_load


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
        simulated_fleet(with_lengths_of_load(config))
    else:
        check_sweep(config)
    return budget


def _refuse_too_few(config: RunConfig, gpus: int) -> None:
    """Refuse more replicas than some GPUs have room for."""
    wanted, each = config.fleet.replicas, config.fleet.gpus_per_replica
    room = gpus // each
    if not room or (wanted != "all" and wanted > room):
        raise ConfigError(
            f"fleet.replicas: asked for {wanted} with {each} GPU each, found room for {room}"
        )
