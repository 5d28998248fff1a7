"""Check a run configuration before anything starts, for `serve` and `config validate`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path

from steppe.config import EmulatedSection, LedgerSection, ModelledSection, RunConfig
from steppe.control.policy.policy import load_policy
from steppe.engine.vllm_engine import is_cpu_build
from steppe.errors import ConfigError, ModelError
from steppe.gateway.server import refuse_port_in_use
from steppe.gateway.tls import tls_context
from steppe.load.traces import read_trace
from steppe.models.store import refuse_unknown_model
from steppe.power.budget import PowerBudget, budget_from_config
from steppe.run.frontier_subject import configured_frontier
from steppe.run.grid_place import check_grid
from steppe.run.simulated_fleet import check_sweep, simulated_fleet
from steppe.run.simulated_load import with_lengths_of_load
from steppe.sites.check import check_sites


def check_inputs(config: RunConfig) -> None:
    """Check what a live run needs: the configuration, and this machine.

    Raises:
        ConfigError: See `check_config`; or the GPUs are only modelled.
        ModelError: The model is not known.
        TraceError: A supply or request trace cannot be read.
        InstallError: There is no usable vLLM.
        UsageError: The gateway's port, or that for other sites, is in use, or the gateway's
            certificate cannot be used.
    """
    if config.engine.kind == "vllm":
        is_cpu_build()
    if isinstance(config.device, ModelledSection):
        raise ConfigError("device.kind: asked to serve on modelled GPUs: only `simulate` has them")
    check_config(config)
    for alone in config.pools.values():
        _check_sleep(alone)
    tls_context(config.gateway.tls_certificate, config.gateway.tls_key)
    refuse_port_in_use(config.gateway.host, config.gateway.port)
    if config.sites is not None:
        refuse_port_in_use(config.sites.host, config.sites.port)


def check_config(config: RunConfig) -> PowerBudget:
    """Check a configuration and every file that it names, and return its budget.

    Raises:
        ConfigError: There are more replicas than the GPUs hold, the frontier file cannot be read
            or is of another model or GPU, the engines cannot take its sweep, the fleet of modelled
            GPUs cannot be simulated, the class of `control.policy` cannot be loaded, or the
            certificate or a key of `sites` cannot be used.
        ModelError: The model is not known.
        TraceError: A supply or request trace cannot be read.
        UsageError: A tariff of the ledger cannot be used.
    """
    _check_gpu_count(config)
    budget = budget_from_config(config.power, config.site)
    if ":" in config.control.policy:
        load_policy(config.control.policy)
    for alone in config.pools.values():
        _check_frontier(alone)
    if config.ledger is not None:
        _check_ledger(config.ledger)
    if config.grid is not None:
        check_grid(config.grid)
    if config.sites is not None:
        check_sites(config.sites, time.time())
    if config.load.trace != "synthetic":
        read_trace(Path(config.load.trace))
    if isinstance(config.device, ModelledSection):
        for alone in config.pools.values():
            simulated_fleet(with_lengths_of_load(alone))
        return budget
    for alone in config.pools.values():
        check_sweep(alone)
        if alone.engine.kind != "synthetic":
            _check_model(alone.model.name)
    return budget


def _check_frontier(config: RunConfig) -> None:
    for file in config.frontier.files:
        _check_frontier_file(file)  # which of them is used depends on the GPUs that are found
    if config.frontier.file is not None:
        _check_frontier_file(config.frontier.file)
        configured_frontier(config)


def _check_ledger(ledger: LedgerSection) -> None:
    from steppe.ledger.service.opening import read_tariffs  # most runs have none

    read_tariffs(ledger.tariffs)
    token = None if ledger.sink is None else ledger.sink.token_file
    for name, path in (("key", ledger.key), ("sink.token_file", token)):
        if path is not None and not path.is_file():
            raise ConfigError(f"ledger.{name}: asked for a file, found none: {path}")


def _check_gpu_count(config: RunConfig) -> None:
    """Refuse more replicas than the emulated GPUs of this machine hold.

    The number of real GPUs, and of machines of a cluster, is known only when they are there.

    Raises:
        ConfigError: There is no room for the replicas.
    """
    if not isinstance(config.device, EmulatedSection) or config.ray.address != "local":
        return
    if len(config.pools) > 1:
        _check_gpus_of_models(config.pools, len(config.device.gpu_types))
        return
    replicas, each = config.fleet.replicas, config.fleet.gpus_per_replica
    room = len(config.device.gpu_types) // each
    if not room or (replicas != "all" and replicas > room):
        raise ConfigError(
            f"fleet.replicas: asked for {replicas} with {each} GPU each, found room for {room} on "
            f"{len(config.device.gpu_types)} emulated GPUs (device.count)"
        )


def _check_gpus_of_models(pools: Mapping[str, RunConfig], gpus: int) -> None:
    sizes = [alone.fleet for alone in pools.values()]
    asked = sum(int(fleet.replicas) * fleet.gpus_per_replica for fleet in sizes)
    if asked > gpus:
        raise ConfigError(
            f"models: asked for {asked} GPUs in all, found {gpus} emulated GPUs (device.count)"
        )


def _check_sleep(config: RunConfig) -> None:
    """Refuse depths of sleep that a live run cannot carry out.

    Raises:
        ConfigError: The engine keeps its weights on the GPU, or no command switches nodes.
    """
    kinds, fleet = {sleep.kind for sleep in config.fleet.sleep}, config.fleet
    if "offloaded" in kinds and config.engine.kind == "transformers":
        raise ConfigError("fleet.sleep: offloaded needs vllm, found engine.kind transformers")
    if "node_off" in kinds and not (fleet.node_off_command and fleet.node_on_command):
        missing = "node_on_command" if fleet.node_off_command else "node_off_command"
        raise ConfigError(f"fleet.sleep: node_off needs fleet.{missing}, found none")


def _check_model(name: str) -> None:
    try:
        refuse_unknown_model(name)
    except ModelError as error:
        raise ModelError(f"model.name: {error}") from error


def _check_frontier_file(path: Path) -> None:
    """Refuse a frontier file that does not exist, and name one beside it that may be meant."""
    if path.exists():
        return
    beside = [file.name for file in sorted(path.parent.glob("*.yaml"))]
    near = "".join(f"; did you mean {name}?" for name in get_close_matches(path.name, beside, 1))
    raise ConfigError(
        f"frontier.file: {path}: No such file (a relative path is relative to the folder of the "
        f"configuration){near}"
    )
