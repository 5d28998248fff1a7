"""Several gateways of one run: processes on one port, and nodes with a gateway each."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
import uuid
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import aiohttp
import httpx
import pytest
from tests.fixtures.ray_cluster import ray_cluster
from tests.fixtures.serving import (
    MODEL,
    SOON_S,
    START_S,
    Load,
    Serving,
    assert_books_balance,
    free_port,
    wait_until,
)

from steppe.tenants.key import make_key

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]

GATEWAY = "ray::GatewayActor"
LIMIT = 20
BODY = {"model": MODEL, "prompt": "The wind", "max_tokens": 8, "ignore_eos": True}


def tenants(**limits: int) -> tuple[dict[str, Any], dict[str, str]]:
    """Return a section `tenants`, and the headers of its two tenants by name."""
    keys = {name: make_key(name, time.time()) for name in ("limited", "admin")}
    listed = [
        {
            "name": name,
            "admin": name == "admin",
            "keys": [{"prefix": key.stored.prefix, "sha256": key.stored.digest}],
            **(limits if name == "limited" else {}),
        }
        for name, key in keys.items()
    ]
    return {"list": listed}, {name: f"Bearer {key.text}" for name, key in keys.items()}


async def statuses(url: str, key: str, requests: int) -> Counter[int]:
    """Send requests at once, each on a connection of its own; return how often each status came."""

    async def one(client: aiohttp.ClientSession) -> int:
        headers = {"Authorization": key}
        async with client.post(f"{url}/v1/completions", json=BODY, headers=headers) as answer:
            await answer.read()
            return answer.status

    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    timeout = aiohttp.ClientTimeout(total=START_S)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as client:
        return Counter(await asyncio.gather(*(one(client) for _ in range(requests))))


def served_by(metrics: str) -> dict[str, float]:
    """Return how many requests each gateway has finished."""
    found: dict[str, float] = {}
    for line in metrics.splitlines():
        match = re.match(r'steppe_requests_total\{.*gateway="([^"]+)".*\} (\S+)', line)
        if match:
            found[match[1]] = found.get(match[1], 0.0) + float(match[2])
    return found


def up(url: str, gateways: int) -> set[str]:
    """Return the names of the gateways that answer, once there are so many; else none."""
    try:
        text = httpx.get(f"{url}/metrics").text
    except httpx.TransportError:  # it does not listen yet
        return set()
    found = set(re.findall(r'^steppe_gateway_up\{gateway="([^"]+)"\} 1.0$', text, re.MULTILINE))
    return found if len(found) == gateways else set()


def test_two_processes_on_one_port_are_one_gateway_for_clients(
    serve: Callable[..., Serving], one_gpu: dict[str, Any], synthetic: dict[str, Any]
) -> None:
    section, keys = tenants(requests_per_minute=LIMIT)
    gateway = {"port": free_port(), "processes": 2}
    fleet = serve(**one_gpu, **synthetic, gateway=gateway, tenants=section)
    fleet.wait_for_awake()
    assert len(fleet.pids(GATEWAY)) == 2
    admin = {"Authorization": keys["admin"]}

    def by_gateway() -> dict[str, float]:
        return served_by(httpx.get(f"{fleet.url}/metrics", headers=admin).text)

    asked: list[httpx.Response] = []

    def both_serve() -> bool:  # each request is a new connection, which either process may get
        url = f"{fleet.url}/v1/completions"
        asked.append(httpx.post(url, json=BODY, headers=admin, timeout=SOON_S))
        return set(by_gateway()) == {"0", "1"}

    wait_until(both_serve, "both processes have served")
    assert {answer.status_code for answer in asked} == {200}
    before = len(asked)
    begun_s = time.monotonic()
    found = asyncio.run(statuses(fleet.url, keys["limited"], 4 * LIMIT))
    passed_s = time.monotonic() - begun_s  # the limit grows again while they are sent
    assert found.total() == found[200] + found[429] == 4 * LIMIT
    assert LIMIT <= found[200] <= LIMIT * (1.05 + passed_s / 60.0)
    served = found[200]

    wait_until(lambda: sum(by_gateway().values()) == before + served, "all are counted")
    for _ in range(8):  # each on a new connection, which either process may get
        shown = httpx.get(f"{fleet.url}/metrics", headers=admin).text
        by = served_by(shown)
        assert set(by) == {"0", "1"}
        assert sum(by.values()) == before + served
        assert shown.count("# TYPE steppe_requests_total ") == 1
        assert 'steppe_gateway_up{gateway="0"} 1.0' in shown

    id_ = "asked-for-later"
    sent = admin | {"X-Request-Id": id_}
    answer = httpx.post(f"{fleet.url}/v1/completions", json=BODY, headers=sent, timeout=SOON_S)
    assert answer.status_code == 200
    fleet.wait_for_requests({id_})

    def energy() -> Any:
        later = httpx.get(f"{fleet.url}/steppe/v1/requests/{id_}", headers=admin)
        assert later.status_code == 200
        return later.json()["usage"]["energy"]

    wait_until(lambda: (energy() or {}).get("final"), "the energy of the request")
    assert {energy()["joules"] for _ in range(8)} == {fleet.requests()[id_].energy_j}

    control = httpx.get(f"{fleet.url}/steppe/v1/config/control", headers=admin).json()
    changed = httpx.put(
        f"{fleet.url}/steppe/v1/config/control",
        headers=admin,
        json={**control, "dwell_s": 2.5},
        timeout=SOON_S,
    )
    assert changed.status_code in (200, 202)

    def dwells() -> set[float]:
        url = f"{fleet.url}/steppe/v1/config/control"
        return {httpx.get(url, headers=admin).json()["dwell_s"] for _ in range(12)}

    wait_until(lambda: dwells() == {2.5}, "both processes know the change")

    def usage() -> set[int]:
        url = f"{fleet.url}/steppe/v1/usage?tenant=limited"
        rows = [httpx.get(url, headers=admin).json()["data"] for _ in range(8)]
        return {sum(row["completed"] for row in each) for each in rows}

    wait_until(lambda: usage() == {served}, "both processes show the usage")

    assert fleet.end() == 0
    assert {r.gateway for r in fleet.requests().values()} == {"0", "1"}
    assert_books_balance(fleet)


def test_a_process_that_dies_comes_back_while_the_other_one_serves(
    serve: Callable[..., Serving], one_gpu: dict[str, Any], synthetic: dict[str, Any]
) -> None:
    fleet = serve(**one_gpu, **synthetic, gateway={"port": free_port(), "processes": 2})
    fleet.wait_for_awake()
    with Load(fleet, 8) as load:
        load.wait_for(16)
        before = fleet.pids(GATEWAY)
        os.kill(min(before), signal.SIGKILL)
        fleet.wait_for_another(GATEWAY, before)
        load.wait_for(32)
    assert len(load.failed) <= 8, "its own streams end, and no others"
    assert fleet.end() == 0
    assert_books_balance(fleet)


def test_each_node_has_a_gateway_on_its_own_address(
    serve: Callable[..., Serving],
    one_gpu: dict[str, Any],
    synthetic: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", uuid.uuid4().hex)
    port = free_port()
    gateway = {"port": port, "nodes": "every", "allow_without_keys": True}
    with ray_cluster(2) as cluster:
        fleet = serve(
            device=one_gpu["device"],
            ray={"address": cluster.address},
            gateway=gateway,
            **synthetic,
        )
        fleet.wait_for_words("running")
        fleet.last_tick()
        second = f"http://127.0.0.2:{port}"
        addresses = wait_until(lambda: up(second, 2), "both gateways", START_S)
        assert "127.0.0.2" in addresses
        for address in addresses:  # Ray gives the head that of this machine
            url = f"http://{address}:{port}"
            found = httpx.post(f"{url}/v1/completions", json=BODY, timeout=START_S)
            assert found.status_code == 200
            assert wait_until(partial(up, url, 2), "both gateways") == addresses
        cluster.add()
        wait_until(lambda: cluster.has_joined(2), "the third node", START_S)
        third = f"http://127.0.0.3:{port}"

        def answers() -> bool:
            try:
                return httpx.get(f"{third}/health/ready").status_code == 200
            except httpx.TransportError:
                return False

        wait_until(answers, "the gateway of the third node", START_S)
        found = httpx.post(f"{third}/v1/completions", json=BODY, timeout=START_S)
        assert found.status_code == 200
        assert fleet.end(signal.SIGINT) == 0
        wait_until(lambda: not fleet.alive(), "no process of the run is left")
    assert {r.gateway for r in fleet.requests().values()} == addresses | {"127.0.0.3"}
    assert_books_balance(fleet)
