"""`GET /steppe/v1/balance`: what a tenant has, and what is set aside for its open requests."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
from aiohttp import web

from steppe.ledger.entries import available, held
from steppe.ledger.store.ledger_store import LedgerStore
from steppe.ledger.units import is_energy_of_hours
from steppe.services.tenant_header import tenant_of


class BalanceApi:
    """Answers for the tenant of the call."""

    def __init__(self, store: LedgerStore) -> None:
        """Use a store."""
        self._store = store

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Add the routes."""
        router.add_get("/steppe/v1/balance", self.show)

    async def show(self, request: web.Request) -> web.Response:
        """Answer what a tenant can pay with, by unit; amounts are 10^-9 of it."""
        tenant = tenant_of(request)
        data = await asyncio.to_thread(self._read, tenant)
        answer = {"object": "list", "data": data}
        return web.Response(body=orjson.dumps(answer), content_type="application/json")

    def _read(self, tenant: str) -> list[dict[str, Any]]:
        set_aside = {each.unit: each.balance for each in self._store.balances(held(tenant))}
        return [
            {
                "unit": each.unit,
                "available": each.balance,
                "held": set_aside.get(each.unit, 0),
                "credit": None if each.floor is None else -each.floor,
            }
            for each in self._store.balances(available(tenant))
            if not is_energy_of_hours(each.unit)
        ]
