"""Brings a fleet up, hands it to the controller, and takes it down again.

The driver owns every actor: when its process dies, Ray ends them all, and the agents on the
nodes undo every limit. It also watches the cluster: a node that is lost takes its replicas
with it, and they are placed anew where there is room.
"""

from __future__ import annotations

import logging
import os
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ray

from steppe.config import RunConfig
from steppe.errors import UsageError
from steppe.fleet.cluster import LOCAL, connect, error_line, here, leave, machines, on_node
from steppe.fleet.controller.controller import Controller, ControllerStatus, ControllerUpdate
from steppe.fleet.driver.bookkeeper import Bookkeeper, EnergyTotals
from steppe.fleet.driver.fleet_actors import ACTOR, FleetActors
from steppe.fleet.driver.stall_detector import StallDetector
from steppe.fleet.driver.supported_clocks import snap_to_supported_clocks, without_clock_limits
from steppe.fleet.gateway_actor import GatewayActor
from steppe.frontier.pareto import Frontier
from steppe.gateway.server import GatewaySettings
from steppe.report.records import RequestRecord, TickRecord

_log = logging.getLogger(__name__)

Say = Callable[[str], None]

ANSWER_S, BRIEF_S, END_S = 10.0, 60.0, 30.0
"""Longest waits for the controller: for ticks, to take its briefing, to end, s."""
STILL_S, STILL_PERIODS = 30.0, 10
"""A controller that has not looked at the budget for so long, s and control periods, whichever is
longer, is ended. It looks ten times a second, but a machine may be slow, and a restart is no cure
for that."""
CLOSE_S = 15.0
"""Longest wait for the door to shut, s; it has its own, shorter limit for outstanding requests."""


