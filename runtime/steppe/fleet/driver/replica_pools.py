"""Which replica serves which model, on which kind of GPU: its pool."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from steppe.config import EmulatedSection, RunConfig
from steppe.errors import ConfigError, ReplicaError
from steppe.fleet.cluster import Machine
from steppe.fleet.driver.room import replicas_wanted
from steppe.fleet.messages import GpuInfo, ServedModel
from steppe.fleet.node.token_weights import shape_of_served


class ReplicaPools:
    """Names the replicas and the pools.

    A pool is the replicas of one model on one kind of GPU: they have the same operating points. A
    fleet of one model on one kind of GPU is one pool without a name.

    Attributes:
        configs: The configuration of each model alone, by the name that clients use.
        models: The model of each replica, by its name.
        kinds: The kinds of GPU of the fleet; None before they are known.
    """

    def __init__(self, config: RunConfig) -> None:
        """Begin without replicas and without GPUs."""
        self.configs: Mapping[str, RunConfig] = config.pools
        self._aliases = tuple(config.aliases)
        self.models: dict[str, str] = {}
        self.kinds: tuple[str, ...] | None = None

    def name_replicas(self, machines: Sequence[Machine], free: Mapping[str, int]) -> list[str]:
        """Name the replicas of all models, each model's in turn.

        Args:
            machines: The machines that are open.
            free: Their free GPUs, by Ray's id.

        Raises:
            ConfigError: The GPUs do not hold them.
        """
        counts = self._counts(machines, free)
        number = 0
        for model, count in counts.items():
            for _ in range(count):
                number += 1
                self.models[f"replica-{number}"] = model
        return list(self.models)

    def served(self) -> dict[str, ServedModel]:
        """Return what nodes need to know of each model."""
        return {model: _served(config) for model, config in self.configs.items()}

    def model_of(self, replica: str) -> str:
        """Return the name under which clients request the model of a replica."""
        return self.models.get(replica, next(iter(self.configs)))

    def config_of(self, replica: str) -> RunConfig:
        """Return the configuration of the model of a replica alone."""
        return self.configs[self.model_of(replica)]

    def move(self, replica: str, model: str) -> None:
        """Note that a replica serves another model from now on."""
        self.models[replica] = model

    def find_kinds(self, gpus: Iterable[GpuInfo]) -> None:
        """Note the kinds of GPU of the fleet; later replicas must run on one of them.

        Raises:
            ConfigError: There are several, and the run has aliases.
        """
        self.kinds = tuple(sorted({gpu.name for gpu in gpus}))
        if self._aliases and len(self.kinds) > 1:
            raise ConfigError(
                f"aliases: asked to serve {', '.join(self._aliases)} on one kind of GPU, found "
                f"{', '.join(self.kinds)}: give fleet.gpu_model"
            )

    def pool_of(self, replica: str, gpus: Iterable[GpuInfo]) -> str:
        """Return the name of the pool of a replica, empty where there is only one.

        Raises:
            ReplicaError: It runs on a kind of GPU that has no operating points in this run.
        """
        kinds = sorted({gpu.name for gpu in gpus})
        if self.kinds is None:
            return ""
        if unknown := set(kinds) - set(self.kinds):
            raise ReplicaError(
                f"{replica}: found {', '.join(unknown)}, and the run has operating points for "
                f"{', '.join(self.kinds)}"
            )
        return self.name_of(self.model_of(replica), " + ".join(kinds))

    def name_of(self, model: str, gpu: str) -> str:
        """Return the name of a pool, empty where there is only one."""
        if self.kinds is not None and len(self.kinds) > 1:
            return f"{model} on {gpu}"
        return model if len(self.configs) > 1 else ""

    def _counts(self, machines: Sequence[Machine], free: Mapping[str, int]) -> dict[str, int]:
        """Return the number of replicas of each model."""
        if len(self.configs) == 1:
            model, config = next(iter(self.configs.items()))
            return {model: replicas_wanted(config.fleet, machines, free)}
        sizes = {model: config.fleet for model, config in self.configs.items()}
        counts = {m: f.replicas for m, f in sizes.items() if isinstance(f.replicas, int)}
        assert len(counts) == len(sizes), "each of several models has a number of replicas"
        asked = sum(count * sizes[model].gpus_per_replica for model, count in counts.items())
        total = sum({**free, **{machine.id: machine.gpus for machine in machines}}.values())
        if asked > total or not sum(free.values()):
            raise ConfigError(
                f"models: asked for {asked} GPUs in all, found {total}, {sum(free.values())} free"
            )
        return counts


def _served(config: RunConfig) -> ServedModel:
    each = config.fleet.gpus_per_replica
    if isinstance(config.device, EmulatedSection):
        return ServedModel(None, each, config.device.pace)
    return ServedModel(shape_of_served(config), each)
