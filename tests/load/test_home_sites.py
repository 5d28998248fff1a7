from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest
from aiohttp import web

from steppe.load.arrivals import LengthLimits
from steppe.load.client import ServerTarget
from steppe.load.home_sites import (
    HomeLoad,
    arrivals_at_homes,
    expositions,
    replay_at_homes,
    statuses,
)
from steppe.load.loop_thread import LoopThread
from steppe.load.replay import ReplayOptions
from steppe.load.stream import Completed

SHARES = {"west": 0.25, "east": 0.75}
LIMITS = LengthLimits(64, 32)
ANSWER = (
    b'data: {"choices":[{"delta":{"content":"a"},"finish_reason":"length"}]}\n\n'
    b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":1}}\n\n'
    b"data: [DONE]\n\n"
)


def drawn(seed: int = 0) -> dict[str, tuple[float, ...]]:
    found = arrivals_at_homes(
        SHARES, rate_rps=20.0, duration_s=60.0, length_scale=0.1, limits=LIMITS, seed=seed
    )
    return {site: tuple(arrival.at_s for arrival in each) for site, each in found.items()}


class Gateway:
    """Answers each chat with one token, and notes the tenant."""

    def __init__(self) -> None:
        self.tenants: list[str] = []

    async def chat(self, request: web.Request) -> web.Response:
        self.tenants.append(request.headers.get("x-steppe-tenant", ""))
        return web.Response(body=ANSWER, content_type="text/event-stream")

    async def status(self, _request: web.Request) -> web.Response:
        return web.json_response({"t_s": 1.5})


@contextmanager
def serving(loop: LoopThread, gateway: Gateway) -> Iterator[str]:
    """A gateway on a free port; yields its address."""
    app = web.Application()
    app.router.add_post("/v1/chat/completions", gateway.chat)
    app.router.add_get("/steppe/v1/status", gateway.status)
    runner = web.AppRunner(app)

    async def start() -> str:
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        return f"http://{host}:{port}"

    yield loop.call(start())
    loop.call(runner.cleanup())


@pytest.fixture
def loop() -> Iterator[LoopThread]:
    with LoopThread("test") as loop:
        yield loop


def test_each_site_gets_its_share_of_one_traffic() -> None:
    found = drawn()
    assert found == drawn(), "a seed draws the same again"
    assert found != drawn(seed=1)
    whole = sum(map(len, found.values()))
    assert len(found["east"]) / whole == pytest.approx(0.75, abs=0.06)
    assert all(list(times_s) == sorted(times_s) for times_s in found.values())


def test_the_customers_of_each_site_ask_their_own_gateway_as_a_tenant(loop: LoopThread) -> None:
    west, east = Gateway(), Gateway()
    with serving(loop, west) as west_url, serving(loop, east) as east_url:
        found = arrivals_at_homes(
            SHARES, rate_rps=100.0, duration_s=0.3, length_scale=0.1, limits=LIMITS, seed=3
        )
        loads = [
            HomeLoad(site, ServerTarget(url, "m"), found[site]).of_tenant("moves")
            for site, url in (("west", west_url), ("east", east_url))
        ]
        results = loop.call(replay_at_homes(loads, ReplayOptions()))
    for site, gateway in (("west", west), ("east", east)):
        assert gateway.tenants == ["moves"] * len(found[site])
        assert all(isinstance(each.outcome, Completed) for each in results[site].requests)


def test_a_gateway_that_does_not_answer_has_no_status(loop: LoopThread) -> None:
    with closing(socket.socket()) as taken, serving(loop, Gateway()) as url:
        taken.bind(("127.0.0.1", 0))  # nothing listens there
        silent = f"http://127.0.0.1:{taken.getsockname()[1]}"
        urls = {"west": url, "east": silent}
        found = loop.call(statuses(urls))
        assert loop.call(expositions(urls)) == {}, "this gateway has no metrics"
    assert found == {"west": {"t_s": 1.5}}
    assert asyncio.run(statuses({})) == {}
