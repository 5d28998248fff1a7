"""Whatever clients, replicas and the ledger do, just what is served stays held."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest
from aiohttp import web
from tests.gateway.ledger.fake_ledger import TERMS, FakeLedger
from tests.gateway.site import Site, SiteFactory
from tests.gateway.token_replica import token_replica

from steppe.gateway.driver_news import DriverNews
from steppe.gateway.ledger.link import LedgerLink
from steppe.gateway.request import UNSERVED, FinishedRequest

TEXT, JSON = "/v1/completions", {"Content_Type": "application/json"}
REQUESTS, CREDIT = 60, 50
BODY = b'{"model":"m","prompt":"a","max_tokens":9}'
LONGEST_S = 0.02


class ErraticLedger(FakeLedger):
    """Answers late, and often with an error although it has taken the call."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__(CREDIT)
        self._rng = rng

    async def admit(self, request: web.Request) -> web.Response:
        return await self._late(super().admit, request)

    async def release(self, request: web.Request) -> web.Response:
        return await self._late(super().release, request)

    async def _late(
        self, answer: Callable[[web.Request], Awaitable[web.Response]], request: web.Request
    ) -> web.Response:
        await asyncio.sleep(self._rng.random() * LONGEST_S)
        found = await answer(request)
        await asyncio.sleep(self._rng.random() * LONGEST_S)
        return web.Response(status=503) if self._rng.random() < 0.2 else found


async def send(site: Site, rng: random.Random) -> None:
    """Send a request, whole or as a stream; every third client leaves soon."""
    stream = rng.choice([b"true", b"false"])
    body = b'{"model":"m","prompt":"a","max_tokens":9,"stream":%s}' % stream
    with suppress(TimeoutError):
        async with asyncio.timeout(rng.random() * LONGEST_S if rng.random() < 0.34 else None):
            await site.post(TEXT, body, **JSON)


async def open_erratic(open_site: SiteFactory, ledger: FakeLedger, rng: random.Random) -> Site:
    site = await open_site(ledger=LedgerLink(answer_s=60.0), max_waiting=20)
    site.gateway.tell(DriverNews(services={"ledger": await ledger.start()}))
    lives = [rng.randrange(9) for _ in range(REQUESTS // 3)]
    dying, healthy = await token_replica(site, "r0", lives=lives), await token_replica(site, "r1")
    site.route(dying, healthy, limit=12)
    return site


@pytest.mark.parametrize("seed", range(3))
async def test_just_what_was_served_stays_held(open_site: SiteFactory, seed: int) -> None:
    rng = random.Random(seed)
    ledger = ErraticLedger(rng)
    site = await open_erratic(open_site, ledger, rng)
    try:
        async with asyncio.timeout(60):
            await site.post(TEXT, BODY, **JSON)  # so that the gateway knows of the credit
            await asyncio.gather(*(send(site, rng) for _ in range(REQUESTS)))
        await site.until(lambda: site.gateway._started.tracker.is_idle)
        done = site.gateway.drain_finished()
        served = {each.engine_id for each in done if is_served(each)}
        await site.until(lambda: ledger.held == served)
    finally:
        await ledger.stop()
    assert {each.terms for each in done if is_served(each)} <= {TERMS}
    assert len(served) + ledger.free == CREDIT


def is_served(done: FinishedRequest) -> bool:
    return done.replica is not None and done.finish not in UNSERVED
