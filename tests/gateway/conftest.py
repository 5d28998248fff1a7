from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import aiohttp
import pytest
from aiohttp import web
from multidict import CIMultiDictProxy
from yarl import URL

from steppe.gateway.server import Gateway, GatewaySettings, Route

CHAT_BODY = (
    b'{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,'
    b'"message":{"role":"assistant","content":"Hi"},"finish_reason":"length"}],"usage":'
    b'{"prompt_tokens":11,"total_tokens":13,"completion_tokens":2,'
    b'"prompt_tokens_details":{"cached_tokens":8}}}'
)
MODELS_BODY = (
    b'{"object":"list","data":[{"id":"m","object":"model","created":1,"owned_by":"vllm"}]}'
)


@dataclass(frozen=True)
class Cut:
    """The replica dies here."""


Step = bytes | Cut | asyncio.Event


@dataclass
class Seen:
    method: str
    target: str
    headers: CIMultiDictProxy[str]
    body: bytes


@dataclass
class FakeReplica:
    """Answers as it is told: a whole body, or a stream that is a list of steps."""

    name: str
    url: str = ""
    status: int = 200
    body: bytes = CHAT_BODY
    content_type: str = "text/event-stream; charset=utf-8"
    location: str = ""
    stream: list[Step] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    hung_up: asyncio.Event = field(default_factory=asyncio.Event)
    runner: web.AppRunner | None = None

    def route(self, limit: int = 8) -> Route:
        return Route(self.name, self.url, limit)

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
        await web.TCPSite(self.runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self.runner.addresses[0][1]}"

    async def stop(self) -> None:
        if self.runner is not None:
            await self.runner.cleanup()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.seen.append(Seen(request.method, request.raw_path, request.headers, body))
        try:
            await self.gate.wait()
            if self.stream:
                return await self._streamed(request)
        except asyncio.CancelledError:
            self.hung_up.set()
            raise
        body = MODELS_BODY if request.path == "/v1/models" else self.body
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

    async def replica(self, name: str, *, ready: bool = True) -> FakeReplica:
        replica = FakeReplica(name)
        if ready:
            replica.gate.set()
        await replica.start()
        self.stack.push_async_callback(replica.stop)
        return replica

    def route(self, *replicas: FakeReplica, limit: int = 8) -> None:
        self.gateway.set_routes(tuple(replica.route(limit) for replica in replicas), None)

    async def post(
        self, path: str = "/v1/chat/completions", body: bytes = b"{}", **headers: str
    ) -> tuple[int, CIMultiDictProxy[str], bytes]:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        url, data = URL(self.url + path, encoded=True), io.BytesIO(body)
        async with self.client.post(url, data=data, headers=sent) as answer:
            return answer.status, answer.headers, await answer.read()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not condition():
                await asyncio.sleep(0.001)


@pytest.fixture
async def open_site() -> AsyncIterator[Callable[..., Awaitable[Site]]]:
    async with AsyncExitStack() as stack:

        async def open_one(
            max_waiting: int = 10, max_wait_s: float = 30.0, max_body_bytes: int = 64 << 20
        ) -> Site:
            settings = GatewaySettings(
                host="127.0.0.1",
                port=0,
                max_waiting=max_waiting,
                max_wait_s=max_wait_s,
                ttft_s=2.0,
                models=("m",),
                retry_delays_s=(0.0, 0.0),
                stop_timeout_s=0.1,
                max_body_bytes=max_body_bytes,
            )
            client = await stack.enter_async_context(aiohttp.ClientSession(auto_decompress=False))
            gateway = Gateway(settings)
            site = Site(stack, client, gateway, await gateway.start())
            stack.push_async_callback(gateway.stop)
            return site

        yield open_one


@pytest.fixture
async def site(open_site: Callable[..., Awaitable[Site]]) -> Site:
    return await open_site()


@pytest.fixture
def cut() -> Cut:
    return Cut()


@pytest.fixture
def chat_body() -> bytes:
    return CHAT_BODY


@pytest.fixture
def chat_stream() -> bytes:
    """What vLLM streams for a chat with `stream_options: {include_usage: true}`."""
    head = b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"m",'
    delta = head + b'"choices":[{"index":0,"delta":%s,"logprobs":null,"finish_reason":%s}]}\n\n'
    return b"".join(
        [
            delta % (b'{"role":"assistant","content":""}', b"null"),
            delta % ('{"content":"Grüß"}'.encode(), b"null"),
            delta % (rb'{"content":" \"usage\": {\"prompt_tokens\": 99} "}', b"null"),
            delta % (b'{"content":"!"}', b'"stop"'),
            head + b'"choices":[],"usage":{"prompt_tokens":7,"total_tokens":10,'
            b'"completion_tokens":3}}\n\n',
            b"data: [DONE]\n\n",
        ]
    )
