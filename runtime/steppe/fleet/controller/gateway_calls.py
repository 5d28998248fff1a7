"""The controller's calls to the gateways, and what they have answered together."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

import ray

from steppe.control.variants import Shares
from steppe.fleet.cluster import error_line
from steppe.gateway.server import GatewayStatus, Route
from steppe.gateway.status import all_counts, without_open

_log = logging.getLogger(__name__)


class GatewayCalls:
    """All gateways of a run as the controller sees them: as one.

    A gateway that does not answer keeps its last status, for its requests go on at the replicas.
    What it has counted stays counted when it restarts, or leaves.
    """

    def __init__(self, actors: Mapping[str, Any] | None = None) -> None:
        """Begin without a status.

        Args:
            actors: Ray handles of the gateways, by Ray's name of the actor.
        """
        self._actors = dict(actors or {})
        self._statuses: dict[str, GatewayStatus] = {}
        self._ended: list[GatewayStatus] = []  # one at most

    def use(self, names: Iterable[str]) -> None:
        """Call these gateways from now on, by Ray's names of the actors."""
        actors = dict(self._actors)
        for name in set(names) - actors.keys():
            try:
                actors[name] = ray.get_actor(name)
            except ValueError as error:  # its node was lost
                _log.warning("%s: %s", name, error)
        self._actors = {name: actor for name, actor in actors.items() if name in names}
        for name in self._statuses.keys() - self._actors.keys():
            self._end(self._statuses.pop(name))

    @property
    def status(self) -> GatewayStatus | None:
        """The counts of all gateways together; None before the first answer."""
        if not self._statuses:
            return None
        return all_counts((*self._statuses.values(), *self._ended))

    @property
    def outstanding(self) -> Mapping[str, int]:
        """Outstanding requests of each replica."""
        status = self.status
        return {} if status is None else status.outstanding

    def request_status(self) -> dict[Any, str]:
        """Ask all gateways for their status; return the calls, with the names."""
        return {actor.status.remote(): name for name, actor in self._actors.items()}

    def read(self, call: Any, name: str) -> None:
        """Read the answer of a gateway."""
        try:
            status: GatewayStatus = ray.get(call)
        except ray.exceptions.RayError as error:
            _log.warning("%s does not answer: %s", name, error_line(error))
            return
        before = self._statuses.get(name)
        if before is not None and status.arrived < before.arrived:
            self._end(before)
        self._statuses[name] = status

    def _end(self, status: GatewayStatus) -> None:
        """Keep what a gateway has counted that is gone; what it had open is gone, too."""
        if status.models:
            self._ended = [all_counts((*self._ended, without_open(status)))]

    def await_status(self, timeout_s: float) -> None:
        """Wait for the first status: without it, there seem to be no requests."""
        calls = self.request_status()
        done, _ = ray.wait([*calls], num_returns=len(calls), timeout=timeout_s)
        for call in done:
            self.read(call, calls[call])

    def set_routes(
        self, routes: tuple[Route, ...], retry_after_s: Mapping[str, float | None]
    ) -> None:
        """Let all route to these replicas from now on, see `Gateway.set_routes`."""
        for actor in self._actors.values():
            actor.set_routes.remote(routes, retry_after_s)

    def set_shares(self, variants: Mapping[str, Shares]) -> None:
        """Let all deal the requests for aliases by these shares, see `Gateway.set_shares`."""
        for actor in self._actors.values():
            actor.set_shares.remote({name: dict(of) for name, of in variants.items()})

    def hand_over(self, replica: str) -> None:
        """Let the requests of a replica go on elsewhere, where they can."""
        for actor in self._actors.values():
            actor.hand_over.remote(replica)

    def set_metrics(self, text: bytes) -> None:
        """Let all show the controller's metrics."""
        for actor in self._actors.values():
            actor.set_metrics.remote(text)

    def set_fleet_state(self, state: bytes) -> None:
        """Let all show this state of the fleet, a JSON object."""
        for actor in self._actors.values():
            actor.set_fleet_state.remote(state)
