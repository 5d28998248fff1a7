"""The nodes and replicas of a fleet: open, seat, start, let go, place anew."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import Any

import ray

from steppe.config import EmulatedSection, ModelledSection, NvmlSection, RunConfig
from steppe.engine.synthetic import SyntheticSettings
from steppe.engine.transformers_settings import TransformersSettings
from steppe.engine.vllm_engine import EngineSettings
from steppe.errors import ConfigError, ReplicaError, UsageError
from steppe.fleet.cluster import Machine, on_node, reason, share_of_cores, spread
from steppe.fleet.members import Placement
from steppe.fleet.messages import NodeInfo, NodeSettings, Reading, SetLimits
from steppe.fleet.node import Node
from steppe.fleet.replica import Replica, Settings
from steppe.fleet.weights import shape_of_served

START_S = 600.0
LEASE_S = 5.0
REST_S = 1.5
"""How long the draw of idle replicas is measured, s."""
ACTOR: dict[str, Any] = {"num_cpus": 0, "max_restarts": -1}

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RunningNode:
    """A node with its actor."""

    machine: Machine
    actor: Any
    info: NodeInfo


class Crew:
    """Owns the node actors and the replica actors."""

    def __init__(self, config: RunConfig, served_name: str, run_id: str) -> None:
        """Remember what to run."""
        self._config, self._served_name, self._run_id = config, served_name, run_id
        self.nodes: dict[str, RunningNode] = {}
        self._node_actors: list[Any] = []  # also of nodes that are just being opened
        self.placements: dict[str, Placement] = {}
        self.homeless: list[str] = []
        self._has_started = False

    @property
    def node_actors(self) -> dict[str, Any]:
        """Ray handles of the node actors, by Ray's id of the node."""
        return {node_id: node.actor for node_id, node in self.nodes.items()}

    @property
    def energy_source(self) -> str:
        """`emulated` if any GPU is, `counter` otherwise."""
        sources = {node.info.energy_source for node in self.nodes.values()}
        return "emulated" if "emulated" in sources else "counter"

    @property
    def replicas(self) -> int:
        """How many replicas the fleet has, those that lost their node included."""
        return len(self.placements) + len(self.homeless)

    def clocks_mhz(self, replica: str) -> tuple[int, ...]:
        """Return the SM clocks that a replica's GPUs can be limited to, MHz."""
        place = self.placements[replica]
        info = self.nodes[place.node_id].info
        return next(g.clocks_mhz for g in info.gpus if g.index in place.gpu_indices)

    @property
    def can_limit_clocks(self) -> bool:
        """Whether the clock of every GPU can be limited."""
        return all(gpu.clocks_mhz for node in self.nodes.values() for gpu in node.info.gpus)

    @property
    def common_clocks_mhz(self) -> tuple[int, ...]:
        """SM clocks that every GPU can be limited to, rising, MHz; some fleets have none."""
        gpus = [gpu for node in self.nodes.values() for gpu in node.info.gpus]
        return tuple(sorted(set.intersection(*(set(gpu.clocks_mhz) for gpu in gpus))))

    def settle_in(self, found: list[Machine]) -> None:
        """Open every machine and place all replicas.

        Raises:
            ReplicaError: There is no room for the replicas, or a node does not open.
        """
        for machine in found:
            self._open(machine)
        places = spread(
            self._config.fleet.replicas,
            self._config.fleet.gpus_per_replica,
            [(node.machine, len(node.info.gpus)) for node in self.nodes.values()],
        )
        for number, machine in enumerate(places, start=1):
            self._place(f"replica-{number}", machine, places.count(machine))

    def start(self) -> None:
        """Start the engines of all replicas and wait for them.

        Raises:
            ReplicaError: One cannot start.
        """
        calls = []
        for name, place in self.placements.items():
            status = place.actor.status.remote()
            seat = place.node.seat.remote(name, place.gpu_indices, place.cores, status)
            calls.append((name, place.actor.start.remote(seat)))
        for name, call in calls:
            answer(call, name)
        self._has_started = True

    def lose(self, node_id: str) -> None:
        """Let go of a node that the cluster lost, and of the replicas on it."""
        _log.warning("node %s is lost", node_id[:8])
        del self.nodes[node_id]
        names = [name for name, p in self.placements.items() if p.node_id == node_id]
        for name in names:
            del self.placements[name]
        self.homeless += names

    def place_homeless(self, alive: list[Machine]) -> list[Placement]:
        """Place replicas that lost their node where GPUs are free; they are not started yet."""
        placed: list[Placement] = []
        for machine in alive:
            try:
                placed += self._fill(machine) if self.homeless else []
            except ReplicaError as error:
                _log.warning("no replica on node %s: %s", machine.id[:8], error)
        return placed

    def stop(self) -> None:
        """End every engine, undo every limit, leave no file."""
        # An engine that is just starting would hear it only afterwards.
        running = list(self.placements.values()) if self._has_started else []
        calls = [place.actor.stop.remote() for place in running]
        if calls:
            ray.wait(calls, num_returns=len(calls), timeout=15)
        closing = [actor.close.remote() for actor in self._node_actors]
        if closing:
            ray.wait(closing, num_returns=len(closing), timeout=15)
        for place in self.placements.values():
            ray.kill(place.actor)

    # What a sweep needs, see `steppe.measure.sweep.Bench`

    def set_point(self, replica: str, clock_mhz: int | None, batch_limit: int) -> None:
        """Set the limits of a replica and wait until its node has them."""
        place = self.placements[replica]
        limits = SetLimits(replica, clock_mhz, batch_limit, "awake")
        ray.get(place.node.apply.remote([limits], 0.0), timeout=30)

    def reading(self, replica: str) -> Reading:
        """Return running totals of a replica."""
        reading: Reading = ray.get(self.placements[replica].node.reading.remote(replica))
        return reading

    def rest_w(self) -> float:
        """Measure what an idle replica draws under the limits that it has, W: the largest."""
        before = {name: self.reading(name) for name in self.placements}
        time.sleep(REST_S)
        drawn_w = [0.0]
        for name, begun in before.items():
            ended = self.reading(name)
            if ended.time_s > begun.time_s:
                joules = ended.energy_j - begun.energy_j
                drawn_w.append(joules / (ended.time_s - begun.time_s))
        return max(drawn_w)

    def park(self, replica: str, parked: bool) -> None:
        """Freeze or thaw a replica and wait until it is."""
        actor = self.placements[replica].actor
        ray.get((actor.freeze if parked else actor.thaw).remote(), timeout=60)

    def replica_url(self, replica: str) -> str:
        """Return where a replica's own HTTP app listens."""
        url: str = ray.get(self.placements[replica].actor.status.remote()).url
        return url

    def _fill(self, machine: Machine) -> list[Placement]:
        """Place as many homeless replicas on a machine as have room, and return where."""
        if machine.id not in self.nodes:
            self._open(machine)
        room = len(self.nodes[machine.id].info.gpus) // self._config.fleet.gpus_per_replica
        taken = sum(place.node_id == machine.id for place in self.placements.values())
        names = self.homeless[: max(0, room - taken)]
        for name in names:
            self._place(name, machine, room)
            self.homeless.remove(name)
        return [self.placements[name] for name in names]

    def _open(self, machine: Machine) -> None:
        remote: Any = ray.remote(Node)
        options = {"max_concurrency": 4, "scheduling_strategy": on_node(machine.id), **ACTOR}
        actor = remote.options(**options).remote(self._node_settings())
        self._node_actors.append(actor)
        info: NodeInfo = answer(actor.info.remote(), f"node {machine.address}")
        self.nodes[machine.id] = RunningNode(machine, actor, info)

    def _node_settings(self) -> NodeSettings:
        device, gpus = self._config.device, self._config.fleet.gpus_per_replica
        match device:
            case EmulatedSection():
                return NodeSettings(self._run_id, device, LEASE_S, None, gpus)
            case NvmlSection():
                model = shape_of_served(self._config)
                return NodeSettings(self._run_id, device, LEASE_S, model, gpus)
            case ModelledSection():
                raise ConfigError("device.kind: asked to serve on modelled GPUs")

    def _place(self, replica: str, machine: Machine, on_machine: int) -> None:
        """Make a replica's actor on a machine; Ray chooses its GPUs."""
        node = self.nodes[machine.id]
        remote: Any = ray.remote(Replica)
        options = {
            "num_gpus": self._config.fleet.gpus_per_replica,
            "scheduling_strategy": on_node(machine.id),
            "max_concurrency": 100,
            **ACTOR,
        }
        actor = remote.options(**options).remote(self._engine_settings(), machine.address)
        gpus: list[int] = answer(actor.gpu_indices.remote(), replica)
        here_already = [p for p in self.placements.values() if p.node_id == machine.id]
        cores = share_of_cores(node.info.cores, len(here_already), max(on_machine, 1))
        limits_clocks = all(gpu.clocks_mhz for gpu in node.info.gpus if gpu.index in gpus)
        place = Placement(replica, actor, machine.id, node.actor, gpus, cores, limits_clocks)
        self.placements[replica] = place

    def _engine_settings(self) -> Settings:
        engine, model = self._config.engine, self._config.model
        if engine.kind == "synthetic":
            return SyntheticSettings(self._served_name, engine.max_batch_limit)
        if engine.kind == "transformers":
            return TransformersSettings(
                model=model.name,
                served_name=self._served_name,
                max_model_len=model.max_model_len,
                max_batch_limit=engine.max_batch_limit,
                max_tokens_per_step=engine.max_tokens_per_step,
                kv_cache_bytes=engine.kv_cache_bytes,
            )
        return EngineSettings(
            model=model.name,
            served_name=self._served_name,
            max_model_len=model.max_model_len,
            max_batch_limit=engine.max_batch_limit,
            max_tokens_per_step=engine.max_tokens_per_step,
            kv_cache_bytes=engine.kv_cache_bytes,
            tensor_parallel=self._config.fleet.gpus_per_replica,
            args=engine.args,
        )


def answer(call: Any, who: str) -> Any:
    """Wait for an actor's answer.

    Raises:
        ReplicaError: It failed, died or did not answer in time.
    """
    try:
        return ray.get(call, timeout=START_S)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, UsageError):
            raise type(error.cause)(str(error.cause)) from error
        raise ReplicaError(f"{who}: {error.cause}") from error
    except (ray.exceptions.RayError, ray.exceptions.GetTimeoutError) as error:
        raise ReplicaError(f"{who}: {reason(error)}") from error
