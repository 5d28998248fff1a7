"""The gateways of a run, each an actor with a process of its own."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import ray

from steppe.config import RunConfig
from steppe.fleet.cluster import call_result, local_node_id, on_node
from steppe.fleet.driver.access import settled
from steppe.fleet.driver.config_changer import ConfigChanger
from steppe.fleet.driver.gateway_link import GatewayLink
from steppe.fleet.driver.gateway_settings import gateway_settings
from steppe.fleet.driver.new_actors import ActorLifetime
from steppe.fleet.driver.usage_totals import UsageTotals
from steppe.fleet.gateway_actor import GatewayActor
from steppe.gateway.server import ChangeResult, RequestEnergy
from steppe.report.records import RequestRecord

START_TIMEOUT_S = 60.0
"""Longest wait for a gateway to listen, s."""
CLOSE_S = 10.0
"""Longest wait for the gateways to close, s, beside the time for outstanding requests."""


class Gateways:
    """Starts the gateways, gives each what is new in the books, and closes them.

    Attributes:
        actors: Their Ray handles, by Ray's name of the actor.
    """

    def __init__(self, config: RunConfig, lifetime: ActorLifetime) -> None:
        """Begin without gateways."""
        self._config, self._lifetime = config, lifetime
        self.actors: dict[str, Any] = {}
        self._links: list[GatewayLink] = []

    @property
    def names(self) -> tuple[str, ...]:
        """Ray's names of the actors."""
        return tuple(self.actors)

    def open(self, replica_headers: tuple[tuple[str, str], ...]) -> str:
        """Start the gateways; return where clients reach them.

        Args:
            replica_headers: Headers that every request to a replica needs.

        Raises:
            UsageError: A gateway cannot listen, or its settings are not valid.
            ReplicaError: The actor does not answer.
        """
        name = f"steppe-gateway-{self._lifetime.run_id}"
        remote: Any = ray.remote(GatewayActor)
        options = {
            **self._lifetime.options(name),
            "max_concurrency": 10_000,
            "scheduling_strategy": on_node(local_node_id()),
        }
        settings = gateway_settings(self._config, replica_headers)
        self.actors[name] = remote.options(**options).remote(settings)
        url: str = call_result(self.actors[name].open.remote(), "gateway", START_TIMEOUT_S)
        return url

    def begin(self, began_epoch_s: float, changer: ConfigChanger) -> None:
        """Begin with empty books.

        Args:
            began_epoch_s: When the run began, s since the Unix epoch.
            changer: Gets the changes of the configuration that clients ask for.
        """
        self._links = [
            GatewayLink(actor, UsageTotals(began_epoch_s), changer)
            for actor in self.actors.values()
        ]

    @property
    def usage(self) -> UsageTotals | None:
        """The usage that they were told; None before the run begins."""
        return self._links[0].usage if self._links else None

    def go_on(
        self, actors: Mapping[str, Any], usage: UsageTotals | None, changer: ConfigChanger
    ) -> None:
        """Go on with the gateways of another driver; each is told all usage again."""
        self.actors = dict(actors)
        if usage is not None:
            usage.change_all()
            self._links = [
                GatewayLink(actor, copy.deepcopy(usage), changer) for actor in actors.values()
            ]

    def tell(
        self,
        closed: Sequence[RequestRecord],
        so_far: Sequence[RequestEnergy],
        results: Iterable[ChangeResult],
        services: Mapping[str, str],
    ) -> None:
        """Send each gateway what is new, see `GatewayLink.tell`."""
        if closed:
            of_tenants = [settled(request) for request in closed]
            for actor in self.actors.values():
                actor.settle.remote(of_tenants)
        found = tuple(results)
        for link in self._links:
            link.tell(closed, so_far, found, services)

    def close(self) -> None:
        """Refuse new requests, and wait a limited time for the outstanding ones."""
        calls = [actor.close.remote() for actor in self.actors.values()]
        if calls:
            timeout_s = self._config.gateway.drain_s + CLOSE_S
            ray.wait(calls, num_returns=len(calls), timeout=timeout_s)
