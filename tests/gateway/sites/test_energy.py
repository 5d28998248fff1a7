"""What requests take at other sites counts in the limits of their tenant."""

from __future__ import annotations

import ssl
from dataclasses import replace

import orjson
from tests.gateway.sites.other_site import Sites, SitesMaker
from tests.gateway.sites.test_hops import SECRET, access_of
from tests.gateway.test_continuing import CHAT, JSON, body_of
from tests.gateway.token_replica import PROMPT, TOKENS, token_replica

from steppe.gateway.request import SettledRequest
from steppe.gateway.sites.energy import EnergyElsewhere
from steppe.sites.peer import SiteTry, TryOutcome
from steppe.tenants.limiter import Taken
from steppe.tenants.tenant import Tenant, TenantLimits

J = 1e6


async def limited(make_sites: SitesMaker, joules_per_hour: float) -> Sites:
    """Return a home whose tenant has a limit, beside a site that shows 10 J and 2 J per token."""
    tenant = Tenant("a", TenantLimits(joules_per_hour=joules_per_hour), regions=("cn",))
    access = replace(access_of(tenant), trusted_proxies=("127.0.0.1",))
    sites = await make_sites("shanghai", access=access, run_secret=SECRET)
    peers = sites.router.peers
    peers["shanghai"] = replace(peers["shanghai"], uj_per_token=10 * J, prompt_uj_per_token=2 * J)
    return sites


async def ask(sites: Sites) -> tuple[int, bytes]:
    status, _, found = await sites.home.post(CHAT, body_of(CHAT), **JSON, x_steppe_tenant="a")
    return status, found


async def test_what_another_site_serves_counts_by_what_it_shows_per_token(
    make_sites: SitesMaker,
) -> None:
    took_j = 10.0 * len(TOKENS) + 2.0 * len(PROMPT)
    for limit_j, status in ((took_j - 0.1, 429), (1e6, 200)):
        sites = await limited(make_sites, limit_j)
        sites.router.plan = ["shanghai", "shanghai"]
        assert (await ask(sites))[0] == 200
        (ended,) = sites.home.gateway.drain_finished()
        own = Taken(ended.prompt_tokens, ended.output_tokens, 0.0)
        sites.home.gateway.settle([SettledRequest(ended.id, ended.tenant, own)])
        found = await ask(sites)
        assert found[0] == status
        if status == 429:
            assert orjson.loads(found[1])["error"]["param"] == "joules_per_hour"


async def test_a_stream_that_goes_on_here_counts_what_both_sites_took(
    make_sites: SitesMaker,
) -> None:
    sites = await limited(make_sites, 30.0)
    sites.home.route(await token_replica(sites.home, "r0"))
    sites.others["shanghai"].lives = [3]
    sites.router.plan = ["shanghai"]
    assert (await ask(sites))[0] == 200
    (ended,) = sites.home.gateway.drain_finished()
    assert (ended.site, ended.replica) == ("shanghai", "r0")
    own = Taken(ended.prompt_tokens, ended.output_tokens, 11.0)
    sites.home.gateway.settle([SettledRequest(ended.id, ended.tenant, own)])
    assert (await ask(sites))[0] == 429  # 11 J here, 20 J and more there


def test_estimates_that_are_never_settled_take_a_limited_memory() -> None:
    energy, outcome = EnergyElsewhere(most=2), TryOutcome(200, 0, 3, 0.0, 1.0, "served")
    peer = SiteTry("shanghai", "https://a:1", ssl.create_default_context(), {}, "e.1", J)
    for request in ("a", "b", "a", "c"):
        energy.note(request, peer, outcome)
    assert [energy.take(request) for request in ("a", "b", "c", "c")] == [6.0, 0.0, 3.0, 0.0]
