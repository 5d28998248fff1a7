"""The node actors and replica actors of a fleet: create, place, start, replace, stop."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

import ray

from steppe.config import RunConfig
from steppe.energy.window import worst
from steppe.engine.run_secret import new_secret, secret_headers
from steppe.errors import ConfigError, ReplicaError, SteppeError, UsageError
from steppe.fleet.cluster import (
    Machine,
    call_result,
    free_gpus,
    share_of_cores,
)
from steppe.fleet.driver.driver_state import ActorsState
from steppe.fleet.driver.engine_starts import LOG_TIMEOUT_S, POLL_S, EngineStarts
from steppe.fleet.driver.model_downloads import ModelDownloads
from steppe.fleet.driver.new_actors import ActorLifetime, NewActors
from steppe.fleet.driver.pending_actors import (
    OPEN_TIMEOUT_S,
    MachinePauses,
    PendingNode,
    PendingReplica,
    RunningNode,
    answered,
)
from steppe.fleet.driver.pool_actors import PoolActors
from steppe.fleet.driver.replica_calls import ReplicaCalls
from steppe.fleet.driver.replica_pools import ReplicaPools
from steppe.fleet.driver.room import is_model, spread
from steppe.fleet.driver.soon_free import soon_free
from steppe.fleet.messages import (
    GpuInfo,
    NodeInfo,
    Placement,
)
from steppe.fleet.replica import settings_from_config

PLACE_TIMEOUT_S = 120.0
"""Longest wait for the actor of a replica that lost its node, s: another job may hold the GPUs."""
STOP_TIMEOUT_S = 15.0

_log = logging.getLogger(__name__)


class FleetActors:
    """Owns the node actors and the replica actors.

    Attributes:
        nodes: The open nodes, by Ray's id.
        placements: Where the replicas run, by name.
        unplaced: Names of the replicas without GPUs: those of a lost node, and those that found no
            free GPUs at the begin.
        starts: The starts of the engines at the begin of the run.
        calls: Calls to single replicas.
    """

    def __init__(self, config: RunConfig, lifetime: ActorLifetime) -> None:
        """Keep what to run, and how long its actors live."""
        self._config, self._lifetime = config, lifetime
        self._pools = ReplicaPools(config)
        self._new = NewActors(config, lifetime, new_secret(), self._pools)
        self.nodes: dict[str, RunningNode] = {}
        self._node_actors: list[Any] = []  # also of nodes that are still opening
        self._others: set[str] = set()  # nodes with GPUs of another model
        self.placements: dict[str, Placement] = {}
        self.calls = ReplicaCalls(self.placements)
        self.unplaced: list[str] = []
        self._pending: list[PendingNode | PendingReplica] = []
        self._machines = 1
        self._pauses = MachinePauses()
        self._holding: list[Any] = []  # actors that keep GPUs which must not be used
        self._parked: dict[str, list[str]] = {}  # replicas of nodes that are off
        self.starts = EngineStarts(config.fleet)
        self._downloads = {
            model: ModelDownloads(alone) for model, alone in self._pools.configs.items()
        }

    @property
    def replica_headers(self) -> tuple[tuple[str, str], ...]:
        """Headers that every request to a replica needs: the secret of the run."""
        return secret_headers(self._new.secret)

    @property
    def node_actors(self) -> dict[str, Any]:
        """Ray handles of the node actors, by Ray's id of the node."""
        return {node_id: node.actor for node_id, node in self.nodes.items()}

    @property
    def energy_source(self) -> str:
        """Worst energy quality of all GPUs while no meter fails."""
        return worst(node.info.energy_source for node in self.nodes.values())

    def pools(self) -> dict[str, PoolActors]:
        """Return the pools of the fleet, by name."""
        names = list(dict.fromkeys(place.pool for place in self.placements.values()))
        return {name: self._pool(name) for name in names}

    def _pool(self, name: str) -> PoolActors:
        places = [place for place in self.placements.values() if place.pool == name]
        model = places[0].model
        unplaced = [n for n in self.unplaced if self._pools.model_of(n) == model]
        return PoolActors(
            name=name,
            config=self._pools.configs[model],
            gpus=tuple(gpu for place in places for gpu in self._gpus_of(place)),
            replicas=len(places) + len(unplaced),
            ready=tuple(place.replica for place in places if place.replica in self.starts.ready),
            reading=self.calls.reading,
        )

    def _gpus_of(self, place: Placement) -> list[GpuInfo]:
        return gpus_at(self.nodes[place.node_id], place.gpu_indices)

    def _name_pools(self) -> None:
        """Put each replica in its pool, now that the kinds of GPU are known."""
        places = self.placements
        self._pools.find_kinds(gpu for place in places.values() for gpu in self._gpus_of(place))
        for name, place in places.items():
            pool = self._pools.pool_of(name, self._gpus_of(place))
            places[name] = replace(place, pool=pool)

    def _size(self, replica: str) -> int:
        return self._pools.config_of(replica).fleet.gpus_per_replica

    @property
    def replicas(self) -> int:
        """Size of the fleet, replicas without GPUs included."""
        pending = sum(isinstance(new, PendingReplica) for new in self._pending)
        parked = sum(map(len, self._parked.values()))
        return len(self.placements) + len(self.unplaced) + pending + parked

    @property
    def has_unplaced(self) -> bool:
        """Whether a replica waits for GPUs, or an actor for its first answer."""
        return bool(self.unplaced or self._pending)

    def clocks_mhz(self, replica: str) -> tuple[int, ...]:
        """Return the SM clocks that a replica's GPUs can be limited to, MHz."""
        place = self.placements[replica]
        info = self.nodes[place.node_id].info
        return next(g.clocks_mhz for g in info.gpus if g.index in place.gpu_indices)

    @property
    def ready(self) -> list[str]:
        """Names of the replicas whose engines started at the begin, in their order."""
        return [name for name in self.placements if name in self.starts.ready]

    @property
    def rated_w(self) -> float | None:
        """Sum of the highest board power limits of the replicas' GPUs, W; None if one has none."""
        limits_w = [
            gpu.power_limit_w
            for place in self.placements.values()
            for gpu in self.nodes[place.node_id].info.gpus
            if gpu.index in place.gpu_indices
        ]
        known_w = [limit_w for limit_w in limits_w if limit_w is not None]
        return sum(known_w) if len(known_w) == len(limits_w) else None

    def open_nodes(self, machines: list[Machine]) -> None:
        """Open the GPUs of every machine, and place all replicas on free GPUs.

        A node that does not open, or opens too late, is left out until it does.

        Raises:
            UsageError: The configuration cannot be run on these machines.
            ReplicaError: No node opens.
        """
        self._machines = len(machines)
        opening = [self._create_node(machine) for machine in machines]
        errors = self._wait_for_nodes(opening)
        if errors and not self.nodes:
            raise errors[0]
        self._drop_other_models()
        opened = [node.machine for node in self.nodes.values()]
        machines = [*opened, *(new.machine for new in self._pending)]
        free = soon_free(self._config.fleet, machines)
        names = self._pools.name_replicas(opened, free)
        sizes = [self._size(name) for name in names]
        places = spread(sizes, [(machine, free[machine.id]) for machine in opened])
        on_machine = Counter(machine.id for machine in places if machine is not None)
        new = [
            self._create_replica(name, machine, on_machine[machine.id])
            for name, machine in zip(names, places, strict=True)
            if machine is not None
        ]
        self.unplaced += [n for n, machine in zip(names, places, strict=True) if machine is None]
        self._wait_for_replicas(new)
        self._name_pools()

    def start(self, begin: Callable[[str], None], note: Callable[[str], None]) -> None:
        """Start the engines of all replicas, and wait for the first ones.

        Args:
            begin: Gets a line at the begin of each stage.
            note: Gets a line about how far a stage is.

        Raises:
            UsageError: The configuration cannot be run by an engine.
            ReplicaError: No engine can start.
        """
        for place in self.placements.values():
            machine = self.nodes[place.node_id].machine
            self.starts.start(place, self._downloads[place.model].folder_on(machine))
        needed = {m: download for m, download in self._downloads.items() if download.is_needed}
        for model, download in needed.items():
            begin(f"getting the model {self._pools.configs[model].model.name}")
            while not download.has_any and not self.starts.is_too_late:
                time.sleep(POLL_S)
                note(download.line())
        count = len(self.placements)
        begin(f"loading {count} replica{'' if count == 1 else 's'}: weights and warm-up")
        self.starts.wait(note, lambda: "; ".join(filter(None, map(_line, needed.values()))))

    def remove_node(self, node_id: str) -> None:
        """Remove a node that has left the cluster; the replicas on it become unplaced."""
        _log.warning("node %s has left the cluster", node_id[:8])
        del self.nodes[node_id]
        names = [name for name, p in self.placements.items() if p.node_id == node_id]
        for name in names:
            del self.placements[name]
        self.unplaced += names

    def move(self, replica: str, pool: str, model: str) -> None:
        """Note that a replica belongs to another pool now."""
        place = self.placements.get(replica)
        if place is not None and place.pool != pool:
            self._pools.move(replica, model)
            settings = settings_from_config(self._pools.config_of(replica))
            self.placements[replica] = place.in_pool(pool, model, settings)

    def seek_other_gpus(self, replica: str) -> None:
        """Let a quarantined replica be placed again where GPUs are free.

        Its actor stays, so that Ray gives the GPUs that it has to no other one.
        """
        each, free = self._size(replica), free_gpus()
        is_free = any(free.get(node_id, 0) >= each for node_id in self.nodes)
        if is_free and replica in self.placements:
            self._holding.append(self.placements.pop(replica).actor)
            self.unplaced.append(replica)

    def last_log_lines(self, replica: str) -> str:
        """Return the last lines of the log of an engine; empty if they cannot be read."""
        if replica not in self.placements:
            return ""
        call = self.placements[replica].node.last_log_lines.remote(replica)
        try:
            return str(call_result(call, replica, LOG_TIMEOUT_S))
        except (ReplicaError, UsageError):
            return ""

    def park_node(self, node_id: str) -> None:
        """Remove a node that was switched off; its replicas wait until it is on again."""
        before = len(self.unplaced)
        self.remove_node(node_id)
        self._parked[node_id] = self.unplaced[before:]
        del self.unplaced[before:]

    def unpark_node(self, node_id: str) -> None:
        """Place the replicas of a node again that was switched on, as soon as it has joined."""
        self.unplaced += self._parked.pop(node_id, [])

    def place_unplaced(self, alive: list[Machine]) -> list[Placement]:
        """Request room for unplaced replicas, and return those that have found it.

        They are not started yet. This does not wait: a pending actor is checked at the next call.
        """
        free = free_gpus() if self.unplaced else {}
        for machine in sorted(alive, key=lambda machine: self._pauses.failures[machine.id]):
            self._fill(machine, free)
        placed: list[Placement] = []
        for new in tuple(self._pending):
            done, _ = ray.wait([new.call], timeout=0)
            if done or time.monotonic() - new.called_s > PLACE_TIMEOUT_S:
                self._pending.remove(new)
                placed += self._finish(new)
        return placed

    def stop(self) -> None:
        """Stop every engine, undo every limit, and remove every file."""
        # An engine that is still starting would handle the call only afterwards.
        starting = self.starts.running()
        running = [place for name, place in self.placements.items() if name not in starting]
        for calls in (
            [place.actor.stop.remote() for place in running],
            [actor.close.remote() for actor in self._node_actors],
        ):
            if calls:
                ray.wait(calls, num_returns=len(calls), timeout=STOP_TIMEOUT_S)
        for download in self._downloads.values():
            download.end()
        pending = [new.actor for new in self._pending if isinstance(new, PendingReplica)]
        placed = [place.actor for place in self.placements.values()]
        for actor in [*placed, *pending, *self._holding]:
            ray.kill(actor)

    def every(self) -> list[Any]:
        """Return the Ray handles of all actors that are in use."""
        placed = [place.actor for place in self.placements.values()]
        return [*self.node_actors.values(), *placed, *self._holding]

    def state(self) -> ActorsState:
        """Return what another driver needs to go on with these actors.

        An actor that has not answered yet is none of them: the other driver ends it.
        """
        pending = [new.name for new in self._pending if isinstance(new, PendingReplica)]
        return ActorsState(
            secret=self._new.secret,
            nodes=self.nodes,
            machines=self._machines,
            placements=self.placements,
            unplaced=(*self.unplaced, *pending),
            models=self._pools.models,
            kinds=self._pools.kinds,
            ready=frozenset(self.starts.ready),
            holding=tuple(self._holding),
            parked=self._parked,
            others=frozenset(self._others),
        )

    def go_on(self, state: ActorsState) -> None:
        """Go on with the actors of another driver."""
        self._pools.models, self._pools.kinds = dict(state.models), state.kinds
        self._new = replace(self._new, secret=state.secret)
        self.nodes, self._machines = dict(state.nodes), state.machines
        self._node_actors = list(self.node_actors.values())
        self.placements.update(state.placements)
        self.unplaced, self.starts.ready = list(state.unplaced), set(state.ready)
        self._holding, self._others = list(state.holding), set(state.others)
        self._parked = dict(state.parked)

    def _fill(self, machine: Machine, free: Mapping[str, int]) -> None:
        """Create as many unplaced replicas on a machine as it has room for; first its node."""
        if self._pauses.lasts(machine.id, time.monotonic()) or machine.id in self._others:
            return
        pending = sum(new.machine.id == machine.id for new in self._pending)
        if machine.id in self.nodes:
            self._fill_open(machine, free.get(machine.id, 0))
        elif self.unplaced and not pending:
            self._pending.append(self._create_node(machine))

    def _fill_open(self, machine: Machine, free: int) -> None:
        """Create as many unplaced replicas as the free GPUs of an open machine hold."""
        waiting = [new for new in self._pending if isinstance(new, PendingReplica)]
        left = free - sum(self._size(new.name) for new in waiting if new.machine.id == machine.id)
        for name in tuple(self.unplaced):
            each = self._size(name)
            if each <= left:
                left -= each
                self.unplaced.remove(name)
                self._pending.append(self._create_replica(name, machine, free // each))

    def _finish(self, new: PendingNode | PendingReplica) -> list[Placement]:
        """Take the result of a pending actor; kill one that failed, to try another machine."""
        try:
            match new:
                case PendingNode():
                    self._finish_node(new, 0.0)
                    self._drop_other_models()
                    return []
                case PendingReplica():
                    return [self._finish_replica(new, 0.0)]
        except (ReplicaError, UsageError) as error:
            _log.warning("no replica on node %s: %s", new.machine.id[:8], error)
        self._leave_out(new)
        if isinstance(new, PendingReplica):
            self.unplaced.append(new.name)
        return []

    def _leave_out(self, new: PendingNode | PendingReplica) -> None:
        """Kill an actor that failed; its machine is tried again after a growing pause."""
        self._pauses.begin(new.machine.id, time.monotonic())
        ray.kill(new.actor)

    def _wait_for_nodes(self, opening: list[PendingNode]) -> list[SteppeError]:
        """Take the nodes that open soon enough; return why others do not. Late ones are pending."""
        errors: list[SteppeError] = []
        for new, is_done in answered(opening, self._config.fleet.wait_s):
            if not is_done and self.nodes:
                self._pending.append(new)
                continue
            try:
                self._finish_node(new, OPEN_TIMEOUT_S)
            except (ReplicaError, UsageError) as error:
                errors.append(error)
                self._leave_out(new)
        if self.nodes:
            for why in errors:
                _log.warning("a node is left out: %s", why)
        return errors

    def _wait_for_replicas(self, new: list[PendingReplica]) -> None:
        """Take the replicas that get their GPUs soon enough; late ones are pending.

        Raises:
            UsageError: The GPUs of none of them are usable.
            ReplicaError: None of them gets its GPUs.
        """
        first: SteppeError | None = None
        for replica, is_done in answered(new, self._config.fleet.wait_s):
            if not is_done and self.placements:
                self._pending.append(replica)
                continue
            try:
                self._finish_replica(replica, OPEN_TIMEOUT_S)
            except (ReplicaError, UsageError) as error:
                _log.warning("%s has no GPUs: %s", replica.name, error)
                first = first or error
                self._leave_out(replica)
                self.unplaced.append(replica.name)
        if first is not None and not self.placements:
            raise first

    def _drop_other_models(self) -> None:
        """Close the nodes whose GPUs are not of the configured model.

        Raises:
            ConfigError: No node is left; the message lists the GPUs that were found.
        """
        wanted, found = self._config.fleet.gpu_model, set[str]()
        for node_id, node in list(self.nodes.items()):
            names = {gpu.name for gpu in node.info.gpus}
            found |= names
            if not all(is_model(name, wanted) for name in names):
                _log.info("node %s is not used: its GPUs are %s", node_id[:8], sorted(names))
                del self.nodes[node_id]
                self._others.add(node_id)
                node.actor.close.remote()
        if found and not self.nodes:
            raise ConfigError(
                f"fleet.gpu_model: asked for {wanted!r}, found {', '.join(sorted(found))}"
            )

    def _create_node(self, machine: Machine) -> PendingNode:
        actor = self._new.node(machine, self._machines)
        self._node_actors.append(actor)
        return PendingNode(machine, actor, actor.info.remote(), time.monotonic())

    def _finish_node(self, new: PendingNode, timeout_s: float) -> None:
        info: NodeInfo = call_result(new.call, f"node {new.machine.address}", timeout_s)
        self.nodes[new.machine.id] = RunningNode(new.machine, new.actor, info)

    def _create_replica(self, name: str, machine: Machine, on_machine: int) -> PendingReplica:
        actor = self._new.replica(name, machine)
        call = actor.gpu_indices.remote()
        return PendingReplica(name, on_machine, machine, actor, call, time.monotonic())

    def _finish_replica(self, new: PendingReplica, timeout_s: float) -> Placement:
        gpus: list[int] = call_result(new.call, new.name, timeout_s)
        if new.machine.id not in self.nodes:
            raise ReplicaError(f"{new.name}: its node is lost")
        node = self.nodes[new.machine.id]
        on_node_already = sum(p.node_id == new.machine.id for p in self.placements.values())
        infos = gpus_at(node, gpus)
        ranges_w = [gpu.power_range_w for gpu in infos]
        is_limited = self._config.control.power_limits and None not in ranges_w
        place = Placement(
            replica=new.name,
            actor=new.actor,
            node_id=new.machine.id,
            node=node.actor,
            gpu_indices=gpus,
            cores=share_of_cores(node.info.cores, on_node_already, max(new.on_machine, 1)),
            limits_clocks=all(gpu.clocks_mhz for gpu in infos),
            power_ranges_w=tuple(r for r in ranges_w if r is not None) if is_limited else (),
            pool=self._pools.pool_of(new.name, infos),
            model=self._pools.model_of(new.name),
        )
        self.placements[new.name] = place
        return place


def gpus_at(node: RunningNode, indices: Collection[int]) -> list[GpuInfo]:
    """Return the GPUs of a node with these NVML indices."""
    return [gpu for gpu in node.info.gpus if gpu.index in indices]


def _line(download: ModelDownloads) -> str:
    return download.line()
