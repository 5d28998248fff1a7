"""Two sites services with ledgers settle over TLS, in periods of a few seconds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from tests.fixtures.running_sites import SECRET, RunningSite, open_sites
from tests.sites.settlement.two_sites import Clock, Site, served

from steppe.engine.run_secret import HEADER
from steppe.sites.service.sent_api import PATH as SENT
from steppe.sites.service.sent_api import write_sent
from steppe.sites.settlement.own_ledger import LedgerPlaces
from steppe.sites.settlement.sent import Sent
from steppe.sites.settlement.shown import PATH, ShownSettlement, read_shown

WAIT_S = 120.0


class HostClock(Clock):
    """The clock of this host."""

    def epoch_s(self) -> float:
        return time.time()

    def epoch_ns(self) -> int:
        return time.time_ns()


async def with_ledger(stack: AsyncExitStack, name: str, folder: Path) -> Site:
    site = await Site.open(name, folder / f"{name}-books", HostClock(time.time()))
    stack.push_async_callback(site.stop)
    return site


def places_of(site: Site) -> LedgerPlaces:
    folder = site.folder / "ledger"
    return LedgerPlaces(str(folder / "ledger.db"), folder / "log", folder / "log.pub")


async def settlements(site: RunningSite) -> list[ShownSettlement]:
    async with site.session.get(site.url + PATH, headers={HEADER: SECRET}) as answer:
        assert answer.status == 200, await answer.text()
        return read_shown(await answer.read())[0]


async def owed_uj(site: RunningSite) -> int:
    return sum(one.owed_uj for one in await settlements(site))


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as found:
        yield found


@pytest.mark.slow  # it waits for the end of a period
async def test_two_services_settle_and_agree(stack: AsyncExitStack, tmp_path: Path) -> None:
    books = {name: await with_ledger(stack, name, tmp_path) for name in ("hohhot", "shanghai")}
    sites = await stack.enter_async_context(open_sites(tmp_path, *books))
    running = {
        name: await sites.start(name, ledger=places_of(site), log=site.service, settle_s=4)
        for name, site in books.items()
    }
    home, now_us = running["shanghai"], time.time_ns() // 1_000
    notes = [
        Sent(f"r{at}", "hohhot", "lab", "m", 100, 50, now_us, now_us, "served", 200, 10**6)
        for at in range(3)
    ]
    async with home.session.post(
        home.url + SENT, data=write_sent(notes), headers={HEADER: SECRET}
    ) as answer:
        assert answer.status == 200, await answer.text()
    await books["hohhot"].book(
        *(served(note.request, 1_000, started_us=now_us, ended_us=now_us) for note in notes)
    )
    async with asyncio.timeout(WAIT_S):
        while await owed_uj(home) < 3_000:
            await asyncio.sleep(0.05)
    found = await settlements(home)
    assert {(one.home, one.target, one.agrees) for one in found} == {("shanghai", "hohhot", 1)}
    assert await owed_uj(home) == await owed_uj(running["hohhot"]) == 3_000
    counted = 'steppe_sites_settlements_total{agrees="yes",site="hohhot"} '
    async with asyncio.timeout(WAIT_S):
        while counted not in await home.metrics():
            await asyncio.sleep(0.05)
