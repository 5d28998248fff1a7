"""Liveness and readiness."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from tests.gateway.site import Clock, Site, SiteFactory


async def check(site: Site, path: str) -> tuple[int, str | None, dict[str, Any]]:
    """Return status, `Retry-After` and body of a health check."""
    status, headers, body = await site.get(path)
    found: dict[str, Any] = json.loads(body)
    return status, headers.get("Retry-After"), found


async def is_ready_metric(site: Site) -> bool:
    _, _, text = await site.get("/metrics")
    return b"\nsteppe_gateway_ready 1.0\n" in text


@pytest.mark.parametrize("path", ["/health", "/health/ready"])
async def test_a_gateway_with_an_awake_replica_is_ready(site: Site, path: str) -> None:
    site.route(await site.replica("r0"), await site.replica("r1"))
    state = {"status": "ok", "awake_replicas": ["r0", "r1"], "waiting": 0}
    assert await check(site, path) == (200, None, state)
    assert await is_ready_metric(site)


async def test_a_gateway_is_live_but_not_ready_before_its_first_replica(site: Site) -> None:
    assert await check(site, "/health/live") == (200, None, {"status": "ok"})
    status, retry_after, body = await check(site, "/health")
    assert (status, retry_after) == (503, "10")
    assert (body["status"], body["awake_replicas"]) == ("unavailable", [])
    assert body["error"] == {
        "message": "no replica is awake, and it is unknown when one will be",
        "type": "overloaded",
        "param": None,
        "code": "no_replica",
    }
    assert not await is_ready_metric(site)


async def test_a_gateway_without_a_replica_is_ready_if_one_is_forecast_within_5_s(
    open_site: SiteFactory,
) -> None:
    site = await open_site(now_s=Clock())
    site.gateway.set_routes((), 4.5)
    assert (await check(site, "/health"))[0] == 200
    site.gateway.set_routes((), 41.5)
    status, retry_after, body = await check(site, "/health")
    assert (status, retry_after) == (503, "42")
    assert body["error"]["message"] == "no replica is awake; one is forecast in 42 s"


async def test_a_gateway_whose_only_replica_is_unreachable_is_not_ready(site: Site) -> None:
    lost = await site.replica("r0")
    await lost.stop()
    site.route(lost)
    waiting = asyncio.create_task(site.post())
    await site.until(lambda: site.gateway.status().waiting == 1)
    status, _, body = await check(site, "/health/ready")
    assert (status, body["awake_replicas"], body["waiting"]) == (503, [], 1)
    waiting.cancel()


async def test_a_gateway_whose_controller_is_silent_is_not_ready_and_says_for_how_long(
    open_site: SiteFactory,
) -> None:
    clock = Clock()
    site = await open_site(now_s=clock)
    site.route(await site.replica("r0"))
    assert b"steppe_controller_stale 0.0\n" in (await site.get("/metrics"))[2]
    clock.now_s += 4.0
    status, _, body = await check(site, "/health")
    assert (status, body["awake_replicas"]) == (503, [])
    assert body["error"]["message"] == "the controller has been silent for 4 s"
    text = (await site.get("/metrics"))[2]
    assert b"steppe_controller_stale 1.0\n" in text
    assert b"steppe_controller_age_seconds 4.0\n" in text
