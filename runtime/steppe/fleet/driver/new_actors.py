"""Creates the actors of nodes and replicas, and decides how long an actor of a run lives."""

from __future__ import annotations

import contextlib
import logging
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import ray

from steppe.config import ModelledSection, RunConfig
from steppe.errors import ConfigError
from steppe.fleet.cluster import Machine, on_node
from steppe.fleet.driver.replica_pools import ReplicaPools
from steppe.fleet.messages import NodeSettings
from steppe.fleet.node.node import Node
from steppe.fleet.replica import ReplicaActor, settings_from_config

LEASE_S = 5.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ActorLifetime:
    """How long the actors of a run live. Ray restarts each of them whenever its process dies.

    Attributes:
        run_id: Name of the run, part of the name of each actor.
        outlives_driver: Whether they go on when their driver dies, for another one; otherwise Ray
            ends them with it.
    """

    run_id: str
    outlives_driver: bool = False

    def options(self, name: str) -> dict[str, Any]:
        """Return Ray's options of an actor with this name."""
        lifetime = {"lifetime": "detached"} if self.outlives_driver else {}
        return {"num_cpus": 0, "max_restarts": -1, "name": name, **lifetime}

    def name(self, part: str) -> str:
        """Return the name of the actor of a part of the run; there may be several of one part."""
        return f"steppe-{part}-{self.run_id}-{secrets.token_hex(4)}"

    def end_others(self, known: Iterable[Any]) -> None:
        """End the actors of the run that are not known: their driver died while it made them."""
        for name, actor in self._actors().items():
            if actor not in set(known):
                _log.warning("%s is ended: the driver before had not noted it yet", name)
                ray.kill(actor)

    def end_all(self) -> None:
        """End all actors of the run."""
        for actor in self._actors().values():
            ray.kill(actor)

    def _actors(self) -> dict[str, Any]:
        """Return the actors of the run, by name."""
        found: dict[str, Any] = {}
        for name in ray.util.list_named_actors():
            if name.startswith("steppe-") and self.run_id in name:
                with contextlib.suppress(ValueError):  # it has ended
                    found[name] = ray.get_actor(name)
        return found


@dataclass(frozen=True, slots=True)
class NewActors:
    """Creates node actors and replica actors.

    Attributes:
        config: The run.
        lifetime: How long they live.
        secret: The secret of the run, for replicas.
        pools: Which replica serves what.
    """

    config: RunConfig
    lifetime: ActorLifetime
    secret: str
    pools: ReplicaPools

    def node(self, machine: Machine, machines: int) -> Any:
        """Create the actor of one of several machines."""
        remote: Any = ray.remote(Node)
        options = {
            **self.lifetime.options(self.lifetime.name("node")),
            "max_concurrency": 4,
            "scheduling_strategy": on_node(machine.id),
        }
        return remote.options(**options).remote(self.node_settings(machine, machines))

    def node_settings(self, machine: Machine, machines: int) -> NodeSettings:
        """Return how to make the actor of one of several machines.

        Raises:
            ConfigError: The GPUs are modelled only.
        """
        config = self.config
        if isinstance(config.device, ModelledSection):
            raise ConfigError("device.kind: asked to serve on modelled GPUs")
        return NodeSettings(
            run_id=self.lifetime.run_id,
            device=config.device,
            lease_s=LEASE_S,
            models=self.pools.served(),
            deadman_s=config.control.longest_unrenewed_s,
            site=config.site,
            overhead_w=config.site.overhead_w / max(1, machines),
            address=machine.address,
        )

    def replica(self, name: str, machine: Machine) -> Any:
        """Create the actor of a replica on a machine; Ray chooses its GPUs."""
        remote: Any = ray.remote(ReplicaActor)
        config = self.pools.config_of(name)
        options = {
            **self.lifetime.options(self.lifetime.name(name)),
            "num_gpus": config.fleet.gpus_per_replica,
            "scheduling_strategy": on_node(machine.id),
            "max_concurrency": 100,
        }
        log_name = (self.lifetime.run_id, name)
        return remote.options(**options).remote(
            settings_from_config(config), machine.address, log_name, self.secret
        )
