"""Brings a fleet up, hands it to the controller, and takes it down again.

The driver owns every actor: when its process dies, Ray ends them all, and the agents on the
nodes undo every limit. It also watches the cluster: a node that is lost takes its replicas
with it, and they are placed anew where there is room.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from typing import Any

import ray

from steppe.config import RunConfig
from steppe.engine.vllm_engine import is_cpu_build
from steppe.errors import UsageError
from steppe.fleet.cluster import LOCAL, connect, here, machines, on_node
from steppe.fleet.controller import Books, Controller, Taken
from steppe.fleet.crew import ACTOR, Crew
from steppe.fleet.door import Door
from steppe.frontier.pareto import Frontier
from steppe.gateway.server import GatewaySettings

_log = logging.getLogger(__name__)

Say = Callable[[str], None]


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
        self._local = config.ray.address == LOCAL
        self.crew = Crew(config, served_name, run_id=str(os.getpid()))
        self._door: Any = None
        self._door_name = f"steppe-door-{os.getpid()}"
        self._controller: Any = None
        self._frontier: Frontier | None = None
        self._began_epoch_s = 0.0
        self.url = ""

    def start(self) -> None:
        """Connect to the cluster, open the door, seat and start all replicas.

        Raises:
            UsageError: The port is in use, or there is no such cluster.
            ReplicaError: There is no room for the replicas, or one cannot start.
        """
        if self._config.engine.kind == "vllm":
            is_cpu_build()
        self._say("starting Ray" if self._local else f"joining Ray at {self._config.ray.address}")
        connect(self._config.ray.address)
        self._open_door()
        found = machines(self._local)
        self._say(f"opening the GPUs of {_count(len(found), 'node')}")
        self.crew.settle_in(found)
        self._say(f"starting {_count(len(self.crew.placements), 'replica')}")
        self.crew.start()

    def begin(self, frontier: Frontier) -> None:
        """Hand the fleet to the controller; the run begins now."""
        self._frontier = frontier
        self._began_epoch_s = time.time()
        remote: Any = ray.remote(Controller)
        options = {"max_concurrency": 4, "scheduling_strategy": on_node(here()), **ACTOR}
        self._controller = remote.options(**options).remote(self._config, self._door_name)
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
        if self._door is not None:
            ray.wait([self._door.close.remote()], timeout=15)
        self.crew.stop()
        ray.shutdown()

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
        options = {
            "name": self._door_name,
            "max_concurrency": 10_000,
            "scheduling_strategy": on_node(here()),
            **ACTOR,
        }
        self._door = remote.options(**options).remote(settings)
        try:
            self.url = ray.get(self._door.open.remote(), timeout=60)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, UsageError):
                raise UsageError(str(error.cause)) from error
            raise

    def _brief_controller(self) -> None:
        """Tell a new or restarted controller all it cannot find out by itself."""
        assert self._frontier is not None, "begin comes first"
        ray.get(self._controller.join.remote(list(self.crew.placements.values())), timeout=60)
        began = (self._frontier, self.crew.energy_source, self._began_epoch_s)
        ray.get(self._controller.begin.remote(*began), timeout=60)

    def _watch_cluster(self) -> None:
        """Let go of nodes that are lost, and place their replicas on nodes that are new."""
        if self._local:
            return
        alive = {machine.id: machine for machine in machines(self._local)}
        for node_id in [n for n in self.crew.nodes if n not in alive]:
            self.crew.lose(node_id)
            self._controller.leave.remote(node_id)
        for machine in alive.values():
            if self.crew.homeless and machine.id not in self.crew.nodes:
                self._controller.join.remote(self.crew.settle_on(machine))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
