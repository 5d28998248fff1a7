"""A door in front of a gateway that notes which rows of a batch were sent, and how each ended.

It answers rows itself, as a gateway with a model would (`Answers`), or forwards everything to a
gateway (`Forward`). It runs in a thread of the benchmark, which nothing kills.
"""

from __future__ import annotations

import asyncio
import random
import re
import threading
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Self

import aiohttp
import orjson
from aiohttp import web

ROW = re.compile(rb"row number (\d+)")
"""How the prompt of a row names it."""
_DROPPED = {"host", "content-length", "transfer-encoding", "connection", "content-encoding"}

Handler = Callable[[web.Request, bytes], Awaitable[web.StreamResponse]]


@dataclass
class Sending:
    """One time that a row was sent.

    Attributes:
        row: Its number.
        began_s: When, s on the monotonic clock.
        ended_s: When it was answered whole; 0 before, and if the client went away.
        status: HTTP status of the answer; 0 without one.
    """

    row: int
    began_s: float
    ended_s: float = 0.0
    status: int = 0

    @property
    def is_answered(self) -> bool:
        """Whether the row was computed and its answer sent."""
        return self.ended_s > 0 and self.status == 200


@dataclass
class Witness:
    """The door, and what passed it; it is open inside a `with` block.

    Attributes:
        handler: Answers what comes.
        sendings: Every time that a row was sent.
        sessions: Connections of the handler, closed with the door.
        url: Where it is.
    """

    handler: Handler
    sendings: list[Sending] = field(default_factory=list)
    sessions: list[aiohttp.ClientSession] = field(default_factory=list)
    url: str = ""
    _loop: asyncio.AbstractEventLoop | None = None
    _opened: threading.Event = field(default_factory=threading.Event)
    _closing: asyncio.Event = field(default_factory=asyncio.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        """Open the door."""
        self._loop = loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=loop.run_until_complete, args=(self._serve(),), daemon=True
        )
        self._thread.start()
        self._opened.wait()
        return self

    def __exit__(self, *_error: object) -> None:
        """Close it."""
        assert self._loop is not None, "the door is open"
        assert self._thread is not None, "the door is open"
        self._loop.call_soon_threadsafe(self._closing.set)
        self._thread.join()
        self._loop.close()

    def answered(self) -> int:
        """Return how many answers were sent."""
        return sum(sending.is_answered for sending in list(self.sendings))

    def by_row(self) -> dict[int, list[Sending]]:
        """Return what was sent of each row, in the order of time."""
        rows: defaultdict[int, list[Sending]] = defaultdict(list)
        for sending in list(self.sendings):
            rows[sending.row].append(sending)
        return dict(rows)

    async def _serve(self) -> None:
        application = web.Application(client_max_size=64 << 20)
        application.router.add_route("*", "/{tail:.*}", self._handle)
        runner = web.AppRunner(
            application, access_log=None, handler_cancellation=True, shutdown_timeout=1.0
        )
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        self._opened.set()
        await self._closing.wait()
        await runner.cleanup()
        for session in self.sessions:
            await session.close()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        found = ROW.search(body) if request.path.startswith("/v1/") else None
        if found is None:
            return await self.handler(request, body)
        sending = Sending(int(found[1]), time.monotonic())
        self.sendings.append(sending)
        answer = await self.handler(request, body)
        sending.ended_s, sending.status = time.monotonic(), answer.status
        return answer


def answers(rng: random.Random, longest_s: float, refused: float) -> Handler:
    """Return a handler that answers rows after a random time; some it refuses with a 400 for good.

    Args:
        rng: Chooses the times and the order of refusals.
        longest_s: Longest time of an answer, s.
        refused: Share of the rows that are refused, by their number.
    """

    async def answer(request: web.Request, body: bytes) -> web.StreamResponse:
        if request.path == "/v1/models":
            return web.json_response({"object": "list", "data": [{"id": "m", "object": "model"}]})
        found = ROW.search(body)
        if found is None or request.method != "POST":
            return web.json_response({"error": {"message": "not here"}}, status=404)
        await asyncio.sleep(rng.uniform(0.0, longest_s))
        if int(found[1]) % 1000 < 1000 * refused:
            error = {"message": "asked for a shorter prompt", "type": "invalid_request_error"}
            return web.json_response({"error": error}, status=400)
        text = found[0].decode()
        energy = {"joules": 2.0, "source": "emulated", "boundary": "gpu", "final": True}
        usage = {"prompt_tokens": 8, "completion_tokens": 4, "total_tokens": 12, "energy": energy}
        choice = {"index": 0, "finish_reason": "stop", "message": {"content": text}}
        return web.json_response({"id": "x", "model": "m", "choices": [choice], "usage": usage})

    return answer


def forward(url: str, sessions: list[aiohttp.ClientSession]) -> Handler:
    """Return a handler that sends everything to a gateway.

    Args:
        url: The gateway.
        sessions: Gets the connections, once there are any.
    """

    async def pass_on(request: web.Request, body: bytes) -> web.StreamResponse:
        if not sessions:
            connector = aiohttp.TCPConnector(limit=0)
            sessions.append(aiohttp.ClientSession(connector=connector, auto_decompress=False))
        headers = {k: v for k, v in request.headers.items() if k.lower() not in _DROPPED}
        target = url + request.path_qs
        try:
            async with sessions[0].request(
                request.method, target, data=body, headers=headers
            ) as answer:
                whole = await answer.read()
                kept = {k: v for k, v in answer.headers.items() if k.lower() not in _DROPPED}
                return web.Response(status=answer.status, body=whole, headers=kept)
        except aiohttp.ClientError:
            if request.transport is not None:  # the gateway is gone: so is the connection
                request.transport.abort()
            raise

    return pass_on


def lines(rows: int, torn_every: int) -> bytes:
    """Return an input of some rows, OpenAI batch lines; every so many lines one is torn."""
    made = []
    for number in range(rows):
        text = f"This is row number {number} of a batch."
        body = {"model": "MODEL", "messages": [{"role": "user", "content": text}], "max_tokens": 16}
        line = {
            "custom_id": f"row-{number}",
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": body,
        }
        whole = orjson.dumps(line)
        made.append(whole[:40] if torn_every and number % torn_every == torn_every - 1 else whole)
    return b"\n".join(made) + b"\n"
