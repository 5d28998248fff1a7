"""The nodes and replicas of a fleet: open, seat, start, let go, place anew."""

from __future__ import annotations

import logging
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

import ray

from steppe.config import EmulatedSection, ModelledSection, NvmlSection, RunConfig
from steppe.energy.window import worst
from steppe.errors import ConfigError, ReplicaError, UsageError
from steppe.fleet.cluster import Machine, answer, on_node, share_of_cores, spread
from steppe.fleet.messages import (
    NodeInfo,
    NodeSettings,
    Placement,
    ReplicaStatus,
    ReplicaTotals,
    SetLimits,
)
from steppe.fleet.node.node import Node
from steppe.fleet.node.token_weights import shape_of_served
from steppe.fleet.replica import ReplicaActor, settings_from_config

START_S = 600.0
PLACE_S = 120.0
"""Longest wait for an actor of a replica that lost its node, s: another job may hold the GPUs."""
LEASE_S = 5.0
CALL_S = 60.0
"""Longest wait for a replica or its node in a sweep, s."""
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


@dataclass(frozen=True, slots=True)
class _PendingNode:
    """A node actor that has not told yet what it found."""

    machine: Machine
    actor: Any
    call: Any
    asked_s: float


@dataclass(frozen=True, slots=True)
class _PendingReplica:
    """A replica's actor that has not told yet which GPUs it has, one of several on its machine."""

    name: str
    on_machine: int
    machine: Machine
    actor: Any
    call: Any
    asked_s: float