@dataclass(frozen=True, slots=True)
class RunUpdate:
    """What happened since the last call: ticks, and requests whose energy is complete."""

    ticks: list[TickRecord]
    requests: list[RequestRecord]


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
        # Containers that share their memory may all have a driver with the same number.
        self.run_id = f"{os.getpid()}-{secrets.token_hex(4)}"
        self.actors = FleetActors(config, served_name, self.run_id)
        self._gateway: Any = None
        self._gateway_name = f"steppe-gateway-{self.run_id}"
        self._controller: Any = None
        self._frontier: Frontier | None = None
        self._rest_w: float | None = None
        self._last: ControllerStatus | None = None
        self._stalls = StallDetector()
        self._books: Bookkeeper
        self._began_s = 0.0
        self.url = ""

    def start(self) -> None:
        """Connect to the cluster, open the door, seat and start all replicas.

        Raises:
            UsageError: The port is in use, or there is no such cluster.
            ReplicaError: There is no room for the replicas, or one cannot start.
        """
        self._say("starting Ray" if self._local else f"joining Ray at {self._config.ray.address}")
        connect(self._config.ray.address)
        self._open_gateway()
        found = machines(self._local)
        self._say(f"opening the GPUs of {_count(len(found), 'node')}")
        self.actors.open_nodes(found)
        self._say(f"starting {_count(len(self.actors.placements), 'replica')}")
        self.actors.start()

    def begin(self, frontier: Frontier) -> None:
        """Hand the fleet to the controller; the run begins now.

        Where nobody may limit the clocks, only the points at the highest clock are kept.
        """
        self._frontier = self._settable(frontier)
        remote: Any = ray.remote(Controller)
        options = {"max_concurrency": 4, "scheduling_strategy": on_node(here()), **ACTOR}
        self._controller = remote.options(**options).remote(self._config, self._gateway_name)
        ray.get(self._controller.take.remote(), timeout=BRIEF_S)
        self._began_s, self._last = time.monotonic(), None
        self._books = Bookkeeper(self._gateway, self.actors.energy_source, time.time())
        self._books.skip(self.actors.node_actors)
        self._brief_controller()

    def use_frontier(self, frontier: Frontier) -> None:
        """Decide on other operating points from the next tick on."""
        self._frontier = self._settable(frontier)
        self._controller.use_frontier.remote(self._frontier)

    def lend(self, replica: str, reserve_w: float) -> bool:
        """Lend a spare replica to a measurement, see `LiveFleet.lend`; False if it is needed."""
        return self._ask_controller(self._controller.lend.remote(replica, reserve_w))

    def is_lent(self, replica: str) -> bool:
        """Whether a loan still lasts; the controller may have ended it."""
        return self._ask_controller(self._controller.is_lent.remote(replica))

    def take_back(self, replica: str) -> None:
        """End a loan."""
        self._controller.take_back.remote(replica)

    def poll(self) -> RunUpdate:
        """Return what happened since the last call."""
        ticks = self._ticks()
        self._watch_cluster()
        self._books.collect(self.actors.node_actors)
        closed = [request for tick in ticks for request in self._books.close_tick(tick.t_s)]
        return RunUpdate(ticks, closed)

    def close_gateway(self) -> None:
        """Refuse new requests, and give those that are outstanding their time to end.

        The controller ticks on meanwhile. Who has no answer by then is told so, and has an end.
        """
        if self._gateway is not None:
            ray.wait([self._gateway.close.remote()], timeout=CLOSE_S)

    def end(self) -> tuple[RunUpdate, EnergyTotals]:
        """Stop the controller, close the books, and return what is left and the totals."""
        ray.wait([self._controller.end.remote()], timeout=END_S)
        self._books.collect(self.actors.node_actors, closing=True)
        books, requests = self._books.close(time.monotonic() - self._began_s)
        return RunUpdate(self._ticks(), requests), books

    def stop(self) -> None:
        """Take everything down: door, replicas, limits, files, and the cluster if it is ours.

        Taking down again what is down changes nothing.
        """
        if not ray.is_initialized():
            return
        if self._controller is not None:
            ray.kill(self._controller)  # or it would start again what stops now
        self.close_gateway()
        self.actors.stop()
        leave(self._config.ray.address)

    def _settable(self, frontier: Frontier) -> Frontier:
        """Return the frontier with clocks that every GPU can be limited to."""
        if self.actors.can_limit_clocks:
            return snap_to_supported_clocks(frontier, self.actors.common_clocks_mhz)
        if self._rest_w is None:  # before the first request: later calls find working replicas
            self._rest_w = self.actors.rest_w()
        return without_clock_limits(frontier, self._rest_w)

    def _ask_controller(self, call: Any) -> bool:
        """Return the answer of the controller to a question about a loan; False without one."""
        try:
            return bool(ray.get(call, timeout=ANSWER_S))
        except (ray.exceptions.RayError, ray.exceptions.GetTimeoutError) as error:
            _log.warning("the controller does not answer: %s", error_line(error))
            return False

    def _open_gateway(self) -> None:
        gateway = self._config.gateway
        settings = GatewaySettings(
            host=gateway.host,
            port=gateway.port,
            max_waiting=gateway.max_waiting,
            max_wait_s=gateway.max_wait_s,
            ttft_s=self._config.slo.ttft_s,
            models=(self._served_name,),
        )
        remote: Any = ray.remote(GatewayActor)
        options = {
            "name": self._gateway_name,
            "max_concurrency": 10_000,
            "scheduling_strategy": on_node(here()),
            **ACTOR,
        }
        self._gateway = remote.options(**options).remote(settings)
        try:
            self.url = ray.get(self._gateway.open.remote(), timeout=60)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, UsageError):
                raise UsageError(str(error.cause)) from error
            raise

    def _ticks(self) -> list[TickRecord]:
        """Return the ticks that are not seen yet; brief a controller that was restarted."""
        try:
            ticked = self._ask()
            if not ticked.begun:
                self._brief_controller()
        except (ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError) as error:
            _log.warning("the controller does not answer: %s", error_line(error))
            return []
        self._last = ticked.progress or self._last
        return ticked.ticks

    def _ask(self) -> ControllerUpdate:
        """Ask for ticks; end a controller whose loop stands still: Ray starts it again."""
        seen_s = 0.0 if self._last is None else self._last.tick.t_s
        asked_s = time.monotonic()
        try:
            ticked: ControllerUpdate = ray.get(
                self._controller.take.remote(seen_s), timeout=ANSWER_S
            )
        except ray.exceptions.RayActorError:
            self._stalls = StallDetector()
            raise
        except ray.exceptions.GetTimeoutError:
            self._end_if_still(None, asked_s)
            raise
        self._end_if_still(ticked.looks, asked_s)
        return ticked

    def _end_if_still(self, looks: int | None, asked_s: float) -> None:
        still_s = self._stalls.still_s(looks, asked_s, time.monotonic())
        if still_s >= max(STILL_S, STILL_PERIODS * self._config.control.period_s):
            _log.warning("the controller has stood still for %.0f s: it starts anew", still_s)
            self._stalls = StallDetector()
            ray.kill(self._controller, no_restart=False)

    def _brief_controller(self) -> None:
        """Tell a new or restarted controller all it cannot find out by itself."""
        assert self._frontier is not None, "begin comes first"
        self._stalls = StallDetector()
        placements = list(self.actors.placements.values())
        ray.get(self._controller.join.remote(placements), timeout=BRIEF_S)
        fleet = (self._frontier, self.actors.replicas, self.actors.energy_source)
        began = (*fleet, self._began_s, self._last)
        ray.get(self._controller.begin.remote(*began), timeout=BRIEF_S)

    def _watch_cluster(self) -> None:
        """Let go of nodes that are lost, and place their replicas where GPUs are free."""
        if self._local:
            return
        alive = machines(self._local)
        for node_id in set(self.actors.nodes) - {machine.id for machine in alive}:
            self.actors.lose(node_id)
            self._controller.leave.remote(node_id)
        placed = self.actors.place_unplaced(alive)
        if placed:
            self._controller.join.remote(placed)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
