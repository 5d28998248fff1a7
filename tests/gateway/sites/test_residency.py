from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.gateway.sites.other_site import REGIONS, FakeRouter, SitesMaker, section_of
from tests.gateway.test_continuing import CHAT, JSON, body_of
from tests.gateway.token_replica import token_replica

from steppe.gateway import forwarder
from steppe.gateway.access import AccessSettings
from steppe.gateway.delivery import Delivery
from steppe.gateway.sites.other_sites import OtherSites, RefusedBySiteError
from steppe.sites.peer import SiteTry
from steppe.sites.view import RequestView
from steppe.tenants.directory import Directory
from steppe.tenants.tenant import KnownTenants, Tenant

URLS = {
    "shanghai": "https://10.0.0.2:8443",
    "guizhou": "https://10.0.0.3:8443",
    "lyon": "https://10.0.0.4:8443",
}
AREAS = sorted(set(REGIONS.values()))
TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
# A wrong router may name any site at any address.
peers = st.builds(
    lambda site, url: SiteTry(site, url, TLS, {}, "e.1"),
    st.sampled_from([*URLS, "moscow"]),
    st.sampled_from([*URLS.values(), "https://10.0.0.9:8443"]),
)


class AnyRouter(FakeRouter):
    """Answers whatever it was given, in turn."""

    def __init__(self, answers: list[SiteTry | None]) -> None:
        super().__init__()
        self.answers = answers

    def choose(self, asked: RequestView, engine_id: str, tried: Collection[str]) -> SiteTry | None:
        return self.answers.pop(0) if self.answers else None


class Refusing(OtherSites):
    """Notes where a request would be sent; every site refuses it."""

    sent: list[SiteTry]

    async def _visit(self, delivery: Delivery, peer: SiteTry) -> web.StreamResponse:
        self.sent.append(peer)
        raise RefusedBySiteError(peer.site)


@dataclass
class OpenRequest:
    """As much of a delivery as the choice of a site looks at."""

    asked: RequestView
    has_begun: bool
    engine_id: str = "e"
    tried_sites: set[str] = field(default_factory=set)

    @property
    def context(self) -> OpenRequest:
        return self

    @property
    def client(self) -> OpenRequest:
        return self


@settings(deadline=None)
@given(
    answers=st.lists(st.none() | peers, max_size=6),
    regions=st.frozensets(st.sampled_from([*AREAS, "ru"])),
    has_begun=st.booleans(),
)
def test_no_request_leaves_the_regions_of_its_tenant_whatever_the_router_answers(
    answers: list[SiteTry | None], regions: frozenset[str], has_begun: bool
) -> None:
    router = AnyRouter(list(answers))
    others = Refusing(section_of(URLS), router, 1.0)
    others.sent = []
    asked = RequestView("m", None, "standard", regions, "general", 10, 10)
    request: Any = OpenRequest(asked, has_begun)
    assert asyncio.run(others.serve(cast(Delivery, request))) is None
    assert all(REGIONS[peer.site] in regions for peer in others.sent)
    assert all(URLS[peer.site] == peer.url for peer in others.sent)
    assert len({peer.site for peer in others.sent}) == len(others.sent) <= 2
    # What was chosen, but not sent, is noted, too.
    refused = [peer for peer in answers[: len(answers) - len(router.answers)] if peer]
    assert len(router.noted) == len(refused) - len(others.sent)


async def test_requests_of_tenants_go_only_where_each_allows(make_sites: SitesMaker) -> None:
    tenants = (
        Tenant("home"),
        Tenant("both", regions=("cn", "eu")),
        Tenant("away", regions=("eu",)),
        Tenant("nowhere", regions=("us",)),
    )
    access = AccessSettings(KnownTenants(tenants), run_secret="5ec7e7")
    sites = await make_sites("shanghai", "lyon", access=access, run_secret="5ec7e7")
    home, router, rng = sites.home, sites.router, random.Random(7)
    home.route(await token_replica(home, "r0"))
    for _ in range(60):
        tenant = rng.choice(tenants)
        router.plan = rng.choices(["shanghai", "lyon"], k=rng.randrange(3))
        for other in sites.others.values():
            other.received.clear()
        status, _, _ = await home.post(CHAT, body_of(CHAT), **JSON, x_steppe_tenant=tenant.name)
        (ended,) = home.gateway.drain_finished()
        regions = tenant.regions or ("cn",)
        served = ended.site or ("hohhot" if ended.replica else "")
        assert all(REGIONS[name] in regions for name, o in sites.others.items() if o.received)
        assert (status, bool(served)) in ((200, True), (503, False))
        assert not served or REGIONS[served] in regions


async def test_a_request_that_may_stay_nowhere_gets_a_503_with_its_reason(
    make_sites: SitesMaker,
) -> None:
    access = AccessSettings(KnownTenants((Tenant("away", regions=("eu",)),)))
    sites = await make_sites("shanghai", access=access)
    here = await token_replica(sites.home, "r0")
    sites.home.route(here)
    status, headers, found = await sites.home.post(
        CHAT, body_of(CHAT), **JSON, x_steppe_tenant="away"
    )
    assert (status, b'"code":"no_site"' in found) == (503, True)
    assert "Retry-After" in headers
    assert not here.received
    (ended,) = sites.home.gateway.drain_finished()
    assert (ended.finish, ended.replica, ended.site) == ("rejected", None, "")


async def test_a_request_that_waits_keeps_to_what_its_tenant_allows_by_then(
    make_sites: SitesMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forwarder, "RECONSIDER_S", 0.02)
    access = AccessSettings(KnownTenants((Tenant("both", regions=("cn", "eu")),)))
    sites = await make_sites("lyon", access=access)
    home, router = sites.home, sites.router
    task = asyncio.create_task(home.post(CHAT, body_of(CHAT), **JSON, x_steppe_tenant="both"))
    await home.until(lambda: len(router.asked) > 2)
    only_here = Directory(KnownTenants((Tenant("both", regions=("cn",), data_class="personal"),)))
    monkeypatch.setattr(home.gateway._access, "_directory", only_here)
    router.plan = ["lyon"]
    await home.until(lambda: not router.plan)
    home.route(await token_replica(home, "r0"))
    assert (await task)[0] == 200
    assert not sites.others["lyon"].received
    assert router.asked[-1].data_class == "personal"
    assert router.asked[-1].regions == {"cn"}
