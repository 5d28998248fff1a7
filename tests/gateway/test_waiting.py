"""Waiting for a slot, and the refusals where there is none."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from typing import Any

from tests.gateway.site import Clock, Cut, Site, SiteFactory


def is_waiting(site: Site, count: int) -> bool:
    return site.gateway.status().waiting == count


def _error(body: bytes) -> dict[str, Any]:
    error: dict[str, Any] = json.loads(body)["error"]
    return error


async def test_a_request_waits_until_a_replica_wakes(site: Site) -> None:
    task = asyncio.create_task(site.post())
    await site.until(lambda: site.gateway.status().waiting == 1)
    await site.awake_replica()
    status, _, _ = await task
    assert status == 200


async def test_urgent_classes_are_served_first(open_site: SiteFactory) -> None:
    site = await open_site()
    replica = await site.replica("r0")
    tasks = []
    for number, priority in enumerate(("deferrable", "standard", "interactive")):
        tasks.append(asyncio.create_task(site.post(X_Steppe_Priority=priority)))
        await site.until(partial(is_waiting, site, number + 1))
    site.route(replica, limit=1)
    await asyncio.gather(*tasks)
    order = [received.headers["x-steppe-priority"] for received in replica.received]
    assert order == ["interactive", "standard", "deferrable"]


async def test_a_request_beyond_max_waiting_gets_a_503_with_the_forecast(
    open_site: SiteFactory,
) -> None:
    site = await open_site(max_waiting=1, now_s=Clock())
    site.gateway.set_routes((), 41.5)
    task = asyncio.create_task(site.post())
    await site.until(lambda: site.gateway.status().waiting == 1)
    status, headers, body = await site.post()
    assert (status, headers["Retry-After"]) == (503, "42")
    assert (_error(body)["type"], _error(body)["code"]) == ("overloaded", "queue_full")
    assert "no replica is awake" in _error(body)["message"]
    task.cancel()
    (ended,) = site.gateway.drain_finished()
    assert (ended.finish, ended.status) == ("rejected", 503)


async def test_a_request_that_gives_way_to_a_more_urgent_one_is_shed(
    open_site: SiteFactory,
) -> None:
    site = await open_site(max_waiting=1)
    deferred = asyncio.create_task(site.post(X_Steppe_Priority="deferrable"))
    await site.until(lambda: site.gateway.status().waiting == 1)
    urgent = asyncio.create_task(site.post(X_Steppe_Priority="interactive"))
    status, headers, body = await deferred
    assert (status, _error(body)["code"], "Retry-After" in headers) == (503, "gave_way", True)
    (ended,) = site.gateway.drain_finished()
    assert ended.finish == "shed"
    await site.awake_replica()
    assert (await urgent)[0] == 200


async def test_a_request_that_waits_too_long_gets_a_503(open_site: SiteFactory) -> None:
    site = await open_site(max_wait_s=0.02)
    status, headers, body = await site.post()
    assert (status, _error(body)["code"]) == (503, "waited_too_long")
    assert int(headers["Retry-After"]) >= 1
    (ended,) = site.gateway.drain_finished()
    assert ended.finish == "shed"


async def test_light_requests_without_a_replica_get_a_503(site: Site) -> None:
    status, headers, body = await site.post("/v1/tokenize")
    assert (status, _error(body)["code"]) == (503, "no_replica")
    assert "Retry-After" in headers


async def test_time_at_a_replica_that_failed_does_not_count_as_waiting(
    open_site: SiteFactory,
) -> None:
    clock = Clock()
    site = await open_site(max_wait_s=30.0, now_s=clock)
    dying, die = await site.replica("r0"), asyncio.Event()
    dying.stream = [die, Cut()]
    site.route(dying)
    task = asyncio.create_task(site.post())
    await site.until(lambda: bool(dying.received))
    clock.now_s += 60.0
    die.set()
    await site.until(lambda: site.gateway.status().waiting == 1 or task.done())
    site.route(await site.replica("r1"))
    assert (await task)[0] == 200


async def test_a_retry_waits_again_even_if_the_queue_is_full(open_site: SiteFactory) -> None:
    site = await open_site(max_waiting=1)
    dying, die = await site.replica("r0"), asyncio.Event()
    dying.stream = [die, Cut()]
    site.route(dying, limit=1)
    lost = asyncio.create_task(site.post())
    await site.until(lambda: bool(dying.received))
    other = asyncio.create_task(site.post())
    await site.until(lambda: site.gateway.status().waiting == 1)
    die.set()
    await site.until(lambda: site.gateway.status().waiting == 2 or lost.done())
    site.route(await site.replica("r1"))
    assert [(await task)[0] for task in (lost, other)] == [200, 200]


async def test_without_a_forecast_retry_after_is_the_queue_over_the_recent_rate(
    open_site: SiteFactory,
) -> None:
    clock = Clock()
    site = await open_site(max_waiting=2, now_s=clock)
    clock.now_s += 100.0  # the rate is that of ten whole seconds
    await site.awake_replica()
    for _ in range(5):
        await site.post()
    site.route()
    tasks = [asyncio.create_task(site.post()) for _ in range(2)]
    await site.until(lambda: site.gateway.status().waiting == 2)
    for _ in range(20):  # refusals do not raise the rate
        status, headers, _ = await site.post()
        assert (status, headers["Retry-After"]) == (503, "4")
    for task in tasks:
        task.cancel()


async def test_retry_after_is_at_least_a_second(open_site: SiteFactory) -> None:
    site = await open_site(max_waiting=0)
    site.gateway.set_routes((), 0.0)
    status, headers, _ = await site.post()
    assert (status, headers["Retry-After"]) == (503, "1")
