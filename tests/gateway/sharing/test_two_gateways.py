"""Two gateways over HTTP, with one coordinator and the same replica."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.gateway.sharing.direct import DirectCoordination, DirectGateways
from tests.gateway.site import Clock, FakeReplica, Site

from steppe.gateway.access import OPEN, AccessSettings
from steppe.gateway.server import Gateway, GatewayModel, GatewaySettings
from steppe.gateway.sharing.coordinator import SETTLE_S, Coordinator
from steppe.tenants.key import make_key
from steppe.tenants.tenant import KnownTenants, Tenant, TenantLimits


@dataclass
class Pair:
    """The gateways `a` and `b`, and their replica, which answers once it may."""

    sites: dict[str, Site]
    coordination: DirectCoordination
    replica: FakeReplica

    def route(self, limit: int) -> None:
        for site in self.sites.values():
            site.route(self.replica, limit=limit)

    async def post(self, requests: dict[str, int], key: str = "none") -> Counter[int]:
        """Send so many requests to each gateway, all at once; count the statuses."""
        names = [name for name, count in requests.items() for _ in range(count)]
        sent = [self.sites[name].post(Authorization=f"Bearer {key}") for name in names]
        return Counter(status for status, _, _ in await asyncio.gather(*sent))


@asynccontextmanager
async def pair(access: AccessSettings = OPEN) -> AsyncIterator[Pair]:
    clock = Clock()
    coordination, others = DirectCoordination(Coordinator(clock)), DirectGateways()
    clock.now_s += SETTLE_S
    async with AsyncExitStack() as stack:
        sites = {}
        for name in "ab":
            settings = GatewaySettings(
                "127.0.0.1",
                port=0,
                max_waiting=100,
                max_wait_s=30.0,
                models=(GatewayModel("m", ttft_s=2.0),),
                stop_timeout_s=0.1,
                access=access,
                name=name,
                gateways=2,
            )
            client = await stack.enter_async_context(aiohttp.ClientSession(auto_decompress=False))
            gateway = others.gateways[name] = Gateway(settings)
            gateway.share(coordination, others)
            sites[name] = Site(stack, client, gateway, await gateway.start())
            stack.push_async_callback(gateway.stop)
        replica = await sites["a"].replica("r0")
        replica.may_answer.set()
        made = Pair(sites, coordination, replica)
        made.route(limit=8)
        for site in sites.values():
            sharing = site.gateway._sharing
            assert sharing is not None
            await site.until(lambda known=sharing: len(known.places.share.gateways) == 2)  # type: ignore[misc]
        yield made


def samples(text: bytes, name: str) -> dict[str, float]:
    """Return the values of a metric by gateway."""
    families = text_string_to_metric_families(text.decode())
    found = [s for family in families for s in family.samples if s.name == name]
    assert len({tuple(sorted(sample.labels.items())) for sample in found}) == len(found)
    return {sample.labels["gateway"]: sample.value for sample in found}


async def test_a_replica_never_has_more_requests_than_its_limit() -> None:
    async with pair() as made:
        made.replica.may_answer.clear()
        sending = asyncio.create_task(made.post({"a": 20, "b": 4}))
        await made.sites["a"].until(lambda: len(made.replica.received) == 8)
        await asyncio.sleep(0)
        assert len(made.replica.received) == 8
        made.replica.may_answer.set()
        assert await sending == {200: 24}


async def test_a_gateway_gets_the_places_that_the_other_one_does_not_need() -> None:
    async with pair() as made:
        made.replica.may_answer.clear()
        sending = asyncio.create_task(made.post({"a": 8}))
        await made.sites["a"].until(lambda: len(made.replica.received) == 8)
        made.replica.may_answer.set()
        await sending


async def test_of_four_times_a_limit_exactly_the_limit_is_served() -> None:
    key = make_key("lab", 0.0)
    lab = Tenant("lab", TenantLimits(requests_per_minute=10))
    access = AccessSettings(KnownTenants((lab,), (key.stored,)))
    async with pair(access) as made:
        assert await made.post({"a": 25, "b": 15}, key.text) == {200: 10, 429: 30}
        _, headers, _ = await made.sites["b"].post(Authorization=f"Bearer {key.text}")
        assert headers["x-ratelimit-remaining-requests"] == "0"
        assert 0 < int(headers["Retry-After"]) <= 61


async def test_any_gateway_shows_the_metrics_of_both() -> None:
    async with pair() as made:
        await made.post({"a": 2, "b": 3})
        for site in made.sites.values():
            _, _, text = await site.get("/metrics")
            assert samples(text, "steppe_requests_arrived_total") == {"a": 2.0, "b": 3.0}
            assert samples(text, "steppe_gateway_up") == {"a": 1.0, "b": 1.0}
            assert text.count(b"# TYPE steppe_requests_arrived_total ") == 1


async def test_a_gateway_that_does_not_answer_is_shown_as_down() -> None:
    async with pair() as made:
        sharing = made.sites["a"].gateway._sharing
        assert sharing is not None
        others: Any = sharing._others
        del others.gateways["b"]
        _, _, text = await made.sites["a"].get("/metrics")
        assert samples(text, "steppe_gateway_up") == {"a": 1.0, "b": 0.0}
        assert samples(text, "steppe_requests_arrived_total") == {"a": 0.0}


async def test_a_request_is_found_at_the_other_gateway() -> None:
    async with pair() as made:
        await made.sites["a"].post(X_Request_Id="mine")
        for site, status in (("a", 200), ("b", 200)):
            found, _, body = await made.sites[site].get("/steppe/v1/requests/mine")
            assert (found, json.loads(body)["id"]) == (status, "mine")
        assert (await made.sites["b"].get("/steppe/v1/requests/none"))[0] == 404


async def test_the_status_counts_the_requests_of_both() -> None:
    async with pair() as made:
        made.replica.may_answer.clear()
        sending = asyncio.create_task(made.post({"a": 6, "b": 6}))

        async def total(site: Site) -> int:
            _, _, body = await site.get("/steppe/v1/status")
            counts = json.loads(body)["models"]["m"]
            return int(counts["waiting"] + counts["outstanding"])

        async with asyncio.timeout(20):
            for site in made.sites.values():
                while await total(site) != 12:
                    await asyncio.sleep(0.01)
        made.replica.may_answer.set()
        await sending


@pytest.mark.parametrize("asked", ["a", "b"])
async def test_work_is_withdrawn_at_whichever_gateway_it_was_declared(asked: str) -> None:
    async with pair() as made:
        work = {"rows": 1, "prompt_tokens": 1, "output_tokens": 1}
        async with made.sites["a"].client.put(
            f"{made.sites['a'].url}/steppe/v1/work/job", data=json.dumps(work)
        ) as answer:
            assert answer.status == 200
        for status in (200, 404):
            url = f"{made.sites[asked].url}/steppe/v1/work/job"
            async with made.sites[asked].client.delete(url) as answer:
                assert answer.status == status


async def test_a_gateway_takes_its_even_part_of_the_places_without_a_coordinator() -> None:
    async with pair() as made:
        sharing = made.sites["a"].gateway._sharing
        assert sharing is not None
        made.coordination.is_down = True
        sharing.places._shared_s -= 100.0
        sharing.places.hurry()
        table = next(iter(made.sites["a"].gateway._pools)).gate.table
        made.sites["a"].route(made.replica, limit=9)
        await made.sites["a"].until(lambda: table.held == {"r0": 5})
