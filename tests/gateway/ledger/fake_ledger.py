"""A ledger of a few lines: one account, and each request holds one unit of it."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
from aiohttp import web

TERMS = "flat-1/0"


class FakeLedger:
    """Holds one unit for each request, and never more than it has.

    Attributes:
        free: What the account has left.
        held: Ids of the requests that it holds something for.
        calls: The requests of each call to `/admissions`.
        returned: Ids that were given back.
        may_answer: Lets it answer.
        status: Status of its answers.
    """

    def __init__(self, free: int = 1_000_000) -> None:
        self.free = free
        self.held: set[str] = set()
        self.calls: list[list[dict[str, Any]]] = []
        self.returned: list[str] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.status = 200
        self.refusal = "insufficient_funds"
        self.url = ""
        self._runner: web.AppRunner | None = None

    @property
    def asked(self) -> list[dict[str, Any]]:
        """All requests that it was asked about, in order."""
        return [each for call in self.calls for each in call]

    async def start(self, port: int = 0) -> str:
        application = web.Application()
        application.router.add_post("/admissions", self.admit)
        application.router.add_post("/admissions/released", self.release)
        application.router.add_route("*", "/steppe/v1/{tail:.*}", self.show)
        self._runner = web.AppRunner(application, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", port, reuse_address=True).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self.url

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def admit(self, request: web.Request) -> web.Response:
        asked = orjson.loads(await request.read())
        self.calls.append(asked)
        await self.may_answer.wait()
        verdicts = [self._verdict(each["request"]) for each in asked]
        return web.Response(status=self.status, body=orjson.dumps(verdicts))

    async def release(self, request: web.Request) -> web.Response:
        await self.may_answer.wait()
        for id_ in orjson.loads(await request.read()):
            self.returned.append(id_)
            self.free += id_ in self.held
            self.held.discard(id_)
        return web.Response(status=204)

    async def show(self, request: web.Request) -> web.Response:
        found = {"tenant": request.headers["x-steppe-tenant"], "path": request.raw_path}
        status = 404 if request.path.endswith("/unknown") else 200
        return web.json_response(found, status=status)

    def _verdict(self, request: str) -> dict[str, Any]:
        if request not in self.held and not self.free:
            message = f"asked to hold 1 CNY, found {self.free} free"
            return {"code": self.refusal, "message": message, "free": self.free}
        if request not in self.held:
            self.held.add(request)
            self.free -= 1
        return {"terms": TERMS, "currency": "CNY", "held": 1, "free": self.free}
