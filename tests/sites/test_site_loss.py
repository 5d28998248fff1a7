"""A whole site is killed while it serves streams, or its network is cut; and then it comes back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.fixtures.running_sites import Sites, open_sites
from tests.gateway.token_replica import TOKENS
from tests.sites.site_process import Started, site_process
from tests.sites.test_two_sites import (
    TEXT,
    Answer,
    PausedReplica,
    World,
    open_site,
    until,
)

from steppe.gateway.sites import other_sites
from steppe.load.delay_proxy import DelayedRoute, DelayProxy

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

STREAMS, CUT_AFTER = 3, 4
WIND_W = 900.0
PERIOD_S, STEP_S = 1.0, 100.0
"""Time between two heartbeats, s: a busy machine is to miss none; and limit of each step."""
NO_PROXY = DelayProxy(DelayedRoute(0, 0, 0.0))
"""A proxy that is not started."""


def peer_of(sites: Sites, name: str, url: str) -> dict[str, Any]:
    """Return the section of another site."""
    return {"name": name, "region": "cn", "url": url, "token_keys": [sites.keys[name].public.text]}


@dataclass
class Asked:
    """Streams of clients of a site, and where they began."""

    world: World
    tasks: list[asyncio.Task[Answer]]
    sites: list[str]

    async def until_begun(self, site: str, count: int) -> None:
        """Ask until a site has begun so many streams; it stops in the middle of each."""

        async def note(begun: str) -> None:
            self.sites.append(begun)

        async with asyncio.timeout(STEP_S):
            while self.sites.count(site) < count:
                self.tasks.append(asyncio.create_task(self.world.ask(on_begin=note)))
                await asyncio.sleep(0.2)


class Relay:
    """A way to a site that can be cut: then no byte passes, and no end of a connection."""

    def __init__(self, to_port: int) -> None:
        self._to_port, self.passes = to_port, asyncio.Event()
        self.passes.set()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []

    async def start(self) -> str:
        """Listen; return where."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"https://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.sleep(0)  # they are closed then

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        far_reader, far = await asyncio.open_connection("127.0.0.1", self._to_port)
        self._writers.append(far)
        for source, sink in ((reader, far), (far_reader, writer)):
            task = asyncio.create_task(self._pass_on(source, sink))
            self._tasks.add(task)

    async def _pass_on(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await source.read(1 << 16):
                await self.passes.wait()
                sink.write(data)
            await self.passes.wait()
        sink.close()


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as found:
        yield found


@pytest.fixture
async def sites(stack: AsyncExitStack, tmp_path: Path) -> Sites:
    return await stack.enter_async_context(open_sites(tmp_path, "a", "b"))


@pytest.fixture
async def client(stack: AsyncExitStack) -> aiohttp.ClientSession:
    return await stack.enter_async_context(aiohttp.ClientSession())


async def test_streams_of_a_site_that_is_killed_go_on_and_it_is_used_again_when_it_is_back(
    stack: AsyncExitStack, sites: Sites, client: aiohttp.ClientSession, tmp_path: Path
) -> None:
    home = await open_site(stack, sites, sites.section("a", period_s=PERIOD_S), 0.0)
    world = World(home, home, NO_PROXY, client)
    asked = Asked(world, [], [])
    target = Started(sites.section("b", period_s=PERIOD_S), tmp_path, WIND_W, CUT_AFTER)
    with site_process(target) as killed:
        await asked.until_begun("b", STREAMS)
        killed.kill()
        answers = await asyncio.gather(*asked.tasks)
    assert {(answer.text, answer.is_done) for answer in answers} == {(TEXT, True)}
    assert sum(answer.site == "b" for answer in answers) >= STREAMS
    assert await world.ask() == Answer("", TEXT, is_done=True)
    await until(lambda: sum(one.continued for one in home.ended) >= STREAMS)
    gone_on = [one.output_tokens for one in home.ended if one.continued]
    assert set(gone_on) == {len(TOKENS)}
    with site_process(replace(target, after=1000)):  # with the same folder
        assert await world.ask_until("b") == Answer("b", TEXT, is_done=True)
    await until(lambda: sum(note.end == "lost" for note in home.notes) >= STREAMS)
    await until(lambda: any(note.was_served for note in home.notes))


async def test_streams_go_on_when_the_network_is_cut_and_leave_again_when_it_is_back(
    stack: AsyncExitStack,
    sites: Sites,
    client: aiohttp.ClientSession,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(other_sites, "STUCK_S", 1.0)
    monkeypatch.setattr(other_sites, "LOOK_S", 0.1)
    relay = Relay(sites.ports["b"])
    url = await relay.start()
    stack.push_async_callback(relay.stop)
    peer = {"name": "b", "region": "cn", "url": url, "token_keys": [sites.keys["b"].public.text]}
    # The target sends its heartbeats nowhere: all that passes between both passes the relay.
    away = peer | {
        "name": "a",
        "url": "https://127.0.0.1:1",
        "token_keys": [sites.keys["a"].public.text],
    }
    home = await open_site(stack, sites, sites.section("a", peers=[peer]), 0.0)
    target = await open_site(
        stack,
        sites,
        sites.section("b", peers=[away]),
        WIND_W,
        PausedReplica("r-b", after=CUT_AFTER),
    )
    asked = Asked(World(home, target, DelayProxy(DelayedRoute(0, 0, 0.0)), client), [], [])
    await asked.until_begun("b", STREAMS)
    relay.passes.clear()
    answers = await asyncio.gather(*asked.tasks)
    assert {(answer.text, answer.is_done) for answer in answers} == {(TEXT, True)}
    target.replica.may_go_on.set()
    relay.passes.set()
    assert await asked.world.ask_until("b") == Answer("b", TEXT, is_done=True)


async def test_streams_of_a_home_that_is_killed_end_at_the_site_that_serves_them(
    stack: AsyncExitStack, sites: Sites, client: aiohttp.ClientSession, tmp_path: Path
) -> None:
    replica = PausedReplica("r-b", after=CUT_AFTER)
    target = await open_site(stack, sites, sites.section("b", period_s=PERIOD_S), WIND_W, replica)
    started = Started(sites.section("a", period_s=PERIOD_S), tmp_path, 0.0, after=1000)
    with site_process(started) as home:
        world = World(
            replace(target, url=home.url), target, DelayProxy(DelayedRoute(0, 0, 0.0)), client
        )
        asked = Asked(world, [], [])
        await asked.until_begun("b", STREAMS)
        home.kill()
        answers = await asyncio.gather(*asked.tasks, return_exceptions=True)
    broken = [answer for answer in answers if isinstance(answer, aiohttp.ClientError)]
    assert len(broken) >= STREAMS
    async with asyncio.timeout(30):
        while sum(one.finish == "cancelled" for one in target.ended) < STREAMS:
            await asyncio.sleep(0.05)
    left = [one for one in target.ended if one.finish == "cancelled"]
    assert {one.tenant for one in left} == {"site:a"}
    assert {one.replica for one in left} == {"r-b"}, "its energy is in the books of this site"