class FleetActors:
    """Owns the node actors and the replica actors."""

    def __init__(self, config: RunConfig, served_name: str, run_id: str) -> None:
        """Remember what to run."""
        self._config, self._served_name, self._run_id = config, served_name, run_id
        self.nodes: dict[str, RunningNode] = {}
        self._node_actors: list[Any] = []  # also of nodes that are just being opened
        self.placements: dict[str, Placement] = {}
        self.unplaced: list[str] = []
        self._pending: list[_PendingNode | _PendingReplica] = []
        self._failures: Counter[str] = Counter()
        self._has_started = False

    @property
    def node_actors(self) -> dict[str, Any]:
        """Ray handles of the node actors, by Ray's id of the node."""
        return {node_id: node.actor for node_id, node in self.nodes.items()}

    @property
    def energy_source(self) -> str:
        """How well the meters of all GPUs find joules while all goes well."""
        return worst(node.info.energy_source for node in self.nodes.values())

    @property
    def replicas(self) -> int:
        """How many replicas the fleet has, those that lost their node included."""
        coming = sum(isinstance(new, _PendingReplica) for new in self._pending)
        return len(self.placements) + len(self.unplaced) + coming

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

    def open_nodes(self, found: list[Machine]) -> None:
        """Open every machine and place all replicas.

        Raises:
            ReplicaError: There is no room for the replicas, or a node does not open.
        """
        for machine in found:
            self._take_node(self._ask_node(machine), START_S)
        places = spread(
            self._config.fleet.replicas,
            self._config.fleet.gpus_per_replica,
            [(node.machine, len(node.info.gpus)) for node in self.nodes.values()],
        )
        for number, machine in enumerate(places, start=1):
            asked = self._ask_replica(f"replica-{number}", machine, places.count(machine))
            self._take_replica(asked, START_S)

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
            answer(call, name, START_S)
        self._has_started = True

    def lose(self, node_id: str) -> None:
        """Let go of a node that the cluster lost, and of the replicas on it."""
        _log.warning("node %s is lost", node_id[:8])
        del self.nodes[node_id]
        names = [name for name, p in self.placements.items() if p.node_id == node_id]
        for name in names:
            del self.placements[name]
        self.unplaced += names

    def place_unplaced(self, alive: list[Machine]) -> list[Placement]:
        """Ask for room for replicas that lost their node, and return those that found it.

        They are not started yet. Nothing waits: what has not answered is looked at next time.
        """
        for machine in sorted(alive, key=lambda machine: self._failures[machine.id]):
            self._fill(machine)
        placed: list[Placement] = []
        for new in tuple(self._pending):
            done, _ = ray.wait([new.call], timeout=0)
            if done or time.monotonic() - new.asked_s > PLACE_S:
                self._pending.remove(new)
                placed += self._settle(new)
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
        coming = [new.actor for new in self._pending if isinstance(new, _PendingReplica)]
        for actor in [*(place.actor for place in self.placements.values()), *coming]:
            ray.kill(actor)

    # What a sweep needs, see `steppe.run.fleet_subject.FleetSubject`

    def set_point(self, replica: str, clock_mhz: int | None, batch_limit: int) -> None:
        """Set the limits of a replica and wait until its node has them."""
        place = self._placement(replica)
        limits = SetLimits(replica, clock_mhz, batch_limit, "awake")
        answer(place.node.apply.remote([limits], time.monotonic()), replica, CALL_S)

    def reading(self, replica: str) -> ReplicaTotals:
        """Return running totals of a replica."""
        call = self._placement(replica).node.reading.remote(replica)
        reading: ReplicaTotals = answer(call, replica, CALL_S)
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
        actor = self._placement(replica).actor
        answer((actor.freeze if parked else actor.thaw).remote(), replica, CALL_S)

    def replica_url(self, replica: str) -> str:
        """Return where a replica's own HTTP app listens."""
        status: ReplicaStatus = answer(
            self._placement(replica).actor.status.remote(), replica, CALL_S
        )
        return status.url

    def _placement(self, replica: str) -> Placement:
        if replica not in self.placements:
            raise ReplicaError(f"{replica}: its node is lost")
        return self.placements[replica]

    def _fill(self, machine: Machine) -> None:
        """Ask for as many unplaced replicas on a machine as have room; for its node before."""
        coming = sum(new.machine.id == machine.id for new in self._pending)
        if machine.id in self.nodes:
            room = len(self.nodes[machine.id].info.gpus) // self._config.fleet.gpus_per_replica
            taken = sum(place.node_id == machine.id for place in self.placements.values())
            for name in self.unplaced[: max(0, room - taken - coming)]:
                self.unplaced.remove(name)
                self._pending.append(self._ask_replica(name, machine, room))
        elif self.unplaced and not coming:
            self._pending.append(self._ask_node(machine))

    def _settle(self, new: _PendingNode | _PendingReplica) -> list[Placement]:
        """Take what an actor answered; end one that cannot, for it to be asked for elsewhere."""
        try:
            match new:
                case _PendingNode():
                    self._take_node(new, 0.0)
                    return []
                case _PendingReplica():
                    return [self._take_replica(new, 0.0)]
        except (ReplicaError, UsageError) as error:
            _log.warning("no replica on node %s: %s", new.machine.id[:8], error)
        self._failures[new.machine.id] += 1
        ray.kill(new.actor)
        if isinstance(new, _PendingReplica):
            self.unplaced.append(new.name)
        return []

    def _ask_node(self, machine: Machine) -> _PendingNode:
        remote: Any = ray.remote(Node)
        options = {"max_concurrency": 4, "scheduling_strategy": on_node(machine.id), **ACTOR}
        actor = remote.options(**options).remote(self._node_settings())
        self._node_actors.append(actor)
        return _PendingNode(machine, actor, actor.info.remote(), time.monotonic())

    def _take_node(self, new: _PendingNode, within_s: float) -> None:
        info: NodeInfo = answer(new.call, f"node {new.machine.address}", within_s)
        self.nodes[new.machine.id] = RunningNode(new.machine, new.actor, info)

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

    def _ask_replica(self, name: str, machine: Machine, on_machine: int) -> _PendingReplica:
        """Make a replica's actor on a machine; Ray chooses its GPUs."""
        remote: Any = ray.remote(ReplicaActor)
        options = {
            "num_gpus": self._config.fleet.gpus_per_replica,
            "scheduling_strategy": on_node(machine.id),
            "max_concurrency": 100,
            **ACTOR,
        }
        settings = settings_from_config(self._config, self._served_name)
        actor = remote.options(**options).remote(settings, machine.address)
        call = actor.gpu_indices.remote()
        return _PendingReplica(name, on_machine, machine, actor, call, time.monotonic())

    def _take_replica(self, new: _PendingReplica, within_s: float) -> Placement:
        gpus: list[int] = answer(new.call, new.name, within_s)
        if new.machine.id not in self.nodes:
            raise ReplicaError(f"{new.name}: its node is lost")
        node = self.nodes[new.machine.id]
        here_already = [p for p in self.placements.values() if p.node_id == node.machine.id]
        cores = share_of_cores(node.info.cores, len(here_already), max(new.on_machine, 1))
        limits_clocks = all(gpu.clocks_mhz for gpu in node.info.gpus if gpu.index in gpus)
        place = Placement(
            new.name, new.actor, node.machine.id, node.actor, gpus, cores, limits_clocks
        )
        self.placements[new.name] = place
        return place
