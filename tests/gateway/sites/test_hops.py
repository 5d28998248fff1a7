from __future__ import annotations

import asyncio
import json

import pytest
from tests.gateway.sites.other_site import Sites, SitesMaker
from tests.gateway.test_continuing import CHAT, JSON, body_of, uninterrupted
from tests.gateway.token_replica import TOKENS, token_replica

from steppe.gateway.access import AccessSettings
from steppe.tenants.key import make_key
from steppe.tenants.tenant import KnownTenants, Tenant, site_tenants

SECRET = "5ec7e7"
OWN = {"x_steppe_tenant": "a", "x_steppe_priority": "deferrable", "X_Steppe_Run": SECRET}
HOP = {"x_steppe_hop": "1", "x_steppe_tenant": "site:shanghai", "X_Steppe_Run": SECRET}


def access_of(*tenants: Tenant) -> AccessSettings:
    sites = site_tenants(["shanghai"])
    keys = tuple(make_key(tenant.name, 0.0).stored for tenant in tenants)
    return AccessSettings(tenants=KnownTenants(tenants + sites.tenants, keys), run_secret=SECRET)


@pytest.fixture
async def sites(make_sites: SitesMaker) -> Sites:
    access = access_of(Tenant("a"))
    return await make_sites("shanghai", access=access, run_secret=SECRET, max_wait_s=0.05)


async def test_a_call_of_another_site_stays_here(sites: Sites) -> None:
    sites.home.route(here := await token_replica(sites.home, "r0"))
    sites.router.plan = ["shanghai"]
    body = body_of(CHAT)
    status, headers, found = await sites.home.post(CHAT, body, **JSON, **HOP, X_Request_Id="abc.1")
    assert (status, found, headers["X-Request-Id"]) == (200, uninterrupted(CHAT, body), "abc.1")
    assert not sites.router.asked
    assert len(here.bodies) == 1
    (ended,) = sites.home.gateway.drain_finished()
    assert (ended.id, ended.tenant, ended.site) == ("abc.1", "site:shanghai", "")


async def test_a_call_of_another_site_waits_a_moment_for_a_slot_and_is_refused(
    sites: Sites,
) -> None:
    status, headers, found = await sites.home.post(CHAT, body_of(CHAT), **JSON, **HOP)
    assert (status, json.loads(found)["error"]["code"]) == (503, "site_full")
    assert "Retry-After" in headers
    (ended,) = sites.home.gateway.drain_finished()
    assert (ended.finish, ended.replica) == ("shed", None)


async def test_a_stream_of_another_site_that_loses_its_replica_soon_ends_with_an_error(
    sites: Sites,
) -> None:
    sites.home.route(await token_replica(sites.home, "r0", lives=[4]))
    _, _, found = await sites.home.post(CHAT, body_of(CHAT), **JSON, **HOP)
    assert b'"code":"site_full"' in found
    assert b"[DONE]" not in found


async def test_the_books_of_a_continued_stream_have_its_own_part(sites: Sites) -> None:
    sites.home.route(await token_replica(sites.home, "r0"))
    earlier = {"steppe_prompt": [11, 12, 13], "steppe_output": [101, 102, 103]}
    usage = {"include_usage": True}
    body = body_of(CHAT, stream_options=usage, return_token_ids=True, vllm_xargs=earlier)
    await sites.home.post(CHAT, body, **JSON, **HOP)
    (ended,) = sites.home.gateway.drain_finished()
    assert (ended.prompt_tokens, ended.output_tokens) == (3, len(TOKENS) - 3)


async def test_a_call_of_another_site_takes_no_place_from_customers_that_wait(
    sites: Sites,
) -> None:
    home = sites.home
    own = [asyncio.create_task(home.post(CHAT, body_of(CHAT), **JSON, **OWN)) for _ in range(10)]
    await home.until(lambda: home.gateway.status().waiting == len(own))
    urgent = {"x_steppe_priority": "interactive"}
    status, _, found = await home.post(CHAT, body_of(CHAT), **JSON, **HOP, **urgent)
    assert (status, json.loads(found)["error"]["code"]) == (503, "site_full")
    home.route(await token_replica(home, "r0"))
    assert {answer[0] for answer in await asyncio.gather(*own)} == {200}


async def test_a_hop_of_a_client_is_refused(make_sites: SitesMaker) -> None:
    sites = await make_sites("shanghai")
    await sites.home.awake_replica()
    status, _, found = await sites.home.post(CHAT, body_of(CHAT), **JSON, x_steppe_hop="1")
    assert (status, "asked for no header x-steppe-hop" in found.decode()) == (400, True)


async def test_a_call_of_a_site_without_a_hop_is_refused(sites: Sites) -> None:
    headers = {name: value for name, value in HOP.items() if name != "x_steppe_hop"}
    for hop in ({}, {"x_steppe_hop": "2"}):
        status, _, found = await sites.home.post(CHAT, body_of(CHAT), **JSON, **headers, **hop)
        assert (status, "asked for x-steppe-hop: 1" in found.decode()) == (400, True)


@pytest.mark.parametrize("is_open", [True, False])
async def test_no_client_is_taken_for_a_site(make_sites: SitesMaker, is_open: bool) -> None:
    key = make_key("site:shanghai", 0.0)
    tenants = KnownTenants((Tenant("site:shanghai"),), () if is_open else (key.stored,))
    proxies = () if is_open else ("127.0.0.1",)
    access = AccessSettings(tenants, trusted_proxies=proxies, run_secret=SECRET)
    sites = await make_sites("shanghai", access=access, run_secret=SECRET)
    replica = await sites.home.awake_replica()
    forged = HOP | {"X_Steppe_Run": "forged"}
    status, _, _ = await sites.home.post(CHAT, body_of(CHAT), **JSON, **forged)
    assert status == 403
    if not is_open:
        by_key = {"Authorization": f"Bearer {key.text}", "x_steppe_hop": "1"}
        status, _, _ = await sites.home.post(CHAT, body_of(CHAT), **JSON, **by_key)
        assert status == 401
    assert not replica.received


async def test_calls_of_sites_are_no_less_bound_by_the_queue_than_customers(sites: Sites) -> None:
    replica = await sites.home.awake_replica(answers=False)
    sites.home.route(replica, limit=1)
    own = asyncio.create_task(sites.home.post(CHAT, b'{"model":"m"}', **JSON, **HOP))
    await sites.home.until(lambda: bool(replica.received))
    status, _, found = await sites.home.post(CHAT, body_of(CHAT), **JSON, **HOP)
    assert (status, json.loads(found)["error"]["code"]) == (503, "site_full")
    replica.may_answer.set()
    assert (await own)[0] == 200
