"""Two whole sites in this process, with mutual TLS between them; only the replicas are fakes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web
from tests.fixtures.running_sites import SECRET, Sites, open_sites, status_of
from tests.gateway.token_replica import TOKENS, TokenReplica

from steppe.config.sites import SitesSection
from steppe.engine.run_secret import secret_headers
from steppe.gateway.access import AccessSettings
from steppe.gateway.batch_api import UploadLimits
from steppe.gateway.server import (
    DriverNews,
    FinishedRequest,
    Gateway,
    GatewayModel,
    GatewaySettings,
)
from steppe.load.delay_proxy import DelayedRoute, DelayProxy
from steppe.sites.service.service import SitesService
from steppe.sites.settlement.sent import Sent

LONGEST_S, KEEP_S = 100.0, 0.2
TEXT = "".join(text for _, text in TOKENS)
BODY = {"model": "m", "max_tokens": 9, "stream": True}
SITE = "X-Steppe-Site"


@dataclass
class PausedReplica(TokenReplica):
    """Waits in each answer after some events until it may go on."""

    after: int = 1000
    may_go_on: asyncio.Event = field(default_factory=asyncio.Event)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.bodies.append(body := json.loads(await request.read()))
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for number, event in enumerate(self.events(request.path, body)):
            if number == self.after:
                await self.may_go_on.wait()
            await response.write(event)
        return response


@dataclass
class WholeSite:
    """A site: its gateway, its replica and its sites service."""

    name: str
    gateway: Gateway
    url: str
    replica: PausedReplica
    service: SitesService
    fleet: dict[str, Any]
    folder: Path
    services: dict[str, str] = field(default_factory=dict)
    ended: list[FinishedRequest] = field(default_factory=list)

    @property
    def notes(self) -> list[Sent]:
        """What it sent, as its sites service has it on disk."""
        text = "".join(path.read_text() for path in self.folder.glob("sent-*"))
        return [Sent.read(json.loads(line)) for line in text.splitlines()]

    async def keep(self) -> None:
        """Do what driver and controller do, again and again."""
        while True:
            self.gateway.set_routes((self.replica.route(),), None)
            self.gateway.set_fleet_state(orjson.dumps(self.fleet))
            self.gateway.tell(DriverNews(services=self.services))
            self.ended += self.gateway.drain_finished()
            await asyncio.sleep(KEEP_S)


@dataclass
class Answer:
    """A stream at a client."""

    site: str
    text: str
    is_done: bool


@dataclass
class World:
    """Site a without wind, and site b with much; the way to b passes a proxy."""

    a: WholeSite
    b: WholeSite
    proxy: DelayProxy
    client: aiohttp.ClientSession
    asked: int = 0

    async def ask(self, on_begin: Callable[[str], Awaitable[None]] | None = None) -> Answer:
        """Ask site a for a stream, each time of a new conversation."""
        self.asked += 1
        body = {**BODY, "messages": [{"role": "user", "content": f"Hi {self.asked}"}]}
        async with self.client.post(self.a.url + "/v1/chat/completions", json=body) as answer:
            assert answer.status == 200, await answer.text()
            site, text, is_done = answer.headers.get(SITE, ""), "", False
            async for line in answer.content:
                if line.startswith(b"data: [DONE]"):
                    is_done = True
                elif line.startswith(b"data: "):
                    event = json.loads(line[6:])
                    assert "error" not in event, event
                    text += "".join(c["delta"].get("content") or "" for c in event["choices"])
                    if text and on_begin is not None:
                        await on_begin(site)
                        on_begin = None
            return Answer(site, text, is_done)

    async def ask_until(self, site: str) -> Answer:
        """Ask until that site serves; return its answer."""
        async with asyncio.timeout(LONGEST_S):
            while (answer := await self.ask()).site != site:
                assert (answer.text, answer.is_done) == (TEXT, True)
                await asyncio.sleep(0.1)
            return answer


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(LONGEST_S):
        while not is_so():
            await asyncio.sleep(KEEP_S)


async def open_site(
    stack: AsyncExitStack,
    sites: Sites,
    section: SitesSection,
    surplus_w: float,
    replica: PausedReplica | None = None,
) -> WholeSite:
    """Start a site; all that it needs is stopped with the stack."""
    replica = replica or PausedReplica(f"r-{section.name}")
    await replica.start()
    stack.push_async_callback(replica.stop)
    settings = GatewaySettings(
        host="127.0.0.1",
        port=0,
        max_waiting=10,
        max_wait_s=30.0,
        models=(GatewayModel("m", ttft_s=2.0),),
        retry_delays_s=(0.0, 0.0),
        stop_timeout_s=0.1,
        access=AccessSettings(run_secret=SECRET),
        replica_headers=secret_headers(SECRET),
        sites=section,
        uploads=UploadLimits(),
        energy_wait_s=LONGEST_S,
    )
    gateway = Gateway(settings)
    url = await gateway.start()
    stack.push_async_callback(gateway.stop)
    wanted = sites.settings(section, url)
    service = SitesService(wanted)
    sites.running.append(service)
    fleet = status_of(surplus_w=surplus_w)
    del fleet["controller"]
    fleet["outlook"] = [{**step, "surplus_w": surplus_w} for step in fleet["outlook"]]
    site = WholeSite(section.name, gateway, url, replica, service, fleet, wanted.folder)
    keeping = asyncio.create_task(site.keep())
    stack.callback(keeping.cancel)
    site.services["sites"] = await service.start()
    return site


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with (
        AsyncExitStack() as stack,
        open_sites(tmp_path, "a", "b") as sites,
    ):
        proxy = DelayProxy(DelayedRoute(0, sites.ports["b"], 0.002))
        await proxy.start()
        stack.push_async_callback(proxy.stop)
        key = sites.keys["b"].public.text
        peer = {"name": "b", "region": "cn", "token_keys": [key]}
        to_b = [{**peer, "url": f"https://127.0.0.1:{proxy.port}"}]
        a = await open_site(stack, sites, sites.section("a", peers=to_b), surplus_w=0.0)
        b = await open_site(stack, sites, sites.section("b"), surplus_w=900.0)
        client = await stack.enter_async_context(aiohttp.ClientSession())
        yield World(a, b, proxy, client)
        await client.close()


async def test_a_request_runs_where_the_wind_is_and_both_sites_know_of_it(world: World) -> None:
    answer = await world.ask_until("b")
    assert answer == Answer("b", TEXT, is_done=True)
    a, b = world.a, world.b
    await until(lambda: bool(a.ended and a.ended[-1].site and b.ended))
    sent = a.ended[-1]
    taken = next(each for each in b.ended if each.id == f"{sent.engine_id}.1")
    assert (sent.site, sent.finish, sent.output_tokens) == ("b", "stop", len(TOKENS))
    assert (taken.tenant, taken.output_tokens) == ("site:a", len(TOKENS))
    await until(lambda: bool(a.notes))
    (note,) = a.notes
    assert (note.request, note.target, note.tenant) == (taken.id, "b", "default")
    assert (note.end, note.output_tokens, note.prompt_tokens) == ("served", len(TOKENS), 3)


async def test_a_stream_goes_on_here_token_for_token_when_the_other_site_is_gone(
    world: World,
) -> None:
    await world.ask_until("b")
    world.b.replica.after = 4

    async def cut(site: str) -> None:
        if site == "b":
            await world.proxy.stop()

    while (answer := await world.ask(on_begin=cut)).site != "b":
        await asyncio.sleep(0.1)
    assert answer == Answer("b", TEXT, is_done=True)
    rest = world.a.replica.bodies[-1]["vllm_xargs"]
    assert rest["steppe_output"] == [token for token, _ in TOKENS[: len(rest["steppe_output"])]]
    assert rest["steppe_output"]
    await until(lambda: bool(world.a.ended and world.a.ended[-1].continued))
    assert world.a.ended[-1].output_tokens == len(TOKENS)
    # The site is gone: nothing new goes there, and nothing is lost.
    for _ in range(3):
        assert await world.ask() == Answer("", TEXT, is_done=True)
    world.b.replica.may_go_on.set()


async def test_requests_stay_here_when_the_sites_service_is_gone(world: World) -> None:
    await world.ask_until("b")
    await world.a.service.stop()
    while (answer := await world.ask()).site:
        await asyncio.sleep(0.1)
    assert answer == Answer("", TEXT, is_done=True)
