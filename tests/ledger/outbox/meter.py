"""A sink of events for tests: an HTTP server that counts as a meter does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import orjson
from aiohttp import web
from tests.ledger.test_receipt import RECEIPT

from steppe.ledger.receipt import Receipt
from steppe.ledger.store.ledger_store import LedgerStore, LogEntry

Fault = Callable[[list[dict[str, Any]]], web.Response | None]


class Meter:
    """A sink that counts the events of each source and id once, as OpenMeter does."""

    def __init__(self) -> None:
        self.events: dict[tuple[str, str], dict[str, Any]] = {}
        self.calls: list[int] = []
        self.headers: list[str] = []
        self.before: Fault = lambda _events: None
        self.after: Fault = lambda _events: None

    async def take(self, request: web.Request) -> web.Response:
        assert request.content_type == "application/cloudevents-batch+json"
        self.headers.append(request.headers.get("authorization", ""))
        events = orjson.loads(await request.read())
        self.calls.append(len(events))
        if refusal := self.before(events):
            return refusal
        for event in events:
            known = self.events.setdefault((event["source"], event["id"]), event)
            assert known == event, "the same event has the same content"
        return self.after(events) or web.Response(status=204)


@asynccontextmanager
async def served(meter: Meter) -> AsyncIterator[str]:
    """Serve a meter; yield the URL that takes events."""
    application = web.Application()
    application.router.add_post("/api/v1/events", meter.take)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/api/v1/events"
    finally:
        await runner.cleanup()


def receipts(first: int, count: int) -> list[Receipt]:
    return [
        replace(RECEIPT, id=f"r{number}", seq=number, energy_uj=number)
        for number in range(first, first + count)
    ]


def fill(store: LedgerStore, first: int, count: int) -> None:
    entries = [
        LogEntry("receipt", each.id, each.tenant, each.ended_us, each.entry)
        for each in receipts(first, count)
    ]
    store.add([LogEntry("tariff", f"t{first}", "", 1, b"{}"), *entries])
