"""A ledger service in this process, its books and the client of its tests."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import aiohttp
import orjson

from steppe.ledger.booking import BookedRequest, BookedTotals, Booking
from steppe.ledger.periods.closing import HOUR_US
from steppe.ledger.service.service import LedgerService
from steppe.ledger.store.ledger_store import LedgerStore

HOUR = 490_000
NOON_US = HOUR * HOUR_US
TARIFF = """
id: flat-1
currency: CNY
valid_from_us: 0
rates:
- {prompt_nano: 100, output_nano: 400}
"""


@dataclass
class Clock:
    """The time, us since the Unix epoch."""

    now_us: int = NOON_US

    def epoch_ns(self) -> int:
        return self.now_us * 1_000


@dataclass
class Running:
    """A service that listens, and a client of one tenant or another."""

    service: LedgerService
    client: aiohttp.ClientSession
    folder: Path
    clock: Clock
    url: str
    is_stopped: bool = False
    headers: dict[str, str] = field(default_factory=dict)

    async def stop(self) -> None:
        if not self.is_stopped:
            self.is_stopped = True
            await self.service.stop()

    @property
    def store(self) -> LedgerStore:
        """A store of its own, on the database of the service."""
        return LedgerStore(str(self.folder / "ledger.db"))

    async def call(
        self, method: str, path: str, tenant: str = "lab", **more: Any
    ) -> tuple[int, bytes]:
        headers = {"x-steppe-tenant": tenant, **self.headers}
        async with self.client.request(method, self.url + path, headers=headers, **more) as answer:
            return answer.status, await answer.read()

    async def get(self, path: str, tenant: str = "lab") -> Any:
        status, body = await self.call("GET", path, tenant)
        assert status == 200, body
        return orjson.loads(body)

    async def admit(self, *asked: dict[str, Any]) -> list[dict[str, Any]]:
        status, body = await self.call("POST", "/admissions", json=list(asked))
        assert status == 200, body
        found: list[dict[str, Any]] = orjson.loads(body)
        return found

    async def proof_of(self, path: str) -> str:
        """Return a proof as soon as the log is published."""
        async with asyncio.timeout(30):
            while True:
                status, body = await self.call("GET", f"{path}/proof")
                if status == 200:
                    return body.decode()
                assert status == 202, body
                await asyncio.sleep(0.02)


class ServiceFactory(Protocol):
    async def __call__(self, secret: str = "", **section: object) -> Running: ...


def asked(request: str, tenant: str = "lab", **changes: Any) -> dict[str, Any]:
    """Return an admission of at most 1,000 x 100 + 100 x 400 nano."""
    usual = {
        "request": request,
        "tenant": tenant,
        "model": "m",
        "priority": "standard",
        "band": "normal",
        "prompt_tokens": 1_000,
        "max_tokens": 100,
        "sequences": 1,
        "quote": "",
        "key_id": "",
    }
    return usual | changes


def booked(id_: str, energy_uj: int = 1_000, **changes: Any) -> BookedRequest:
    """Return a request of 1,000 prompt tokens and 50 tokens at the tariff `flat-1`."""
    values: dict[str, Any] = {
        "id": id_,
        "request": f"req-{id_}",
        "tenant": "lab",
        "model": "m",
        "priority": "standard",
        "prompt_tokens": 1_000,
        "cached_tokens": 0,
        "output_tokens": 50,
        "energy_uj": energy_uj,
        "energy_source": "emulated",
        "started_us": NOON_US - 5_000_000,
        "ended_us": NOON_US - 1_000_000,
        "finish": "stop",
        "terms": "flat-1/0",
    }
    return BookedRequest(**(values | changes))


def booking(
    number: int,
    *requests: BookedRequest,
    metered_uj: int = 0,
    time_us: int = NOON_US,
    run: str = "run-1",
    is_last: bool = False,
    **totals: Any,
) -> Booking:
    """Return a step of the books of a run with one meter."""
    meters = {"replica-0": metered_uj}
    found = BookedTotals(meters=meters, **totals)
    return Booking(run, number, time_us, "gpu", requests, found, is_last)
