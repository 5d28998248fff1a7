"""Starts a fleet, hands it to the controller, and stops it.

The driver owns every actor: when its process dies, Ray ends them all, and the agents on the
nodes undo every limit. It also watches the cluster: when a node is lost, its replicas are placed
again where GPUs are free.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

import ray

from steppe.config import RunConfig
from steppe.errors import ClusterLostError, ReplicaError
from steppe.fleet.cluster import (
    LOCAL,
    Machine,
    connect,
    connect_again,
    error_line,
    gpu_machines,
    leave,
    leave_lost,
    refuse_unmatched_labels,
)
from steppe.fleet.driver.actor_watch import ActorWatch
from steppe.fleet.driver.booked_request import identities
from steppe.fleet.driver.bookkeeper import Bookkeeper, EnergyTotals
from steppe.fleet.driver.cluster_watch import ClusterWatch
from steppe.fleet.driver.config_changer import ConfigChanger
from steppe.fleet.driver.controller_link import ControllerLink
from steppe.fleet.driver.driver_state import DriverState
from steppe.fleet.driver.engine_logs import EngineLogs
from steppe.fleet.driver.fleet_actors import FleetActors
from steppe.fleet.driver.gateways import Gateways
from steppe.fleet.driver.gcs_keeper import storage_config
from steppe.fleet.driver.new_actors import ActorLifetime
from steppe.fleet.driver.node_commands import NodeCommands, Switched
from steppe.fleet.driver.pool_actors import PoolActors
from steppe.fleet.driver.quarantine_log import QuarantineLog
from steppe.fleet.driver.run_ledger import run_ledger
from steppe.fleet.driver.run_services import RunServices
from steppe.fleet.driver.run_update import RunUpdate
from steppe.fleet.driver.start_errors import start_errors
from steppe.fleet.driver.supported_clocks import snap_to_supported_clocks, without_clock_limits
from steppe.fleet.orphan_processes import Process
from steppe.fleet.stale_runs import gcs_folder, hold, new_run_id, remove_run
from steppe.frontier.pareto import Frontier
from steppe.power.supply import with_rating
from steppe.report.ledger_totals import LedgerTotals
from steppe.report.records import TickRecord

_log = logging.getLogger(__name__)

START_TIMEOUT_S, END_TIMEOUT_S = 60.0, 30.0
"""Longest waits for gateway and controller: to start, to end, s."""
LEDGER_TIMEOUT_S = 30.0
"""Longest wait for the ledger to take the last of the books, s."""
LONGEST_SILENCE_S, LONGEST_SILENCE_PERIODS = 180.0, 30
"""A run whose controller has not ticked for so long, s and control periods, whichever is longer,
ends: Ray could not bring it back."""


def _discard(line: str) -> None:
    """Show nothing."""


class FleetDriver:
    """One fleet, from start to stop.

    Attributes:
        actors: Its nodes and replicas.
        url: Where the gateway listens; empty before `start`.
    """

    def __init__(
        self,
        config: RunConfig,
        progress: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
        *,
        note: Callable[[str], None] = _discard,
        on_session: Callable[[str], None] = _discard,
        on_open: Callable[[str], None] = _discard,
        lifetime: ActorLifetime | None = None,
    ) -> None:
        """Keep what to run.

        Args:
            config: The run.
            progress: Gets a line at the begin of each stage of the start.
            clock: Returns monotonic time, s.
            note: Gets a line about how far a stage is.
            on_session: Gets Ray's name of the session if a cluster was started for the run.
            on_open: Gets the address of the gateway once it answers, before any model is loaded.
            lifetime: Name of the run, and how long its actors live; None for a new run whose
                actors end with this process.
        """
        self._on_session, self._on_open = on_session, on_open
        self._config = config
        self._progress, self._note, self._clock = progress, note, clock
        self._local = config.ray.address == LOCAL
        self._lifetime = lifetime or ActorLifetime(new_run_id(os.getpid()))
        self.actors = FleetActors(config, self._lifetime)
        self._gateways = Gateways(config, self._lifetime)
        self._control = ControllerLink(self._lifetime, config.control.period_s, clock)
        self._idle_w: dict[str, float] = {}
        self._hung = ActorWatch(clock)
        self._watch: ClusterWatch | None = None
        self._ticked_s, self._is_lost = 0.0, False
        self._books: Bookkeeper
        self._changer = ConfigChanger(config, self._reconfigure)
        self._logs, self._quarantine = EngineLogs(), QuarantineLog()
        self._node_commands = NodeCommands(config.fleet, clock)
        self._services = RunServices(config, self._lifetime, self.actors.replica_headers)
        self._ledger = run_ledger(config, lambda: self._services.ledger, clock)
        self._nodes_off: frozenset[str] | None = None
        self._began_s = 0.0
        self.url = ""

    def start(self) -> None:
        """Connect to the cluster, open the gateway, place the replicas and start the first ones.

        Replicas that start later, or fail, are left to the controller.

        Raises:
            UsageError: The configuration cannot be run here, such as a port that is in use.
            StartError: Ray or an actor could not be started; the message names its log.
        """
        address = self._config.ray.address
        self._progress("starting Ray" if self._local else f"joining Ray at {address}")
        connect(address, self._gcs_storage(), outlives_driver=self._lifetime.outlives_driver)
        if self._local:
            self._on_session(ray.get_runtime_context().get_session_name())
        self._watch_servers()
        with start_errors():
            self.url = self._gateways.open(self.actors.replica_headers)
            self._on_open(self.url)
            self._services.start(self.url)
            refuse_unmatched_labels(self._config.fleet.node_labels)
            machines = self._machines()
            self._progress(f"opening the GPUs of {_count(len(machines), 'node')}")
            self.actors.open_nodes(machines)
            self.actors.start(self._progress, self._note)

    def begin(self, frontiers: Mapping[str, Frontier]) -> None:
        """Hand the fleet to the controller; the run begins now.

        Where clocks cannot be limited, only the operating points at the highest clock are kept.

        Args:
            frontiers: Operating points of one replica of each pool, by its name.

        Raises:
            ConfigError: The supply is a share of a rating that a GPU does not report.
            StartError: The controller could not be started, or an actor does not answer.
        """
        pools = self.actors.pools()
        control = self._control
        control.frontiers = {n: self._settable(f, pools[n]) for n, f in frontiers.items()}
        control.models = {n: pools[n].config.model.client_name for n in frontiers}
        with start_errors():
            control.start(self._rated(self.config), self._gateways.names)
            self._began_s = self._clock()
            self._books = Bookkeeper(
                self._gateways.actors,
                self.actors.energy_source,
                time.time(),
                self._config.site.boundary,
                None if self._ledger is None else identities(self._config),
            )
            self._gateways.begin(time.time(), self._changer)
            self._books.skip(self.actors.node_actors)
            if self._ledger is not None:
                self._ledger.begin(self.run_id)
            self._begin_controller()
            self._ticked_s = self._clock()

    def _rated(self, config: RunConfig) -> RunConfig:
        """Return a configuration with the rating of the GPUs."""
        power = with_rating(config.power, self.actors.rated_w)
        return config.model_copy(update={"power": power})

    def _reconfigure(self, config: RunConfig) -> Any:
        """Let the controller use another configuration; return the call."""
        return self._control.actor.reconfigure.remote(self._rated(config))

    def use_frontier(self, frontier: Frontier, pool: str) -> None:
        """Decide on other operating points of a pool from the next tick on."""
        settable = self._settable(frontier, self.actors.pools()[pool])
        self._control.frontiers[pool] = settable
        self._control.actor.use_frontier.remote(settable, pool)

    def lend(self, replica: str, reserve_w: float) -> bool:
        """Lend a spare replica to a measurement, see `LiveFleet.lend`; False if it is needed."""
        is_lent = self._control.answer(self._control.actor.lend.remote(replica, reserve_w))
        if is_lent:
            self._books.lend(replica)
        return is_lent

    def is_lent(self, replica: str) -> bool:
        """Whether a loan still lasts; the controller may have ended it."""
        return self._control.answer(self._control.actor.is_lent.remote(replica))

    def take_back(self, replica: str) -> None:
        """End a loan."""
        self._control.actor.take_back.remote(replica)
        self._books.take_back(replica)

    @property
    def address(self) -> str:
        """Where the GCS of Ray listens, `host:port`."""
        return str(ray.get_runtime_context().gcs_address)

    def state(self) -> bytes:
        """Return what another driver needs to go on from the last poll."""
        state = DriverState(
            changed=(self.config, self._changer.version),
            changes_done=self._changer.done,
            url=self.url,
            began_s=self._began_s,
            actors=self.actors.state(),
            gateways=self._gateways.state(),
            control=self._control.state(),
            books=self._books.books(),
            ledger=None if self._ledger is None else self._ledger.state(),
            idle_w=self._idle_w,
            quarantined=frozenset(self._quarantine.known),
            nodes_off=self._node_commands.state(),
            log_ends=self._logs.ends,
        )
        return bytes(ray.cloudpickle.dumps(state))  # it can have the handles of actors

    def take_over(self, address: str, known: bytes) -> None:
        """Go on with the run of a driver that has died, in a new driver with its configuration.

        What nodes, gateways and controller have kept since the last poll of the other driver comes
        with the next one. A loan ends.

        Args:
            address: Where the GCS of Ray listens.
            known: What the other driver knew, as `state` returned it.

        Raises:
            StartError: The cluster does not answer.
        """
        connect_again(address, own=self._local)
        if self._config.ray.restart_gcs:
            hold(gcs_folder(self.run_id))
        self._watch_servers()
        state: DriverState = ray.cloudpickle.loads(known)
        self.url, self._began_s = state.url, state.began_s
        self._changer.go_on(*state.changed, state.changes_done)
        self.actors.go_on(state.actors)
        self._gateways.go_on(state.gateways, self._changer)
        self._control.go_on(state.control)
        self._books = Bookkeeper(self._gateways.actors, self.actors.energy_source, 0.0)
        self._books.go_on(state.books)
        if self._ledger is not None and state.ledger is not None:
            self._ledger.go_on(state.ledger)
        self._idle_w, self._quarantine.known = dict(state.idle_w), set(state.quarantined)
        self._node_commands.go_on(state.nodes_off)
        self._logs.ends = dict(state.log_ends)
        self._ticked_s = self._clock()
        self._services.find(self.url)
        others = [*self._gateways.every(), *self._services.actors.values()]
        self._lifetime.end_others([*self.actors.every(), *others, self._control.actor])
        for replica in state.books.accounts.lent.copy():
            self.take_back(replica)

    def poll(self) -> RunUpdate:
        """Return what happened since the last call.

        Raises:
            ClusterLostError: The cluster is lost, or the controller does not come back.
            ReplicaError: No replica is left, and none has GPUs to start on.
        """
        if self._quarantine.no_replica:
            raise ReplicaError(self._quarantine.no_replica)
        try:
            self._check_control()
        except ClusterLostError:
            self._is_lost = True
            raise
        if self._ledger is not None:
            self._ledger.look()
        ticks = self._ticks()
        self._switch_nodes()
        self._watch_cluster()
        self._watch_actors()
        self._books.collect(self.actors.node_actors)
        closed = [request for tick in ticks for request in self._books.close_tick(tick.t_s)]
        if self._ledger is not None:
            self._ledger.book(ticks, self._books.take_booked(), self._books.counted)
        results, changes = self._changer.advance(self._clock() - self._began_s)
        services = self._services.look()
        self._gateways.tell(closed, self._books.energy_so_far(), results, services)
        logs = self._logs.collect_if_due(self.actors.placements, self._clock())
        return RunUpdate(ticks, closed, logs, changes)

    @property
    def run_id(self) -> str:
        """Name of the run, part of every file that it leaves."""
        return self._lifetime.run_id

    @property
    def config(self) -> RunConfig:
        """The configuration, with what has changed since the start."""
        return self._changer.config

    def books_so_far(self) -> EnergyTotals:
        """Return the totals so far, in case this process is killed."""
        return self._books.totals(self._clock() - self._began_s)

    def close_gateway(self) -> None:
        """Refuse new requests, and wait a limited time for the outstanding ones.

        The controller ticks on meanwhile. A request that has not ended by then gets an error.
        """
        if not self._is_lost:
            self._services.stop()
            self._gateways.close()

    def end(self) -> tuple[RunUpdate, EnergyTotals]:
        """Stop the controller, close the books, and return what is left and the totals.

        In a cluster that is lost, actors may not answer: what they have not reported is left out.
        """
        if self._is_lost:
            totals, requests = self._books.close(self._clock() - self._began_s)
            self._end_ledger([])
            return RunUpdate([], requests), totals
        ray.wait([self._control.actor.end.remote()], timeout=END_TIMEOUT_S)
        self._books.collect(self.actors.node_actors, closing=True)
        totals, requests = self._books.close(self._clock() - self._began_s)
        logs, ticks = self._logs.collect(self.actors.placements), self._ticks()
        self._end_ledger(ticks)
        return RunUpdate(ticks, requests, logs), totals

    def _end_ledger(self, ticks: list[TickRecord]) -> None:
        """Let the ledger take the last of the books; in a cluster that is lost it cannot."""
        if self._ledger is not None:
            timeout_s = 0.0 if self._is_lost else LEDGER_TIMEOUT_S
            self._ledger.end(ticks, self._books.take_booked(), self._books.counted, timeout_s)

    @property
    def booked(self) -> LedgerTotals | None:
        """What was booked for the ledger so far; None without one."""
        return None if self._ledger is None else self._ledger.totals

    def stop(self) -> None:
        """Stop the gateway, replicas and nodes, and the cluster if this run started it.

        A second call changes nothing. Nodes that are off are switched on again.
        """
        self._node_commands.restore()
        if not ray.is_initialized():
            return
        if self._ledger is not None:
            self._ledger.leave()
        watch = self._watch
        if watch is not None:
            watch.stop()
        if self._is_lost and watch is not None:
            leave_lost(watch.processes())
            return
        if self._control.actor is not None:
            ray.kill(self._control.actor)  # or it would restart the replicas that stop now
        self.close_gateway()
        self._services.stop_ledger()
        self.actors.stop()
        servers = frozenset[Process]() if watch is None else watch.restarted
        if self._lifetime.outlives_driver and not self._local:
            self._lifetime.end_all()
        elif self._lifetime.outlives_driver and watch is not None:
            servers = watch.processes()
        leave(self._config.ray.address, servers=servers)
        if self._config.ray.restart_gcs:
            remove_run(gcs_folder(self.run_id))

    def _watch_servers(self) -> None:
        """Watch Ray's servers from now on."""
        restart_gcs = self._config.ray.restart_gcs
        self._watch = ClusterWatch.of_session(own=self._local, restart_gcs=restart_gcs)
        self._watch.start()

    def _watch_actors(self) -> None:
        """Restart a gateway or the actor of a node if it hangs."""
        nodes = {f"node {node[:8]}": actor for node, actor in self.actors.node_actors.items()}
        self._hung.look(self._gateways.watched | self._services.actors | nodes)

    def _check_control(self) -> None:
        """Raise ClusterLostError if nothing can control the fleet any more."""
        if self._watch is not None:
            self._watch.check()
        silent_s = self._clock() - self._ticked_s
        if silent_s > max(
            LONGEST_SILENCE_S, LONGEST_SILENCE_PERIODS * self._config.control.period_s
        ):
            raise ClusterLostError(f"the controller has not ticked for {silent_s:.0f} s")

    def _gcs_storage(self) -> Mapping[str, Any]:
        """Return where the GCS keeps its tables; empty for its own memory."""
        if not self._config.ray.restart_gcs:
            return {}
        hold(gcs_folder(self.run_id))
        return storage_config(gcs_folder(self.run_id))

    def _machines(self) -> list[Machine]:
        """Return the nodes with GPUs and the configured labels."""
        return gpu_machines(self._local, self._config.fleet.node_labels)

    def _settable(self, frontier: Frontier, pool: PoolActors) -> Frontier:
        """Return the frontier with clocks that every GPU of the pool can be limited to."""
        if pool.can_limit_clocks:
            return snap_to_supported_clocks(frontier, pool.common_clocks_mhz)
        if pool.name not in self._idle_w:  # before the first request: later, replicas work
            self._idle_w[pool.name] = pool.measure_idle_w()
        return without_clock_limits(frontier, self._idle_w[pool.name])

    def _ticks(self) -> list[TickRecord]:
        """Return the new ticks; begin a controller that Ray has restarted."""
        try:
            update = self._control.poll()
            if not update.begun:
                self._begin_controller()
        except (ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError) as error:
            _log.warning("the controller does not answer: %s", error_line(error))
            return []
        self._control.status = update.status or self._control.status
        self._ticked_s = self._clock() if update.ticks else self._ticked_s
        self._quarantine.note(update.ticks, self.actors)
        self._nodes_off = update.nodes_off
        for replica, pool in update.moved.items():
            self.actors.move(replica, pool, self._control.models[pool])
        return update.ticks

    def _begin_controller(self) -> None:
        """Begin a new or restarted controller with the configuration and fleet of now."""
        if self.config is not self._config:  # Ray restarts it with the first one
            ray.get(self._reconfigure(self.config), timeout=START_TIMEOUT_S)
        self._control.actor.use_gateways.remote(self._gateways.names)
        self._control.begin(
            tuple(self.actors.placements.values()),
            self.actors.starts.running(),
            self.actors.energy_source,
            self._began_s,
        )

    def _switch_nodes(self) -> None:
        """Switch nodes on and off as the controller asks."""
        if self._nodes_off is None:
            return  # a restarted controller does not know yet
        machines = {node_id: node.machine for node_id, node in self.actors.nodes.items()}
        addresses = {node_id: machine.address for node_id, machine in machines.items()}
        for switched in self._node_commands.follow(self._nodes_off, addresses):
            match switched:
                case Switched(_, is_on=False, error=""):
                    pass  # it is metered until it leaves the cluster
                case Switched(node, is_on=False):
                    self._control.actor.node_stays_on.remote(node)
                case Switched(node, is_on=True, error="") if node in self.actors.nodes:
                    self._control.actor.node_is_on.remote(node)
                case Switched(node, is_on=True, error=""):
                    self.actors.unpark_node(node)

    def _watch_cluster(self) -> None:
        """Remove nodes that are lost, and place replicas without GPUs where some are free."""
        if self._local and not self.actors.has_unplaced:
            return
        alive = self._machines()
        for node_id in set(self.actors.nodes) - {machine.id for machine in alive}:
            if self._node_commands.is_off(node_id):
                self.actors.park_node(node_id)
                self._control.actor.node_is_off.remote(node_id)
                continue
            self.actors.remove_node(node_id)
            self._control.actor.remove_node.remote(node_id)
        placed = self.actors.place_unplaced(alive)
        if placed:
            self._control.actor.add_replicas.remote(placed)
        if self._gateways.follow():
            self._control.actor.use_gateways.remote(self._gateways.names)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
