"""Who waits for a place, for how long, and what it is told when there is none."""

from __future__ import annotations

import asyncio
import json
import time
from types import SimpleNamespace
from typing import Any

import pytest

from steppe.gateway import application, generation


def _error(body: bytes) -> dict[str, Any]:
    error: dict[str, Any] = json.loads(body)["error"]
    return error


async def test_a_request_waits_until_a_replica_wakes(site: Any) -> None:
    task = asyncio.create_task(site.post())
    await site.until(lambda: site.gateway.status().waiting == 1)
    site.route(await site.replica("r0"))
    status, _, _ = await task
    assert status == 200


async def test_the_urgent_are_served_first(open_site: Any) -> None:
    site = await open_site()
    replica = await site.replica("r0")
    tasks = []
    for number, priority in enumerate(("deferrable", "standard", "interactive")):
        tasks.append(asyncio.create_task(site.post(X_Steppe_Priority=priority)))
        await site.until(lambda number=number: site.gateway.status().waiting == number + 1)
    site.route(replica, limit=1)
    await asyncio.gather(*tasks)
    order = [seen.headers["x-steppe-priority"] for seen in replica.seen]
    assert order == ["interactive", "standard", "deferrable"]


async def test_one_too_many_gets_a_503_with_the_forecast(open_site: Any) -> None:
    site = await open_site(max_waiting=1)
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


async def test_who_gives_way_to_a_more_urgent_request_is_shed(open_site: Any) -> None:
    site = await open_site(max_waiting=1)
    deferred = asyncio.create_task(site.post(X_Steppe_Priority="deferrable"))
    await site.until(lambda: site.gateway.status().waiting == 1)
    urgent = asyncio.create_task(site.post(X_Steppe_Priority="interactive"))
    status, headers, body = await deferred
    assert (status, _error(body)["code"], "Retry-After" in headers) == (503, "gave_way", True)
    (ended,) = site.gateway.drain_finished()
    assert ended.finish == "shed"
    site.route(await site.replica("r0"))
    assert (await urgent)[0] == 200


async def test_who_waits_too_long_gets_a_503(open_site: Any) -> None:
    site = await open_site(max_wait_s=0.02)
    status, headers, body = await site.post()
    assert (status, _error(body)["code"]) == (503, "waited_too_long")
    assert int(headers["Retry-After"]) >= 1
    (ended,) = site.gateway.drain_finished()
    assert ended.finish == "shed"


async def test_light_requests_without_a_replica_get_a_503(site: Any) -> None:
    status, headers, body = await site.post("/v1/tokenize")
    assert (status, _error(body)["code"]) == (503, "no_replica")
    assert "Retry-After" in headers


async def test_who_was_served_longer_than_allowed_to_wait_may_wait_still(
    open_site: Any, cut: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    served_s, now_s = 60.0, [0.0]
    arrival = SimpleNamespace(monotonic=lambda: time.monotonic() - served_s)
    monkeypatch.setattr(application, "time", arrival)
    monkeypatch.setattr(generation, "time", SimpleNamespace(monotonic=lambda: now_s[0]))
    site = await open_site(max_wait_s=served_s / 2)
    dying, die = await site.replica("r0"), asyncio.Event()
    dying.stream = [die, cut]
    site.route(dying)
    task = asyncio.create_task(site.post())
    await site.until(lambda: bool(dying.seen))
    now_s[0] = served_s
    die.set()
    await site.until(lambda: site.gateway.status().waiting == 1 or task.done())
    site.route(await site.replica("r1"))
    assert (await task)[0] == 200


async def test_who_lost_its_replica_waits_again_though_the_queue_is_full(
    open_site: Any, cut: Any
) -> None:
    site = await open_site(max_waiting=1)
    dying, die = await site.replica("r0"), asyncio.Event()
    dying.stream = [die, cut]
    site.route(dying, limit=1)
    lost = asyncio.create_task(site.post())
    await site.until(lambda: bool(dying.seen))
    other = asyncio.create_task(site.post())
    await site.until(lambda: site.gateway.status().waiting == 1)
    die.set()
    await site.until(lambda: site.gateway.status().waiting == 2 or lost.done())
    site.route(await site.replica("r1"))
    assert [(await task)[0] for task in (lost, other)] == [200, 200]


async def test_a_refusal_says_when_those_who_wait_will_be_served_at_the_rate_of_late(
    open_site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    later_s = time.monotonic() + 100.0  # so that the rate is that of ten whole seconds
    monkeypatch.setattr(application, "time", SimpleNamespace(monotonic=lambda: later_s))
    site = await open_site(max_waiting=2)
    site.route(await site.replica("r0"))
    for _ in range(5):
        await site.post()
    site.route()
    tasks = [asyncio.create_task(site.post()) for _ in range(2)]
    await site.until(lambda: site.gateway.status().waiting == 2)
    for _ in range(20):  # those who are refused make the queue look no quicker
        status, headers, _ = await site.post()
        assert (status, headers["Retry-After"]) == (503, "4")
    for task in tasks:
        task.cancel()


async def test_nobody_is_told_to_try_again_in_no_time(open_site: Any) -> None:
    site = await open_site(max_waiting=0)
    site.gateway.set_routes((), 0.0)
    status, headers, _ = await site.post()
    assert (status, headers["Retry-After"]) == (503, "1")
