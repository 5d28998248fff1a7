"""The gateways of a run, each an actor with a process of its own."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Any

import ray

from steppe.config import RunConfig
from steppe.config.gateway import ALL_ADDRESSES
from steppe.errors import ReplicaError, UsageError
from steppe.fleet.cluster import (
    call_result,
    error_line,
    gateway_machines,
    local_node_id,
    on_node,
)
from steppe.fleet.driver.config_changer import ConfigChanger
from steppe.fleet.driver.gateway_link import GatewayLink
from steppe.fleet.driver.gateway_settings import gateway_settings
from steppe.fleet.driver.new_actors import ActorLifetime
from steppe.fleet.driver.pending_actors import MachinePauses
from steppe.fleet.driver.usage_totals import UsageTotals
from steppe.fleet.gateway_actor import GatewayActor
from steppe.fleet.gateway_peers import GatewayCoordinator, coordinator_actor, gateway_actor
from steppe.gateway.server import ChangeResult, GatewaySettings, RequestEnergy, hold_port
from steppe.report.records import RequestRecord

START_TIMEOUT_S = 60.0
"""Longest wait for a gateway to listen, s."""
CLOSE_S = 10.0
"""Longest wait for the gateways to close, s, beside the time for outstanding requests."""
COORDINATOR = "the gateways' coordinator"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class GatewayPlace:
    """Where one gateway runs.

    Attributes:
        name: Its name among those of the run; empty if it is the only one.
        node_id: Ray's id of its node.
        host: The address that it listens on.
    """

    name: str
    node_id: str
    host: str


@dataclass(frozen=True, slots=True)
class GatewaysState:
    """The gateways of a run, for another driver.

    Attributes:
        actors: Their Ray handles, by Ray's name of the actor.
        coordinator: Ray handle of their coordinator; None for a single one.
        settings: How they are set up, with the port that they share.
        places: Where they run, by Ray's name of the actor.
        usage: The usage that they were sent; None before the run begins.
    """

    actors: Mapping[str, Any]
    coordinator: Any
    settings: GatewaySettings
    places: Mapping[str, GatewayPlace]
    usage: UsageTotals | None


class Gateways:
    """Starts the gateways, gives each what is new in the books, and closes them.

    Attributes:
        actors: Their Ray handles, by Ray's name of the actor.
    """

    def __init__(self, config: RunConfig, lifetime: ActorLifetime) -> None:
        """Begin without gateways."""
        self._config, self._lifetime = config, lifetime
        self.actors: dict[str, Any] = {}
        self._coordinator: Any = None
        self._settings: GatewaySettings
        self._held: socket.socket | None = None
        self._places: dict[str, GatewayPlace] = {}
        self._opening: dict[str, tuple[Any, Any]] = {}
        self._links: dict[str, GatewayLink] = {}
        self._pauses = MachinePauses()
        self._began: tuple[float, ConfigChanger] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Ray's names of the actors."""
        return tuple(self.actors)

    @property
    def watched(self) -> dict[str, Any]:
        """Ray handles of the actors that are restarted if they hang, by a name for the log."""
        coordinator = {} if self._coordinator is None else {COORDINATOR: self._coordinator}
        return self.actors | coordinator

    def open(self, replica_headers: tuple[tuple[str, str], ...]) -> str:
        """Start the gateways; return where clients reach the one on this node.

        Args:
            replica_headers: Headers that every request to a replica needs.

        Raises:
            UsageError: A gateway cannot listen, or its settings are not valid.
            ReplicaError: An actor does not answer.
        """
        self._settings = gateway_settings(self._config, replica_headers)
        if self._config.gateway.is_shared:
            self._share_port()
            self._start_coordinator()
        calls = {name: self._start(place) for name, place in self._wanted().items()}
        urls = {
            name: call_result(call, "gateway", START_TIMEOUT_S) for name, (_, call) in calls.items()
        }
        self.actors |= {name: actor for name, (actor, _) in calls.items()}
        return str(next(iter(urls.values())))

    def begin(self, began_epoch_s: float, changer: ConfigChanger) -> None:
        """Begin with empty books.

        Args:
            began_epoch_s: When the run began, s since the Unix epoch.
            changer: Gets the changes of the configuration that clients ask for.
        """
        self._began = began_epoch_s, changer
        self._links = {}
        for name in self.actors:
            self._link(name, UsageTotals(began_epoch_s))

    def state(self) -> GatewaysState:
        """Return what another driver needs to go on with these gateways."""
        usage = next((link.usage for link in self._links.values()), None)
        return GatewaysState(self.actors, self._coordinator, self._settings, self._places, usage)

    def every(self) -> list[Any]:
        """Return the Ray handles of all actors that are in use."""
        coordinator = [] if self._coordinator is None else [self._coordinator]
        return [*self.actors.values(), *coordinator]

    def go_on(self, state: GatewaysState, changer: ConfigChanger) -> None:
        """Go on with the gateways of another driver; each is sent all usage again."""
        self.actors, self._coordinator = dict(state.actors), state.coordinator
        self._settings = state.settings
        self._places = {name: state.places[name] for name in self.actors}
        if self._config.gateway.is_shared:
            self._share_port()
        if state.usage is not None:
            self._began = state.usage.began_epoch_s, changer
            for name in self.actors:
                self._link(name, state.usage.copy())

    def follow(self) -> bool:
        """Give each new node of the run a gateway, and forget those of lost nodes; never waits.

        A node whose gateway could not start is tried again after a growing pause.

        Returns:
            Whether the set of gateways has changed.
        """
        if self._config.gateway.nodes != "every":
            return False
        before, wanted = self.names, self._wanted()
        for name in self._places.keys() - wanted.keys():
            self._forget(name)
        for name in wanted.keys() - self._places.keys():
            self._try(name, wanted[name])
        for name in list(self._opening):
            self._adopt(name)
        return before != self.names

    def tell(
        self,
        closed: Sequence[RequestRecord],
        so_far: Sequence[RequestEnergy],
        results: Iterable[ChangeResult],
        services: Mapping[str, str],
    ) -> None:
        """Send each gateway what is new, see `GatewayLink.tell`."""
        found = tuple(results)
        for link in self._links.values():
            link.tell(closed, so_far, found, services)

    def close(self) -> None:
        """Refuse new requests, and wait a limited time for the outstanding ones."""
        calls = [actor.close.remote() for actor in self.actors.values()]
        if calls:
            timeout_s = self._config.gateway.drain_s + CLOSE_S
            ray.wait(calls, num_returns=len(calls), timeout=timeout_s)
        if self._held is not None:
            self._held.close()

    def _wanted(self) -> dict[str, GatewayPlace]:
        """Return where gateways are to run now, by Ray's name of the actor."""
        gateway = self._config.gateway
        if gateway.nodes == "one":
            hosts = {local_node_id(): gateway.host}
            prefix = dict.fromkeys(hosts, "")
        else:
            machines = gateway_machines(self._config.fleet.node_labels)
            is_open = gateway.host in ALL_ADDRESSES
            hosts = {m.id: gateway.host if is_open else m.address for m in machines}
            prefix = {machine.id: machine.address for machine in machines}
        places = [
            GatewayPlace(self._name(prefix[node], number), node, host)
            for node, host in hosts.items()
            for number in range(gateway.processes)
        ]
        return {gateway_actor(self._lifetime.run_id, place.name): place for place in places}

    def _name(self, address: str, number: int) -> str:
        """Return the name of a gateway: its number, the address of its node, or both."""
        if not address:
            return str(number) if self._config.gateway.processes > 1 else ""
        return f"{address}-{number}" if self._config.gateway.processes > 1 else address

    def _share_port(self) -> None:
        """Choose the port that all processes share; it stays taken while one restarts."""
        gateway = self._config.gateway
        if gateway.nodes == "one":
            self._held, port = hold_port(gateway.host, self._settings.port)
            self._settings = replace(self._settings, port=port)

    def _start_coordinator(self) -> None:
        remote: Any = ray.remote(GatewayCoordinator)
        options = {
            **self._lifetime.options(coordinator_actor(self._lifetime.run_id)),
            "max_concurrency": 1000,
            "scheduling_strategy": on_node(local_node_id()),
        }
        self._coordinator = remote.options(**options).remote()

    def _start(self, place: GatewayPlace) -> tuple[Any, Any]:
        """Create the actor of a gateway; return it, and the call whose result is its URL."""
        name = gateway_actor(self._lifetime.run_id, place.name)
        self._places[name] = place
        remote: Any = ray.remote(GatewayActor)
        options = {
            **self._lifetime.options(name),
            "max_concurrency": 10_000,
            "scheduling_strategy": on_node(place.node_id),
        }
        settings = replace(self._settings, host=place.host)
        if not self._config.gateway.is_shared:
            actor = remote.options(**options).remote(settings)
        else:
            nodes = len({other.node_id for other in self._places.values()})
            part = part_of(settings, place.name, self._config.gateway.processes, nodes)
            actor = remote.options(**options).remote(part, self._lifetime.run_id)
        return actor, actor.open.remote()

    def _try(self, name: str, place: GatewayPlace) -> None:
        """Begin to start the gateway of a new node, if it is not to wait."""
        if self._pauses.lasts(name, time.monotonic()):
            return
        try:
            self._opening[name] = self._start(place)
        except (ray.exceptions.RayError, ValueError) as error:  # ValueError: the name is taken
            _log.warning("%s: asked for an actor, found: %s", name, error_line(error))
            self._drop(name)

    def _drop(self, name: str) -> None:
        """Forget a gateway that did not start, and begin its pause."""
        del self._places[name]
        self._pauses.begin(name, time.monotonic())

    def _link(self, name: str, usage: UsageTotals) -> None:
        """Begin to send a gateway what is new, and the usage so far."""
        assert self._began is not None, "begin comes first"
        _, changer = self._began
        place = self._places.get(name)
        short = "" if place is None else place.name
        self._links[name] = GatewayLink(self.actors[name], usage, changer, short)

    def _adopt(self, name: str) -> None:
        """Use a gateway that has begun to listen."""
        actor, call = self._opening[name]
        done, _ = ray.wait([call], timeout=0)
        if not done:
            return
        del self._opening[name]
        try:
            call_result(call, name, 0.0)
        except (ReplicaError, UsageError) as error:
            _log.warning("%s", error)
            ray.kill(actor, no_restart=True)
            self._drop(name)
            return
        self.actors[name] = actor
        if self._began is not None:
            usage = (link.usage.copy() for link in self._links.values())
            self._link(name, next(usage, UsageTotals(self._began[0])))

    def _forget(self, name: str) -> None:
        """Forget the gateway of a node that is lost."""
        _log.warning("%s is lost with its node", name)
        del self._places[name]
        actor, _ = self._opening.pop(name, (self.actors.pop(name, None), None))
        self._links.pop(name, None)
        if actor is not None:
            ray.kill(actor, no_restart=True)


def part_of(settings: GatewaySettings, name: str, processes: int, nodes: int) -> GatewaySettings:
    """Return the settings of one of several gateways.

    What one machine may hold is divided among its processes, the queue among all gateways.

    Args:
        settings: Those of the run.
        name: Its name.
        processes: Gateways on its node.
        nodes: Nodes with gateways.
    """
    http = replace(
        settings.http,
        connections=ceil(settings.http.connections / processes),
        connections_per_client=ceil(settings.http.connections_per_client / processes),
        bodies_bytes=max(settings.max_body_bytes, settings.http.bodies_bytes // processes),
    )
    return replace(
        settings,
        name=name,
        gateways=processes * nodes,
        shares_port=True,
        max_waiting=ceil(settings.max_waiting / (processes * nodes)),
        http=http,
    )
