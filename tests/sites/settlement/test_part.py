"""Two sites settle over TLS, with a certificate on both sides."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest
import yaml
from aiohttp import web
from tests.sites.settlement.two_sites import HOME, LENGTH_S, TARGET, Clock, Notes, Site, served

from steppe.config import SitesSection
from steppe.ledger.signing import PrivateKey
from steppe.sites.settlement.own_ledger import LedgerPlaces
from steppe.sites.settlement.part import SettlementPart, SettlementSite
from steppe.sites.settlement.sent import AcceptedCall, Sent
from steppe.sites.settlement.shown import PATH, read_shown
from steppe.sites.trust.identity import RefusedPeerError, identity_of
from steppe.sites.trust.init import init_sites
from steppe.sites.trust.suspects import Suspect
from steppe.sites.trust.tls import SiteTls, TlsFiles
from steppe.sites.trust.token import Token, sign_token

NAMES = (HOME, TARGET)


def home_of(request: web.Request) -> str:
    transport = request.transport
    certificate = None if transport is None else transport.get_extra_info("peercert")
    try:
        return identity_of(certificate, NAMES, time.time())
    except RefusedPeerError as error:
        raise web.HTTPForbidden(text=str(error)) from error


@dataclass
class Running:
    """A site that listens for the other one."""

    site: Site
    part: SettlementPart
    notes: Notes
    tls: SiteTls
    url: str
    suspects: dict[str, Suspect] = field(default_factory=dict)


async def listen(stack: AsyncExitStack, part: SettlementPart, tls: SiteTls, port: int) -> None:
    application = web.Application()
    part.add_routes(application.router)
    part.shown.add_routes(application.router)
    runner = web.AppRunner(application)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, "127.0.0.1", port, ssl_context=tls.server).start()


@pytest.fixture
async def sites(
    tmp_path: Path, unused_tcp_port_factory: object
) -> AsyncIterator[dict[str, Running]]:
    assert callable(unused_tcp_port_factory)
    ports = {name: unused_tcp_port_factory() for name in NAMES}
    urls = {name: f"https://127.0.0.1:{port}" for name, port in ports.items()}
    init_sites(tmp_path / "certificates", urls, time.time())
    clock = Clock()
    async with AsyncExitStack() as stack:
        found = {}
        for name in NAMES:
            folder = tmp_path / "certificates" / name
            values = yaml.safe_load((folder / "sites.yaml").read_text())["sites"]
            values |= {"settle_s": LENGTH_S, "region": "cn"}
            for peer in values["peers"]:
                peer["region"] = "cn"
            section = SitesSection.model_validate(values).resolved(folder)
            site = await Site.open(name, tmp_path / name, clock)
            stack.push_async_callback(site.stop)
            tls = SiteTls(TlsFiles(section.certificate, section.key, section.authority))
            notes, suspects = Notes(), dict[str, Suspect]()
            ledger = tmp_path / name / "ledger"
            own = SettlementSite(
                section,
                tmp_path / name / "own",
                LedgerPlaces(str(ledger / "ledger.db"), ledger / "log", ledger / "log.pub"),
                log=site.service,
                notes=notes,
                tls=tls,
                suspects=suspects,
                home_of=home_of,
                epoch_s=clock.epoch_s,
            )
            part = SettlementPart(own)
            stack.push_async_callback(part.stop)
            await listen(stack, part, tls, ports[name])
            found[name] = Running(site, part, notes, tls, urls[name], suspects)
        yield found


async def send(sites: dict[str, Running], request: str, energy_uj: int, folder: Path) -> None:
    """Send a request from home to target, and book it there."""
    home, target = sites[HOME], sites[TARGET]
    now_s = int(home.site.clock.now_s)
    key = PrivateKey.read(folder / "certificates" / HOME / "tokens.key")
    token = Token(HOME, TARGET, "x", request, 10**9, now_s, now_s + 60)
    now_us = now_s * 1_000_000
    home.notes.notes.append(
        Sent(request, TARGET, "lab", "m", 100, 50, now_us, now_us, "served", 200, 10**9)
    )
    target.part.take(AcceptedCall(request, HOME, 10**9, sign_token(token, key)))
    await target.site.book(served(request, energy_uj))


async def test_two_sites_settle_over_tls(sites: dict[str, Running], tmp_path: Path) -> None:
    home, target = sites[HOME], sites[TARGET]
    await home.part.look(TARGET)
    for number in range(5):
        await send(sites, f"r{number}", 1_000 + number, tmp_path)
    await target.part.start()
    await home.part.start()
    await target.site.published()
    home.site.clock.end_period()
    async with asyncio.timeout(30):
        while home.site.ledger.last_settlement("sent", TARGET) is None:
            await asyncio.sleep(0.02)
            await home.part.look(TARGET)
    own = home.site.ledger.last_settlement("sent", TARGET)
    claimed = target.site.ledger.last_settlement("served", HOME)
    assert own is not None
    assert own == claimed
    assert (own.receipts, own.owed_uj) == (5, 5_010)
    async with (
        aiohttp.ClientSession() as client,
        client.get(home.url + PATH, ssl=target.tls.client, server_hostname=HOME) as answer,
    ):
        ((shown,), problems) = read_shown(await answer.read())
    assert (shown.agrees, shown.is_logged, shown.owed_uj, problems) == (1, 1, 5_010, {})


async def test_a_caller_gets_only_its_own_receipts_and_only_with_a_certificate(
    sites: dict[str, Running], tmp_path: Path
) -> None:
    home, target = sites[HOME], sites[TARGET]
    await send(sites, "r1", 1_000, tmp_path)
    await target.site.book(served("r2", tenant="lab"), served("r3", tenant="site:guizhou"))
    await target.site.published()
    target.site.clock.end_period()
    period = int(target.site.clock.now_s // LENGTH_S) - 1
    url = f"{target.url}/sites/v1/receipts?period={period}&length={LENGTH_S}"
    async with aiohttp.ClientSession() as client:
        async with client.get(url, ssl=home.tls.client, server_hostname=TARGET) as answer:
            body = await answer.read()
        assert answer.status == 200
        assert body.count(b'\\"kind\\":\\"receipt\\"') == 1
        assert b"target-r2" not in body
        other = url.replace(f"={LENGTH_S}", "=60")
        async with client.get(other, ssl=home.tls.client, server_hostname=TARGET) as answer:
            assert answer.status == 400
            assert "asked for periods of 60 s, found 600 s" in await answer.text()
        later = url.replace(f"={period}", f"={period + 1}")
        async with client.get(later, ssl=home.tls.client, server_hostname=TARGET) as answer:
            assert answer.status == 409
        with pytest.raises(aiohttp.ClientError):
            await client.get(url, ssl=False)


async def test_a_site_gives_its_meter_records_of_a_closed_hour(
    sites: dict[str, Running], tmp_path: Path
) -> None:
    home, target = sites[HOME], sites[TARGET]
    clock = target.site.clock
    hour = int(clock.now_s // 3600)
    await send(sites, "r1", 1_000, tmp_path)
    await home.part.look(TARGET)
    assert home.suspects == {}
    clock.now_s += 3 * 3600
    await target.site.close_hours()
    await target.site.published()
    await home.part.look(TARGET)
    assert home.suspects[TARGET].withheld == 0
    url = f"{target.url}/sites/v1/meters?hour={hour}"
    async with (
        aiohttp.ClientSession() as client,
        client.get(url, ssl=home.tls.client, server_hostname=TARGET) as answer,
    ):
        assert answer.status == 200
        assert b"period" in await answer.read()
