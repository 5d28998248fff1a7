from __future__ import annotations

import asyncio

import aiohttp

from steppe.fleet.gateway_actor import GatewayActor
from steppe.fleet.messages import Drained
from steppe.gateway.served_model import GatewayModel
from steppe.gateway.server import GatewaySettings


async def test_open_requests_are_listed_by_the_id_that_their_energy_is_charged_to() -> None:
    settings = GatewaySettings("127.0.0.1", 0, 1, 30.0, (GatewayModel("m", 1.0),), stop_timeout_s=0)
    actor = GatewayActor(settings)
    url = await actor.open()
    async with aiohttp.ClientSession() as client:
        headers = {"X-Request-Id": "mine", "Content-Type": "application/json"}
        sent = asyncio.create_task(
            client.post(f"{url}/v1/completions", data=b'{"prompt":"a"}', headers=headers)
        )
        async with asyncio.timeout(20):
            while not (ids := await actor.open_ids()):
                await asyncio.sleep(0.001)
        await actor.close()
        assert (await sent).status == 503
    found = await actor.drain(Drained())
    (ended,) = found.requests
    assert ids == [ended.engine_id] != [ended.id]
    again = await actor.drain(Drained())
    assert again == found, "a driver that died with the answer has not acknowledged it"
    assert again.news(found.after) == ()
    assert (await actor.drain(found.after)).requests == ()
    assert (await actor.drain(Drained("another process", 7))).before == found.after


async def test_a_driver_that_knows_an_earlier_time_loses_no_request_that_has_ended_since() -> None:
    settings = GatewaySettings("127.0.0.1", 0, 1, 0.0, (GatewayModel("m", 1.0),), stop_timeout_s=0)
    actor = GatewayActor(settings)
    url = await actor.open()
    headers = {"Content-Type": "application/json"}

    async def ask(client: aiohttp.ClientSession) -> None:
        async with client.post(f"{url}/v1/completions", data=b'{"prompt":"a"}', headers=headers):
            return

    async with aiohttp.ClientSession() as client:
        begin = (await actor.drain(Drained())).after
        await ask(client)
        first = await actor.drain(begin)
        assert (await actor.drain(first.after)).requests == ()
        await ask(client)
        await ask(client)
        assert len((await actor.drain(begin)).requests) == 2
    await actor.close()
