"""A job of one site that another one with surplus helps with, until that one is gone."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import openai
import pytest
from aiohttp import web
from tests.fixtures.running_sites import SECRET, open_sites
from tests.gateway.test_batches_with_openai import completed, created, has_ended, line, until
from tests.sites.test_two_sites import KEEP_S, PausedReplica, WholeSite, open_site
from tests.sites.test_two_sites import until as noted

from steppe.batch.service.service import BatchService
from steppe.batch.service.settings import BatchSettings
from steppe.config import BatchSection
from steppe.engine.run_secret import secret_headers
from steppe.gateway.ended_requests import RequestEnergy
from steppe.gateway.server import DriverNews
from steppe.load.delay_proxy import DelayedRoute, DelayProxy

ROWS = 200
HOME_J, TARGET_J = 3.0, 2.0
"""Energy of a row at each site, J."""


@dataclass
class RowReplica(PausedReplica):
    """Takes a while for each row, and says which one it was."""

    row_s: float = 0.3

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = json.loads(await request.read())
        await asyncio.sleep(self.row_s)
        self.bodies.append(body)
        text = body["messages"][0]["content"]
        choice = {"index": 0, "message": {"content": text}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 3, "completion_tokens": 20, "total_tokens": 23}
        answer = {"id": "1", "object": "chat.completion", "model": "m", "choices": [choice]}
        return web.json_response({**answer, "usage": usage})


@dataclass
class Spread:
    """A home with a batch service, and a site with much wind; the way there passes a proxy."""

    home: WholeSite
    target: WholeSite
    proxy: DelayProxy
    client: openai.AsyncOpenAI


async def book(site: WholeSite, energy_j: float) -> None:
    """Charge each request of a site that its replica has served some energy, as the driver does."""
    booked = 0
    while True:
        new, booked = site.ended[booked:], len(site.ended)
        energies = tuple(
            RequestEnergy(one.id, energy_j if one.replica else 0.0, "emulated", "gpu", True)
            for one in new
        )
        site.gateway.tell(DriverNews(energies=energies, services=site.services))
        await asyncio.sleep(KEEP_S / 4)


async def start_batches(stack: AsyncExitStack, site: WholeSite, folder: Path) -> None:
    """Start the batch service of a site."""
    settings = BatchSettings(BatchSection(folder=folder), site.url, secret_headers(SECRET))
    service = BatchService(settings, retry_s=0.1)
    site.services["batch"] = await service.start()
    stack.push_async_callback(service.stop)


@pytest.fixture
async def spread(tmp_path: Path) -> AsyncIterator[Spread]:
    async with AsyncExitStack() as stack, open_sites(tmp_path, "a", "b") as sites:
        proxy = DelayProxy(DelayedRoute(0, sites.ports["b"], 0.002))
        await proxy.start()
        stack.push_async_callback(proxy.stop)
        url, key = f"https://127.0.0.1:{proxy.port}", sites.keys["b"].public.text
        peers = [{"name": "b", "region": "cn", "token_keys": [key], "url": url}]
        section = sites.section("a", peers=peers)
        home = await open_site(stack, sites, section, 0.0, RowReplica("r-a"))
        target = await open_site(stack, sites, sites.section("b"), 900.0, RowReplica("r-b"))
        for site, energy_j in ((home, HOME_J), (target, TARGET_J)):
            del site.fleet["models"]["m"]["demand"]  # the gateway counts it
            stack.callback(asyncio.create_task(book(site, energy_j)).cancel)
        await start_batches(stack, home, tmp_path / "batch")
        client = openai.AsyncOpenAI(base_url=home.url + "/v1", api_key="-", max_retries=20)
        await stack.enter_async_context(client)
        yield Spread(home, target, proxy, client)


@pytest.mark.slow
async def test_a_job_has_each_row_once_though_a_site_is_gone_in_the_middle(spread: Spread) -> None:
    client, home, target = spread.client, spread.home, spread.target
    batch = await created(client, b"".join(line(f"id-{n}") for n in range(ROWS)))
    await until(client, batch, lambda _: len(target.replica.bodies) > 20)
    await spread.proxy.stop()
    assert completed(await client.batches.retrieve(batch.id)) < ROWS
    ended = await until(client, batch, has_ended)
    assert (ended.status, completed(ended), ended.error_file_id) == ("completed", ROWS, None)
    output = (await client.files.content(ended.output_file_id or "")).text
    rows = [json.loads(text) for text in output.splitlines()]
    names = [f"id-{n}" for n in range(ROWS)]
    assert sorted(row["custom_id"] for row in rows) == sorted(names)
    answers = [row["response"]["body"] for row in rows]
    assert [a["choices"][0]["message"]["content"] for a in answers] == [
        r["custom_id"] for r in rows
    ]
    joules = Counter(answer["usage"]["energy"]["joules"] for answer in answers)
    assert joules.keys() == {HOME_J, TARGET_J}, "each site has metered its own rows"
    whole_j = joules[HOME_J] * HOME_J + joules[TARGET_J] * TARGET_J
    extra = ended.model_extra or {}
    assert extra["energy"]["joules"] == pytest.approx(whole_j)
    # What the site that is gone had begun was done again, here, and is in no row.
    assert len(home.replica.bodies) + len(target.replica.bodies) >= ROWS
    await noted(lambda: sum(note.was_served for note in home.notes) >= joules[TARGET_J])
    assert sum(note.was_served for note in home.notes) == joules[TARGET_J]
