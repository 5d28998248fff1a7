"""A home and a target, all real but their replicas: router, token, door, two gateways."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import pytest
from aiohttp import web
from tests.fixtures.beating_sites import HOST, view_of
from tests.gateway.site import Site, SiteFactory
from tests.gateway.sites.other_site import FakeRouter, SitesMaker, section_of
from tests.gateway.test_continuing import CHAT, JSON, TEXT, USAGE, body_of, uninterrupted
from tests.gateway.token_replica import PROMPT, TOKENS, TokenReplica, token_replica
from tests.sites.test_router import FakeService

from steppe.engine.run_secret import secret_headers
from steppe.errors import UsageError
from steppe.gateway.access import AccessSettings
from steppe.gateway.driver_news import DriverNews
from steppe.ledger.signing import PrivateKey
from steppe.sites.beats.peers import Health
from steppe.sites.peer import TryOutcome
from steppe.sites.quotas import QuotaLease
from steppe.sites.router import SiteRouter
from steppe.sites.service.forward import ForwardDoor, LocalGateway
from steppe.sites.state import PeerState, SitesState
from steppe.sites.view import RequestView, SiteView
from steppe.tenants.tenant import site_tenants

HOME, TARGET, SECRET = "hohhot", "shanghai", "5ec7e7"
KEY = PrivateKey(HOME, b"\1" * 32)


def view(site: str, surplus_w: float) -> SiteView:
    base = view_of(site, surplus_w=surplus_w)
    pool = replace(base.pools["chat"], model="m", free_tps=1e5)
    return replace(
        base,
        received_s=time.monotonic(),
        region="cn",
        data_classes=frozenset({"general"}),
        pools={"chat": pool},
    )


def has_quota(router: SiteRouter) -> bool:
    """Return whether requests go to the target by now."""
    asked = RequestView("m", None, "standard", frozenset({"cn"}), "general", 10, 300)
    peer = router.choose(asked, "probe", ())
    if peer is not None:
        router.note(peer, TryOutcome(None, 0, 0, 0.0, 0.0, "cancelled"))
    return peer is not None


@dataclass
class TwoSites:
    """A home and a target; the target has surplus, so requests go there."""

    home: Site
    target: Site
    here: TokenReplica
    there: TokenReplica
    service: FakeService


@pytest.fixture
async def two(make_sites: SitesMaker, open_site: SiteFactory) -> AsyncIterator[TwoSites]:
    target = await open_site(
        access=AccessSettings(site_tenants([HOME]), run_secret=SECRET),
        run_secret=SECRET,
        sites=section_of({"guizhou": "https://10.0.0.3:8443"}),
        router=FakeRouter(),
        stale_s=math.inf,
    )
    gateway = LocalGateway(target.url, secret_headers(SECRET))
    door = ForwardDoor(TARGET, {HOME: [KEY.public]}, gateway, lambda: view(TARGET, 300.0))
    await door.start()
    application = web.Application()
    door.add_routes(application.router)
    runner = web.AppRunner(application, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, HOST, 0, ssl_context=make_sites.tls(TARGET).server).start()
    url = f"https://{HOST}:{runner.addresses[0][1]}"
    lease = QuotaLease(TARGET, "m", "standard", 1e5, 1e6, time.monotonic(), 60.0)

    def state() -> SitesState:
        peer = PeerState(TARGET, url, "cn", Health.LIVE, 0.01, view(TARGET, 300.0))
        return SitesState(HOME, "0" * 16, 1, 60.0, view(HOME, 0.0), (peer,), (lease,))

    service = FakeService(state)
    service_runner = await service.start()
    make_sites.tls(HOME)
    KEY.write(make_sites.folder / "tokens")
    section = section_of({TARGET: url}).model_copy(
        update={
            "certificate": make_sites.folder / f"{HOME}.pem",
            "key": make_sites.folder / f"{HOME}.pem",
            "authority": make_sites.folder / "authority.pem",
            "token_key": make_sites.folder / "tokens",
            "period_s": 0.02,
        }
    )
    router = SiteRouter(section, run_secret=SECRET)
    home = await open_site(sites=section, router=router, run_secret=SECRET, stale_s=math.inf)
    home.gateway.tell(DriverNews(services={"sites": service.url}))
    await home.until(lambda: has_quota(router))
    here, there = await token_replica(home, "r0"), await token_replica(target, "r9", created=2)
    home.route(here)
    target.route(there)
    yield TwoSites(home, target, here, there, service)
    await runner.cleanup()
    await service_runner.cleanup()
    await door.stop()


async def test_a_gateway_makes_the_router_of_its_sites(
    two: TwoSites, make_sites: SitesMaker, open_site: SiteFactory
) -> None:
    files = dict.fromkeys(("certificate", "key"), make_sites.folder / f"{HOME}.pem")
    files |= {"authority": make_sites.folder / "authority.pem"}
    section = section_of({TARGET: "https://10.0.0.2:8443"}).model_copy(
        update={**files, "token_key": make_sites.folder / "tokens"}
    )
    alone = await open_site(sites=section, run_secret=SECRET, stale_s=math.inf)
    await alone.awake_replica()
    assert (await alone.post(CHAT, body_of(CHAT), **JSON))[0] == 200
    assert "steppe_sites_" in (await alone.get("/metrics"))[2].decode()
    absent = section.model_copy(update={"key": make_sites.folder / "absent.pem"})
    with pytest.raises(UsageError, match=r"absent\.pem"):
        await open_site(sites=absent, run_secret=SECRET)


@pytest.mark.parametrize("path", [CHAT, TEXT])
async def test_both_sites_book_the_same_request_with_the_same_tokens(
    two: TwoSites, path: str
) -> None:
    body = body_of(path)
    status, headers, found = await two.home.post(
        path, body, **JSON, x_steppe_tenant="team-a", X_Request_Id="mine"
    )
    there = uninterrupted(path, body).replace(b'"created":1', b'"created":2')
    assert (status, found) == (200, there)
    assert (headers["X-Steppe-Site"], headers["X-Request-Id"]) == (TARGET, "mine")
    (at_home,) = two.home.gateway.drain_finished()
    (at_target,) = two.target.gateway.drain_finished()
    assert (at_home.site, at_home.replica, at_home.tenant) == (TARGET, None, "team-a")
    assert (at_target.tenant, at_target.id) == (f"site:{HOME}", f"{at_home.engine_id}.1")
    assert at_target.replica == "r9"
    for ended in (at_home, at_target):
        assert (ended.prompt_tokens, ended.output_tokens) == (len(PROMPT), len(TOKENS))
    notes = two.service.notes
    await two.home.until(lambda: any(note.request == at_target.id for note in notes))
    note = next(note for note in notes if note.request == at_target.id)
    assert (note.request, note.target, note.end) == (at_target.id, TARGET, "served")
    assert (note.prompt_tokens, note.output_tokens) == (len(PROMPT), len(TOKENS))


@pytest.mark.parametrize("cut", [2, 5, 8])
async def test_a_stream_whose_target_loses_its_replica_goes_on_at_home(
    two: TwoSites, cut: int
) -> None:
    body = body_of(CHAT, **USAGE)
    two.there.lives = [cut]
    status, _, found = await two.home.post(CHAT, body, **JSON)
    there = uninterrupted(CHAT, body).replace(b'"created":1', b'"created":2')
    assert (status, found) == (200, there)
    (at_home,) = two.home.gateway.drain_finished()
    assert (at_home.site, at_home.replica, at_home.continued) == (TARGET, "r0", 1)
    assert at_home.output_tokens == len(TOKENS)
    assert len(two.here.bodies[0]["vllm_xargs"]["steppe_output"]) == cut - 1
    (at_target,) = two.target.gateway.drain_finished()
    assert (at_target.finish, at_target.replica) == ("cancelled", "r9")


async def test_a_site_without_an_awake_replica_refuses_and_the_request_stays(
    two: TwoSites,
) -> None:
    two.target.route()
    body = body_of(CHAT)
    status, headers, found = await two.home.post(CHAT, body, **JSON)
    assert (status, found) == (200, uninterrupted(CHAT, body))
    assert "X-Steppe-Site" not in headers
    (at_target,) = two.target.gateway.drain_finished()
    assert (at_target.finish, at_target.replica) == ("shed", None)
    (at_home,) = two.home.gateway.drain_finished()
    assert (at_home.site, at_home.replica) == ("", "r0")
