"""`/steppe/v1/tariffs`: the prices, and the proofs that the log holds them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import orjson
from aiohttp import web

from steppe.ledger.log.log import LogReader
from steppe.ledger.service.receipts_api import answer_proof
from steppe.ledger.store.ledger_store import LedgerStore
from steppe.ledger.tariff import KIND as TARIFF
from steppe.ledger.tariff import Tariff
from steppe.services.api_error import not_found


class TariffsApi:
    """Answers every tenant the same."""

    def __init__(
        self,
        store: LedgerStore,
        tariffs: Mapping[str, Tariff],
        log: LogReader,
        log_size: Callable[[], int],
    ) -> None:
        """Use a store and a log.

        Args:
            store: Where the tariffs are.
            tariffs: All of them, by id.
            log: Where their proofs are from.
            log_size: Returns how many entries the published log has.
        """
        self._store, self._tariffs = store, tariffs
        self._log, self._log_size = log, log_size

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Add the routes."""
        router.add_get("/steppe/v1/tariffs", self.list)
        router.add_get("/steppe/v1/tariffs/{id}", self.show)
        router.add_get("/steppe/v1/tariffs/{id}/proof", self.prove)

    async def list(self, _request: web.Request) -> web.Response:
        """Answer all tariffs."""
        data = [orjson.loads(each.entry) for each in self._tariffs.values()]
        answer = {"object": "list", "data": data}
        return web.Response(body=orjson.dumps(answer), content_type="application/json")

    async def show(self, request: web.Request) -> web.Response:
        """Answer the bytes of a tariff, as the log has them."""
        tariff = self._find(request)
        return web.Response(body=tariff.entry, content_type="application/json")

    async def prove(self, request: web.Request) -> web.Response:
        """Answer the proof of a tariff; 202 while the log is not published so far."""
        id_ = self._find(request).id
        place = await asyncio.to_thread(self._store.place_of, TARIFF, id_)
        if place is None:
            raise not_found("tariff", id_)
        return await answer_proof(self._log, place, self._log_size())

    def _find(self, request: web.Request) -> Tariff:
        id_ = request.match_info["id"]
        if id_ not in self._tariffs:
            raise not_found("tariff", id_)
        return self._tariffs[id_]
