"""`/steppe/v1/receipts`: a tenant's own receipts, and the proofs that the log holds them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import orjson
from aiohttp import web

from steppe.ledger.log.log import LogReader
from steppe.ledger.receipt import KIND as RECEIPT
from steppe.ledger.service.requests import whole_of_query
from steppe.ledger.store.ledger_store import LedgerStore
from steppe.services.api_error import not_found
from steppe.services.tenant_header import tenant_of

MOST = 1_000
"""Most receipts of one list."""
LATEST_US = 2**62


class ReceiptsApi:
    """Answers for one tenant at a time: that of the call."""

    def __init__(self, store: LedgerStore, log: LogReader, log_size: Callable[[], int]) -> None:
        """Use a store and a log.

        Args:
            store: Where the receipts are.
            log: Where their proofs are from.
            log_size: Returns how many entries the published log has.
        """
        self._store, self._log, self._log_size = store, log, log_size

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Add the routes."""
        router.add_get("/steppe/v1/receipts", self.list)
        router.add_get("/steppe/v1/receipts/{id}", self.show)
        router.add_get("/steppe/v1/receipts/{id}/proof", self.prove)

    async def show(self, request: web.Request) -> web.Response:
        """Answer the bytes of a receipt, as the log has them."""
        _, entry = await self._find(request)
        return web.Response(body=entry, content_type="application/json")

    async def prove(self, request: web.Request) -> web.Response:
        """Answer the proof of a receipt; 202 while the log is not published so far."""
        place, _ = await self._find(request)
        return await answer_proof(self._log, place, self._log_size())

    async def list(self, request: web.Request) -> web.Response:
        """Answer receipts by the time at which they were written, the oldest first."""
        since_us = whole_of_query(request, "since", 0)
        until_us = whole_of_query(request, "until", LATEST_US)
        after = whole_of_query(request, "after", 0) if "after" in request.query else -1
        most = max(1, whole_of_query(request, "limit", 100, MOST))
        tenant = tenant_of(request)

        def read() -> Sequence[tuple[int, bytes]]:
            return self._store.receipts(tenant, since_us, until_us, most + 1, after)

        found = await asyncio.to_thread(read)
        data = [{"place": place, "receipt": orjson.loads(entry)} for place, entry in found[:most]]
        answer: dict[str, Any] = {"object": "list", "data": data, "has_more": len(found) > most}
        return web.Response(body=orjson.dumps(answer), content_type="application/json")

    async def _find(self, request: web.Request) -> tuple[int, bytes]:
        name = request.match_info["id"]
        found = await asyncio.to_thread(self._store.find, RECEIPT, tenant_of(request), name)
        if found is None:
            raise not_found("receipt", name)
        return found


async def answer_proof(log: LogReader, place: int, size: int) -> web.Response:
    """Answer the proof of the entry at a place; 202 if the log of this size does not have it."""
    if place >= size:
        text = "the entry is written; the log is published within a second or two"
        return web.json_response(
            {"status": "pending", "message": text}, status=202, headers={"Retry-After": "1"}
        )
    proof = await asyncio.to_thread(log.proof, place)
    return web.Response(text=proof.text, content_type="text/plain", charset="utf-8")
