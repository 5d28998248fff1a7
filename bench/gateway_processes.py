"""Two gateway processes on one port, and their coordinator, without Ray."""

from __future__ import annotations

import asyncio
import pickle
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import aiohttp
from aiohttp import web
from prometheus_client import Metric

from steppe.gateway.ended_requests import EndedRequest
from steppe.gateway.server import Gateway, GatewayModel, GatewaySettings, Route
from steppe.gateway.sharing.coordinator import Coordinator
from steppe.gateway.sharing.messages import (
    ChargeAnswer,
    ChargeBatch,
    GatewayReport,
    GatewayShare,
    UnreachableError,
)

LIMIT = 1000
"""Most requests at the engine."""


async def coordinator(ready: Connection) -> None:
    """Serve a coordinator; calls and answers are pickled objects."""
    made = Coordinator()

    async def answer(request: web.Request) -> web.Response:
        message: Any = pickle.loads(await request.read())
        found: Any = getattr(made, request.match_info["method"])(message)
        return web.Response(body=pickle.dumps(found))

    application = web.Application()
    application.router.add_post("/{method:exchange|charge}", answer)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    ready.send(f"http://127.0.0.1:{runner.addresses[0][1]}")
    await asyncio.Event().wait()


@dataclass(frozen=True, slots=True)
class Peers:
    """Calls the coordinator; the gateways need not find each other here."""

    url: str
    session: aiohttp.ClientSession

    async def exchange(self, report: GatewayReport) -> GatewayShare:
        """Report to the coordinator."""
        found: GatewayShare = await self._ask("exchange", report)
        return found

    async def charge(self, batch: ChargeBatch) -> ChargeAnswer:
        """Begin and end requests of tenants with limits."""
        found: ChargeAnswer = await self._ask("charge", batch)
        return found

    async def metrics(self, gateway: str) -> list[Metric]:
        """Refuse: no metrics are asked for here."""
        raise UnreachableError(gateway)

    async def find(self, gateway: str, request: str) -> EndedRequest | None:
        """Refuse: no request is looked up here."""
        raise UnreachableError(f"{gateway}: {request}")

    async def withdraw(self, gateway: str, work: str) -> bool:
        """Refuse: no job is declared here."""
        raise UnreachableError(f"{gateway}: {work}")

    async def _ask(self, method: str, message: object) -> Any:
        body = pickle.dumps(message)
        async with self.session.post(f"{self.url}/{method}", data=body) as answer:
            return pickle.loads(await answer.read())


async def shared_gateway(ready: Connection) -> None:
    """Serve one of two gateways, and forget finished requests each second.

    It gets its name, the port and the URLs of coordinator and engine, and sends its own URL.
    """
    name, port, coordinator_url, engine_url = ready.recv()
    settings = GatewaySettings(
        "127.0.0.1",
        port,
        LIMIT,
        60.0,
        (GatewayModel("fake", 2.0),),
        name=name,
        gateways=2,
        shares_port=True,
    )
    async with aiohttp.ClientSession() as session:
        peers, server = Peers(coordinator_url, session), Gateway(settings)
        server.share(peers, peers)
        ready.send(await server.start())
        while True:
            server.set_routes((Route("r0", engine_url, LIMIT),), None)
            await asyncio.sleep(1)
            server.drain_finished()
