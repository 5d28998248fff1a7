"""A gateway in this process, and the fake replicas and the client of its tests."""

from __future__ import annotations

import asyncio
import io
import ssl
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import aiohttp
from aiohttp import web
from multidict import CIMultiDictProxy
from yarl import URL

from steppe.config import RunConfig
from steppe.config.sites import SitesSection
from steppe.gateway.access import OPEN, AccessSettings
from steppe.gateway.access_log import NO_ACCESS_LOG, AccessLogSettings
from steppe.gateway.batch_api import UploadLimits
from steppe.gateway.ledger.link import LedgerLink
from steppe.gateway.replica_caches import AffinitySettings
from steppe.gateway.server import Gateway, GatewayAlias, GatewayModel, Route
from steppe.services.connections import HTTP_LIMITS, HttpLimits
from steppe.sites.peer import RouterService

if TYPE_CHECKING:  # OpenTelemetry is an extra
    from steppe.gateway.tracing import RequestTraces

CHAT_BODY = (
    b'{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,'
    b'"message":{"role":"assistant","content":"Hi"},"finish_reason":"length"}],"usage":'
    b'{"prompt_tokens":11,"total_tokens":13,"completion_tokens":2,'
    b'"prompt_tokens_details":{"cached_tokens":8}}}'
)
MODELS_BODY = (
    b'{"object":"list","data":[{"id":"m","object":"model","created":1,"owned_by":"vllm"}]}'
)
ONE_MODEL = GatewayModel("m", ttft_s=2.0)


@dataclass(frozen=True)
class Cut:
    """The replica dies here."""


Step = bytes | Cut | asyncio.Event


@dataclass
class ReceivedRequest:
    method: str
    target: str
    headers: CIMultiDictProxy[str]
    body: bytes


@dataclass
class FakeReplica:
    """Answers with a whole body, or with a stream that is a list of steps."""

    name: str
    url: str = ""
    status: int = 200
    body: bytes = CHAT_BODY
    content_type: str = "text/event-stream; charset=utf-8"
    location: str = ""
    stream: Sequence[Step] = ()
    model: str = ""
    models: bytes = MODELS_BODY
    received: list[ReceivedRequest] = field(default_factory=list)
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)
    disconnected: asyncio.Event = field(default_factory=asyncio.Event)
    runner: web.AppRunner | None = None
    tls: ssl.SSLContext | None = None

    def route(self, limit: int = 8) -> Route:
        return Route(self.name, self.url, limit, self.model)

    async def start(self) -> None:
        application = web.Application(client_max_size=64 << 20)
        application.router.add_route("*", "/{tail:.*}", self.answer)
        self.runner = web.AppRunner(
            application,
            handler_cancellation=True,
            shutdown_timeout=0.1,
            auto_decompress=False,
            max_field_size=64 << 10,
        )
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", 0, ssl_context=self.tls).start()
        scheme = "http" if self.tls is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self.runner.addresses[0][1]}"

    async def stop(self) -> None:
        if self.runner is not None:
            await self.runner.cleanup()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.received.append(
            ReceivedRequest(request.method, request.raw_path, request.headers, body)
        )
        try:
            await self.may_answer.wait()
            if self.stream:
                return await self._streamed(request)
        except asyncio.CancelledError:
            self.disconnected.set()
            raise
        body = self.models if request.path == "/v1/models" else self.body
        headers = {"Content-Type": "application/json", "X-Replica": self.name}
        if self.location:
            headers["Location"] = self.location
        return web.Response(status=self.status, body=body, headers=headers)

    async def _streamed(self, request: web.Request) -> web.StreamResponse:
        headers = {"Content-Type": self.content_type, "X-Replica": self.name}
        response = web.StreamResponse(status=self.status, headers=headers)
        await response.prepare(request)
        for step in self.stream:
            match step:
                case bytes():
                    await response.write(step)
                    await asyncio.sleep(0)
                case asyncio.Event():
                    await step.wait()
                case Cut():
                    assert request.transport is not None
                    request.transport.abort()
        return response


@dataclass
class Site:
    """A gateway, its fake replicas, and a client that reads raw bytes."""

    stack: AsyncExitStack
    client: aiohttp.ClientSession
    gateway: Gateway
    url: str = ""
    routes: tuple[Route, ...] = ()

    async def replica(self, name: str, *, answers: bool = True) -> FakeReplica:
        replica = FakeReplica(name)
        if answers:
            replica.may_answer.set()
        await replica.start()
        self.stack.push_async_callback(replica.stop)
        return replica

    async def awake_replica(self, *, answers: bool = True) -> FakeReplica:
        """Return the only replica of the routing table, `r0`."""
        replica = await self.replica("r0", answers=answers)
        self.route(replica)
        return replica

    def route(self, *replicas: FakeReplica, limit: int = 8) -> None:
        self.routes = tuple(replica.route(limit) for replica in replicas)
        self.gateway.set_routes(self.routes, None)

    async def get(self, path: str) -> tuple[int, CIMultiDictProxy[str], bytes]:
        async with self.client.get(self.url + path) as answer:
            return answer.status, answer.headers, await answer.read()

    async def post(
        self, path: str = "/v1/chat/completions", body: bytes = b"{}", **headers: str
    ) -> tuple[int, CIMultiDictProxy[str], bytes]:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        url, data = URL(self.url + path, encoded=True), io.BytesIO(body)
        async with self.client.post(url, data=data, headers=sent) as answer:
            return answer.status, answer.headers, await answer.read()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                await asyncio.sleep(0.001)


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class SiteFactory(Protocol):
    async def __call__(
        self,
        *,
        max_waiting: int = 10,
        max_wait_s: float = 30.0,
        max_body_bytes: int = 64 << 20,
        write_timeout_s: float = 60.0,
        keep_alive_s: float = 15.0,
        hold_s: float = 3600.0,
        now_s: Callable[[], float] = time.monotonic,
        models: tuple[GatewayModel, ...] = (ONE_MODEL,),
        aliases: tuple[GatewayAlias, ...] = (),
        access: AccessSettings = OPEN,
        http: HttpLimits = HTTP_LIMITS,
        stop_timeout_s: float = 0.1,
        energy_wait_s: float = 2.0,
        config: RunConfig | None = None,
        admin_key: str = "",
        access_log: AccessLogSettings = NO_ACCESS_LOG,
        traces: RequestTraces | None = None,
        affinity: AffinitySettings | None = None,
        uploads: UploadLimits | None = None,
        run_secret: str = "",
        ledger: LedgerLink | None = None,
        page: bool = True,
        sites: SitesSection | None = None,
        router: RouterService | None = None,
        stale_s: float = 3.0,
    ) -> Site: ...
