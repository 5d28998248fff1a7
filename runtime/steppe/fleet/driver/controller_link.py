"""The driver's side of the controller: gets its ticks, and ends one whose loop has stalled."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ray

from steppe.config import RunConfig
from steppe.fleet.cluster import call_result, error_line, local_node_id, on_node
from steppe.fleet.controller.controller import GRID, Controller
from steppe.fleet.driver.driver_state import ControlState
from steppe.fleet.driver.new_actors import ActorLifetime
from steppe.fleet.driver.stall_detector import StallDetector
from steppe.fleet.messages import ControllerStatus, ControllerUpdate, Placement
from steppe.frontier.pareto import Frontier

_log = logging.getLogger(__name__)

POLL_TIMEOUT_S, START_TIMEOUT_S = 10.0, 60.0
"""Longest waits for the controller: for its ticks, and for its start, s."""
GRID_THREADS = 2
"""Threads of the controller for the grid service."""
STALL_S, STALL_PERIODS = 30.0, 10
"""A controller that has not read the budget for so long, s and control periods, whichever is
longer, is restarted. It reads the budget ten times a second, but a machine may be slow, and a
restart is no cure for that."""


class ControllerLink:
    """Calls the controller.

    Attributes:
        actor: Its Ray handle; None before `start`.
        status: How far it has come, as far as is known; None before its first tick.
        frontiers: Operating points of one replica of each pool, by its name.
        models: Name of the model of each pool, for clients.
    """

    def __init__(
        self,
        lifetime: ActorLifetime,
        period_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin without a controller.

        Args:
            lifetime: How long the actor lives.
            period_s: Control period, s.
            clock: Returns monotonic time, s.
        """
        self.actor: Any = None
        self.status: ControllerStatus | None = None
        self.frontiers: dict[str, Frontier] = {}
        self.models: dict[str, str] = {}
        self._lifetime = lifetime
        self._stall_s, self._clock = max(STALL_S, STALL_PERIODS * period_s), clock
        self._stalls = StallDetector()

    def start(self, config: RunConfig, gateways: tuple[str, ...]) -> None:
        """Create the actor, which does nothing before `begin`.

        Args:
            config: The run, with the rating of its GPUs.
            gateways: Ray's names of the gateways' actors.

        Raises:
            ReplicaError: It could not be created.
        """
        remote: Any = ray.remote(concurrency_groups={GRID: GRID_THREADS})(Controller)
        options = {
            **self._lifetime.options(self._lifetime.name("controller")),
            "max_concurrency": 4,
            "scheduling_strategy": on_node(local_node_id()),
        }
        self.actor, self.status = remote.options(**options).remote(config, gateways), None
        call_result(self.actor.poll.remote(), "controller", START_TIMEOUT_S)

    def begin(
        self,
        placements: Sequence[Placement],
        starting: Mapping[str, Any],
        energy_source: str,
        began_s: float,
    ) -> None:
        """Give a new or restarted controller what it cannot find out by itself.

        Args:
            placements: Where the replicas run.
            starting: The starts that have not ended, by name of the replica.
            energy_source: Worst energy quality while no meter fails.
            began_s: When the run began, s on the monotonic clock of this host.
        """
        assert self.frontiers, "the frontiers come first"
        self._stalls = StallDetector()
        adding = self.actor.add_replicas.remote(list(placements), starting)
        ray.get(adding, timeout=START_TIMEOUT_S)
        call = self.actor.begin.remote(
            self.frontiers, self.models, energy_source, began_s, self.status
        )
        ray.get(call, timeout=START_TIMEOUT_S)

    def poll(self) -> ControllerUpdate:
        """Get new ticks; end a controller whose loop has stalled, so that Ray restarts it.

        Raises:
            RayActorError: It is dead or restarts.
            GetTimeoutError: It does not answer in time.
        """
        received_s = 0.0 if self.status is None else self.status.tick.t_s
        called_s = self._clock()
        try:
            call = self.actor.poll.remote(received_s)
            update: ControllerUpdate = ray.get(call, timeout=POLL_TIMEOUT_S)
        except ray.exceptions.RayActorError:
            self._stalls = StallDetector()
            raise
        except ray.exceptions.GetTimeoutError:
            self._restart_if_stalled(None, called_s)
            raise
        self._restart_if_stalled(update.budget_reads, called_s)
        return update

    def state(self) -> ControlState:
        """Return what another driver needs to go on with this controller."""
        return ControlState(self.actor, self.status, self.frontiers, self.models)

    def go_on(self, state: ControlState) -> None:
        """Go on with the controller of another driver."""
        self.actor, self.status = state.actor, state.status
        self.frontiers, self.models = dict(state.frontiers), dict(state.models)

    def answer(self, call: Any) -> bool:
        """Return the answer to a question about a loan; False without one."""
        try:
            return bool(ray.get(call, timeout=POLL_TIMEOUT_S))
        except ray.exceptions.RayError as error:  # GetTimeoutError is one
            _log.warning("the controller does not answer: %s", error_line(error))
            return False

    def _restart_if_stalled(self, budget_reads: int | None, called_s: float) -> None:
        stalled_s = self._stalls.stalled_s(budget_reads, called_s, self._clock())
        if stalled_s >= self._stall_s:
            _log.warning("the controller has stalled for %.0f s: restarting it", stalled_s)
            self._stalls = StallDetector()
            ray.kill(self.actor, no_restart=False)
