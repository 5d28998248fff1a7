"""The actor that hosts the gateway."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping

from prometheus_client import Metric

from steppe.fleet.gateway_peers import GatewayPeers
from steppe.fleet.messages import Drained, EndedRequests
from steppe.gateway.ended_requests import EndedRequest
from steppe.gateway.server import (
    DriverNews,
    FinishedRequest,
    Gateway,
    GatewayNews,
    GatewaySettings,
    GatewayStatus,
    Route,
    SettledRequest,
)


class GatewayActor:
    """Hosts the gateway in a process of its own, so that control never slows a stream."""

    def __init__(self, settings: GatewaySettings, run_id: str = "") -> None:
        """Make the gateway; `open` lets it listen.

        Args:
            settings: How it listens.
            run_id: Name of the run if it has several gateways.
        """
        self._gateway = Gateway(settings)
        if run_id:
            peers = GatewayPeers(run_id)
            self._gateway.share(peers, peers)
        self._opening = asyncio.Lock()
        self._url = ""
        self._ended: list[FinishedRequest] = []
        self._known = Drained(secrets.token_hex(8))

    async def open(self) -> str:
        """Listen, once; return the URL.

        Raises:
            UsageError: The port is in use.
        """
        async with self._opening:
            if not self._url:
                self._url = await self._gateway.start()
        return self._url

    async def ping(self) -> None:
        """Return: this actor does not hang."""

    async def status(self) -> GatewayStatus:
        """Return the totals for the controller; a gateway that has restarted listens again."""
        await self.open()
        return self._gateway.status()

    async def drain(self, known: Drained, closing: bool = False) -> EndedRequests:
        """Return the requests that ended and are not known yet.

        They are kept until a call acknowledges them, for the driver may die with the answer.

        Args:
            known: What the driver has.
            closing: Whether to return the unfinished ones, too.
        """
        await self.open()
        self._ended += self._gateway.drain_finished()
        if known.process == self._known.process and known.number > self._known.number:
            del self._ended[: known.number - self._known.number]
            self._known = known
        unfinished = self._gateway.unfinished() if closing else []
        return EndedRequests(self._known, (*self._ended, *unfinished))

    async def open_ids(self) -> list[str]:
        """Return the ids that the engines know the open requests by."""
        await self.open()
        return [request.engine_id for request in self._gateway.unfinished()]

    async def tell(self, news: DriverNews) -> GatewayNews:
        """Take what is new in the driver's books; return what the driver has to know."""
        await self.open()
        return self._gateway.tell(news)

    async def set_unclaimed(self, energy_j: float) -> None:
        """Show how much energy no request claims, J."""
        self._gateway.set_unclaimed(energy_j)

    async def settle(self, settled: list[SettledRequest]) -> None:
        """Charge tenants what the books give for requests that have ended."""
        await self.open()
        self._gateway.settle(settled)

    async def set_routes(
        self, routes: tuple[Route, ...], retry_after_s: Mapping[str, float | None]
    ) -> None:
        """Route to these replicas from now on, see `Gateway.set_routes`."""
        self._gateway.set_routes(routes, retry_after_s)

    async def set_shares(self, shares: Mapping[str, Mapping[str, float]]) -> None:
        """Deal the requests for aliases by these shares, see `Gateway.set_shares`."""
        self._gateway.set_shares(shares)

    async def hand_over(self, replica: str) -> int:
        """Let the requests of a replica go on elsewhere, where they can; return their number."""
        return self._gateway.hand_over(replica)

    async def set_metrics(self, text: bytes) -> None:
        """Add the controller's metrics to the gateway's own."""
        await self.open()
        self._gateway.set_metrics(text)

    async def set_fleet_state(self, state: bytes) -> None:
        """Show this state of the fleet, a JSON object, in the status."""
        self._gateway.set_fleet_state(state)

    async def metrics(self) -> list[Metric]:
        """Return the metrics of this gateway alone, for another one."""
        await self.open()
        return self._gateway.own_metrics()

    async def find(self, request: str) -> EndedRequest | None:
        """Return a request that ended lately here, for another gateway."""
        return self._gateway.find(request)

    async def withdraw(self, work: str) -> bool:
        """Forget a job that was declared here, for another gateway."""
        return self._gateway.withdraw(work)

    async def close(self) -> None:
        """Refuse the waiting requests and stop listening."""
        await self._gateway.stop()
