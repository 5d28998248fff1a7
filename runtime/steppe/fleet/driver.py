"""Brings a fleet up, hands it to the controller, and takes it down again.

The driver owns every actor: when its process dies, Ray ends them all, and the agents on the
nodes undo every limit. It also watches the cluster: a node that is lost takes its replicas
with it, and they are placed anew where there is room.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ray

from steppe.config import EmulatedSection, RunConfig
from steppe.engine.synthetic import SyntheticSettings
from steppe.engine.vllm_engine import EngineSettings, is_cpu_build
from steppe.errors import ReplicaError, UsageError
from steppe.fleet.cluster import (
    LOCAL,
    Machine,
    connect,
    here,
    machines,
    on_node,
    share_of_cores,
    spread,
)
from steppe.fleet.controller import Books, Controller, Taken
from steppe.fleet.door import Door
from steppe.fleet.members import Placement
from steppe.fleet.messages import NodeInfo, NodeSettings, Reading, SetLimits
from steppe.fleet.node import Node, weights_of
from steppe.fleet.replica import Replica
from steppe.frontier.pareto import Frontier
from steppe.gateway.server import GatewaySettings

START_S = 600.0
LEASE_S = 5.0
_ACTOR = {"num_cpus": 0, "max_restarts": -1}

_log = logging.getLogger(__name__)

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class RunningNode:
    """A node with its actor."""

    machine: Machine
    actor: Any
    info: NodeInfo


class FleetDriver:
    """One fleet, from start to stop."""

    def __init__(self, config: RunConfig, served_name: str, say: Say) -> None:
        """Remember what to run.

        Args:
            config: The run.
            served_name: The name that clients ask for.
            say: Takes a line about what is being done.
        """
        self._config, self._served_name, self._say = config, served_name, say
        self._run_id = f"{os.getpid()}"
        self._local = config.ray.address == LOCAL
        self._nodes: dict[str, RunningNode] = {}
        self._placements: dict[str, Placement] = {}
        self._lost: list[str] = []
        self._door: Any = None
        self._controller: Any = None
        self._frontier: Frontier | None = None
        self._began_epoch_s = 0.0
        self.url = ""

    @property
    def energy_source(self) -> str:
        """`emulated` if any GPU is, `counter` otherwise."""
        sources = {node.info.energy_source for node in self._nodes.values()}
        return "emulated" if "emulated" in sources else "counter"

    @property
    def placements(self) -> dict[str, Placement]:
        """The replicas and where they run, by name."""
        return self._placements

    def clocks_mhz(self, replica: str) -> tuple[int, ...]:
        """Return the SM clocks that a replica's GPUs can be limited to, MHz."""
        place = self._placements[replica]
        info = self._nodes[place.node_id].info
        return next(g.clocks_mhz for g in info.gpus if g.index in place.gpu_indices)

    def start(self) -> None:
        """Connect to the cluster, open the door, seat and start all replicas.

        Raises:
            UsageError: The port is in use, or there is no such cluster.
            ReplicaError: There is no room for the replicas, or one cannot start.
        """
        if self._config.engine.kind == "vllm":
            is_cpu_build()
        self._say("starting Ray")
        connect(self._config.ray.address)
        self._open_door()
        found = machines(self._local)
        self._say(f"opening GPUs on {len(found)} node" + ("s" if len(found) > 1 else ""))
        for machine in found:
            self._add_node(machine)
        places = spread(
            self._config.fleet.replicas,
            self._config.fleet.gpus_per_replica,
            [(node.machine, len(node.info.gpus)) for node in self._nodes.values()],
        )
        for number, machine in enumerate(places, start=1):
            self._place(f"replica-{number}", machine, places.count(machine))
        self._start_replicas(list(self._placements))

    def begin(self, frontier: Frontier) -> None:
        """Hand the fleet to the controller; the run begins now."""
        self._frontier = frontier
        self._began_epoch_s = time.time()
        remote: Any = ray.remote(Controller)
        options = {"max_concurrency": 4, "scheduling_strategy": on_node(here()), **_ACTOR}
        self._controller = remote.options(**options).remote(self._config, self._door)
        self._brief_controller()

    def take(self) -> Taken:
        """Return what the controller recorded since the last call."""
        try:
            taken: Taken = ray.get(self._controller.take.remote(), timeout=30)
        except (ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError) as error:
            _log.warning("the controller does not answer: %s", str(error).splitlines()[0])
            return Taken(True, [], [])
        if not taken.begun:
            self._brief_controller()
        self._watch_cluster()
        return taken

    def end(self) -> Books:
        """Stop the controller and return the books of the run."""
        books: Books = ray.get(self._controller.end.remote(), timeout=60)
        return books

    def stop(self) -> None:
        """Take everything down: door, replicas, limits, files, and the cluster if it is ours."""
        if not ray.is_initialized():
            return
        calls = [self._door.close.remote()] if self._door is not None else []
        calls += [place.actor.stop.remote() for place in self._placements.values()]
        ray.wait(calls, num_returns=len(calls), timeout=15) if calls else None
        for node in self._nodes.values():
            with contextlib.suppress(ray.exceptions.RayError):
                ray.get(node.actor.close.remote(), timeout=15)
        for place in self._placements.values():
            ray.kill(place.actor)
        ray.shutdown()

    # What a sweep needs

    def set_point(self, replica: str, clock_mhz: int | None, batch_limit: int) -> None:
        """Set the limits of a replica and wait until its node has them."""
        place = self._placements[replica]
        limits = SetLimits(replica, clock_mhz, batch_limit, "awake")
        ray.get(place.node.apply.remote([limits]), timeout=30)

    def reading(self, replica: str) -> Reading:
        """Return running totals of a replica."""
        reading: Reading = ray.get(self._placements[replica].node.reading.remote(replica))
        return reading

    def park(self, replica: str, parked: bool) -> None:
        """Freeze or thaw a replica and wait until it is."""
        actor = self._placements[replica].actor
        ray.get((actor.freeze if parked else actor.thaw).remote(), timeout=60)

    def replica_url(self, replica: str) -> str:
        """Return where a replica's own HTTP app listens."""
        url: str = ray.get(self._placements[replica].actor.status.remote()).url
        return url

    # Bringing up

    def _open_door(self) -> None:
        gateway = self._config.gateway
        settings = GatewaySettings(
            host=gateway.host,
            port=gateway.port,
            max_waiting=gateway.max_waiting,
            max_wait_s=gateway.max_wait_s,
            models=(self._served_name,),
        )
        remote: Any = ray.remote(Door)
        options = {"max_concurrency": 10_000, "scheduling_strategy": on_node(here()), **_ACTOR}
        self._door = remote.options(**options).remote(settings)
        try:
            self.url = ray.get(self._door.open.remote(), timeout=60)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, UsageError):
                raise UsageError(str(error.cause)) from error
            raise

    def _add_node(self, machine: Machine) -> None:
        remote: Any = ray.remote(Node)
        options = {"max_concurrency": 4, "scheduling_strategy": on_node(machine.id), **_ACTOR}
        actor = remote.options(**options).remote(self._node_settings())
        info: NodeInfo = _get(actor.info.remote(), f"node {machine.address}")
        self._nodes[machine.id] = RunningNode(machine, actor, info)

    def _node_settings(self) -> NodeSettings:
        match self._config.device:
            case EmulatedSection() as device:
                pace = device.pace.model_dump()
                return NodeSettings(
                    run_id=self._run_id,
                    device="emulated",
                    profile=device.profile,
                    count=device.count,
                    pace=pace,
                    lease_s=LEASE_S,
                    weights=weights_of(pace, emulated=True),
                )
            case _:
                weights = weights_of({}, emulated=False)
                return NodeSettings(self._run_id, "nvml", "", 0, {}, LEASE_S, weights)

    def _place(self, replica: str, machine: Machine, on_machine: int) -> None:
        """Make a replica's actor on a machine; Ray chooses its GPUs."""
        node = self._nodes[machine.id]
        remote: Any = ray.remote(Replica)
        options = {
            "num_gpus": self._config.fleet.gpus_per_replica,
            "scheduling_strategy": on_node(machine.id),
            "max_concurrency": 100,
            **_ACTOR,
        }
        actor = remote.options(**options).remote(self._engine_settings(), machine.address)
        gpus: list[int] = _get(actor.gpu_indices.remote(), replica)
        here_already = [p for p in self._placements.values() if p.node_id == machine.id]
        cores = share_of_cores(node.info.cores, len(here_already), max(on_machine, 1))
        self._placements[replica] = Placement(replica, actor, machine.id, node.actor, gpus, cores)

    def _start_replicas(self, names: list[str]) -> None:
        self._say(f"starting {len(names)} replica" + ("s" if len(names) > 1 else ""))
        calls = []
        for name in names:
            place = self._placements[name]
            seat = place.node.seat.remote(name, place.gpu_indices, place.cores)
            calls.append(place.actor.start.remote(seat))
        for name, call in zip(names, calls, strict=True):
            _get(call, name)

    def _engine_settings(self) -> EngineSettings | SyntheticSettings:
        engine = self._config.engine
        if engine.kind == "synthetic":
            return SyntheticSettings(self._served_name, engine.max_batch_limit)
        return EngineSettings(
            model=self._config.model.name,
            served_name=self._served_name,
            max_model_len=self._config.model.max_model_len,
            max_batch_limit=engine.max_batch_limit,
            max_tokens_per_step=engine.max_tokens_per_step,
            kv_cache_bytes=engine.kv_cache_bytes,
            tensor_parallel=self._config.fleet.gpus_per_replica,
            args=engine.args,
        )

    # Watching

    def _brief_controller(self) -> None:
        """Tell a new or restarted controller all it cannot find out by itself."""
        assert self._frontier is not None, "begin comes first"
        ray.get(self._controller.join.remote(list(self._placements.values())), timeout=60)
        began = (self._frontier, self.energy_source, self._began_epoch_s)
        ray.get(self._controller.begin.remote(*began), timeout=60)

    def _watch_cluster(self) -> None:
        """Let go of nodes that are lost, and place their replicas on nodes that have room."""
        if self._local:
            return
        alive = {machine.id: machine for machine in machines(self._local)}
        for node_id in [n for n in self._nodes if n not in alive]:
            self._lose_node(node_id)
        for machine in alive.values():
            if self._lost and machine.id not in self._nodes:
                self._settle_on(machine)

    def _lose_node(self, node_id: str) -> None:
        _log.warning("node %s is lost", node_id[:8])
        del self._nodes[node_id]
        names = [name for name, p in self._placements.items() if p.node_id == node_id]
        for name in names:
            del self._placements[name]
        self._lost += names
        self._controller.leave.remote(node_id)

    def _settle_on(self, machine: Machine) -> None:
        """Place lost replicas on a machine that is new; the controller starts them."""
        self._add_node(machine)
        room = len(self._nodes[machine.id].info.gpus) // self._config.fleet.gpus_per_replica
        names, self._lost = self._lost[:room], self._lost[room:]
        for name in names:
            self._place(name, machine, len(names))
        placed = [self._placements[name] for name in names]
        self._controller.join.remote(placed)


def _get(call: Any, who: str) -> Any:
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
        raise ReplicaError(f"{who}: {str(error).splitlines()[0]}") from error
