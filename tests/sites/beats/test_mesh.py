from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest
from tests.fixtures.beating_sites import BeatingSite, exchange_of, start_site, tls_of

from steppe.sites.beats.message import BODY_BYTES
from steppe.sites.beats.peers import BeatSettings, Health
from steppe.sites.beats.server import PATH
from steppe.sites.trust.certificates import Credential, new_authority
from steppe.sites.trust.tls import SiteTls

SITES = ("guizhou", "hohhot", "shanghai")
# A busy machine may lose a site for a moment: that must not damp it.
SETTINGS = BeatSettings(period_s=0.1, missed=15, damp_at=1e6)
LONGEST_S = 30.0

Start = Callable[[str, SiteTls], Awaitable[BeatingSite]]


@pytest.fixture(scope="module")
def authority() -> Credential:
    return new_authority("steppe test", time.time())


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    started: list[BeatingSite] = []

    async def begin(name: str, tls: SiteTls) -> BeatingSite:
        site = await start_site(name, [each for each in SITES if each != name], tls, SETTINGS)
        started.append(site)
        return site

    yield begin
    for site in started:
        await site.stop()


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(LONGEST_S):
        while not is_so():
            await asyncio.sleep(0.01)


def are_live(sites: list[BeatingSite]) -> bool:
    now_s = time.monotonic()
    return all(
        health is Health.LIVE for site in sites for health in site.exchange.healths(now_s).values()
    )


async def post(site: BeatingSite, tls: ssl.SSLContext | bool, body: bytes) -> tuple[int, str]:
    """Post to a site with these certificates; return status and text."""
    async with (
        aiohttp.ClientSession() as session,
        session.post(
            f"{site.address.url}{PATH}", data=body, ssl=tls, server_hostname="hohhot"
        ) as answer,
    ):
        return answer.status, await answer.text()


async def test_three_sites_become_live_to_each_other_and_a_dead_one_is_lost(
    start: Start, authority: Credential, tmp_path: Path
) -> None:
    sites = [await start(name, tls_of(tmp_path, name, authority)) for name in SITES]
    for site in sites:
        others = [each.address for each in sites if each is not site]
        await site.connect(others)
    await until(lambda: are_live(sites))
    rtt_s = [
        site.exchange.peers.rtt_s(name) for site in sites for name in site.exchange.peers.names
    ]
    assert all(each is None or 0 < each < LONGEST_S for each in rtt_s)
    await sites[2].stop()
    await until(lambda: sites[0].exchange.healths(time.monotonic())["shanghai"] is Health.LOST)
    await until(lambda: sites[0].exchange.healths(time.monotonic())["hohhot"] is Health.LIVE)


async def test_a_caller_without_a_certificate_is_refused(
    start: Start, authority: Credential, tmp_path: Path
) -> None:
    site = await start("hohhot", tls_of(tmp_path, "hohhot", authority))
    context = ssl.create_default_context(cafile=str(tmp_path / "authority.pem"))
    with pytest.raises((aiohttp.ClientError, OSError)):
        await post(site, context, b"{}")
    assert site.exchange.peers.newest("shanghai") is None


async def test_a_certificate_of_a_foreign_authority_is_refused(
    start: Start, authority: Credential, tmp_path: Path
) -> None:
    site = await start("hohhot", tls_of(tmp_path, "hohhot", authority))
    (tmp_path / "foreign").mkdir()
    foreign = tls_of(tmp_path / "foreign", "shanghai", new_authority("steppe test", time.time()))
    foreign.client.load_verify_locations(tmp_path / "authority.pem")  # it trusts us; we do not it
    with pytest.raises((aiohttp.ClientError, OSError)):
        await post(site, foreign.client, b"{}")


async def test_an_expired_certificate_is_refused(
    start: Start, authority: Credential, tmp_path: Path
) -> None:
    site = await start("hohhot", tls_of(tmp_path, "hohhot", authority))
    expired = tls_of(tmp_path, "shanghai", authority, now_s=time.time() - 100, valid_s=50)
    with pytest.raises((aiohttp.ClientError, OSError)):
        await post(site, expired.client, b"{}")


async def test_the_name_of_a_site_that_is_not_in_the_list_is_refused(
    start: Start, authority: Credential, tmp_path: Path
) -> None:
    site = await start("hohhot", tls_of(tmp_path, "hohhot", authority))
    stranger = tls_of(tmp_path, "harbin", authority)
    status, text = await post(site, stranger.client, b"{}")
    assert status == 403
    assert text.strip().endswith("with the name of one site of the list, found harbin")


async def test_a_beat_in_the_name_of_another_site_is_refused(
    start: Start, authority: Credential, tmp_path: Path
) -> None:
    site = await start("hohhot", tls_of(tmp_path, "hohhot", authority))
    guizhou = tls_of(tmp_path, "guizhou", authority)
    body = exchange_of("shanghai", ["hohhot"]).beat_for("hohhot", 1.0)
    status, text = await post(site, guizhou.client, body)
    assert (status, text) == (400, "guizhou: beat.site: asked for guizhou, found shanghai\n")
    assert site.exchange.peers.newest("shanghai") is None
    assert site.server.refused == 1


async def test_a_body_that_is_too_long_is_refused(
    start: Start, authority: Credential, tmp_path: Path
) -> None:
    site = await start("hohhot", tls_of(tmp_path, "hohhot", authority))
    status, _text = await post(
        site, tls_of(tmp_path, "guizhou", authority).client, b" " * (BODY_BYTES + 1)
    )
    assert status == 413


async def test_an_older_beat_is_refused(
    start: Start, authority: Credential, tmp_path: Path
) -> None:
    site = await start("hohhot", tls_of(tmp_path, "hohhot", authority))
    guizhou = tls_of(tmp_path, "guizhou", authority)
    sender = exchange_of("guizhou", ["hohhot"])
    older, newer = (sender.beat_for("hohhot", now_s) for now_s in (1.0, 9.0))
    assert [(await post(site, guizhou.client, body))[0] for body in (newer, older)] == [200, 409]


async def test_a_site_that_answers_with_another_name_is_not_heard(
    start: Start, authority: Credential, tmp_path: Path
) -> None:
    impostor = await start("hohhot", tls_of(tmp_path, "shanghai", authority))
    caller = await start("guizhou", tls_of(tmp_path, "guizhou", authority))
    sender = await caller.connect([])
    assert not await sender.exchange_with(impostor.address)
    assert "hohhot" in sender.failures()["hohhot"]
    assert caller.exchange.peers.newest("hohhot") is None


async def test_a_renewed_certificate_is_used_without_a_restart(
    start: Start, authority: Credential, tmp_path: Path
) -> None:
    hohhot = await start("hohhot", tls_of(tmp_path, "hohhot", authority))
    expired = tls_of(tmp_path, "guizhou", authority, now_s=time.time() - 100, valid_s=50)
    guizhou = await start("guizhou", expired)
    sender = await guizhou.connect([])
    assert not await sender.exchange_with(hohhot.address)
    tls_of(tmp_path, "guizhou", authority)
    assert guizhou.tls.reload()
    await sender.renew()
    assert await sender.exchange_with(hohhot.address)
    assert sender.failures() == {}
