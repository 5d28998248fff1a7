from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from tests.gateway.site import Cut, Site, SiteFactory
from tests.gateway.token_replica import TOKENS, token_replica


@pytest.fixture
async def client(site: Site) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        base_url=site.url + "/v1", api_key="none", max_retries=0
    ) as client:
        yield client


MESSAGES: Any = [{"role": "user", "content": "Hello"}]


async def test_the_official_client_lists_models(site: Site, client: openai.AsyncOpenAI) -> None:
    assert [model.id async for model in client.models.list()] == ["m"]
    await site.awake_replica()
    assert [model.id async for model in client.models.list()] == ["m"]


async def test_the_official_client_reads_a_whole_response(
    site: Site, client: openai.AsyncOpenAI
) -> None:
    replica = await site.awake_replica()
    answer = await client.chat.completions.create(model="m", messages=MESSAGES)
    assert answer.choices[0].message.content == "Hi"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 2
    assert json.loads(replica.received[0].body) == {"model": "m", "messages": MESSAGES}


async def test_the_official_client_reads_a_stream(
    site: Site, client: openai.AsyncOpenAI, chat_stream: bytes
) -> None:
    replica = await site.awake_replica()
    replica.stream = [chat_stream]
    stream = await client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
    chunks = [chunk async for chunk in stream]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == 'Grüß "usage": {"prompt_tokens": 99} !'
    assert chunks[-1].usage is not None
    await site.until(lambda: site.gateway.status().finished == 1)
    (ended,) = site.gateway.drain_finished()
    assert (ended.finish, ended.output_tokens) == ("stop", 3)


async def test_the_official_client_that_leaves_mid_stream_frees_its_slot(
    site: Site, client: openai.AsyncOpenAI, chat_stream: bytes
) -> None:
    replica = await site.awake_replica()
    replica.stream = [chat_stream[:500], asyncio.Event()]
    stream = await client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
    async for _ in stream:
        break
    await stream.close()
    await site.until(replica.disconnected.is_set)
    await site.until(lambda: site.gateway.status().outstanding == {"r0": 0})
    assert site.gateway.status().outstanding == {"r0": 0}


async def test_the_official_client_raises_when_a_stream_breaks(
    site: Site, client: openai.AsyncOpenAI, chat_stream: bytes
) -> None:
    replica = await site.awake_replica()
    replica.stream = [chat_stream[:500], Cut()]
    stream = await client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
    with pytest.raises(openai.APIError, match="r0 broke off its response"):
        _ = [chunk async for chunk in stream]


async def test_the_official_client_raises_when_a_response_breaks_inside_an_event(
    site: Site, client: openai.AsyncOpenAI
) -> None:
    replica, die = await site.replica("r0"), asyncio.Event()
    delta = b'event: %s\ndata: {"type":"%s","delta":"hi"}\n\n'
    name = b"response.output_text.delta"
    replica.stream = [delta % (name, name), b"event: " + name + b"\n", die, Cut()]
    site.route(replica)
    stream = await client.responses.create(model="m", input="Hello", stream=True)
    events = aiter(stream)
    assert (await anext(events)).type == name.decode()
    die.set()
    with pytest.raises(openai.APIError, match="r0 broke off its response"):
        await anext(events)


@pytest.mark.slow  # importing its client takes 5 s
async def test_the_client_of_the_messages_api_raises_when_a_stream_breaks(site: Site) -> None:
    anthropic = pytest.importorskip("anthropic")
    replica = await site.awake_replica()
    replica.stream = [b'event: ping\ndata: {"type": "ping"}\n\nevent: content_block_delta\n', Cut()]
    said: Any = [{"role": "user", "content": "Hello"}]
    async with anthropic.AsyncAnthropic(base_url=site.url, api_key="none", max_retries=0) as client:
        stream = await client.messages.create(model="m", max_tokens=9, messages=said, stream=True)
        with pytest.raises(anthropic.APIStatusError, match="r0 broke off its response"):
            _ = [event async for event in stream]


async def test_the_official_client_understands_a_refusal(
    open_site: SiteFactory,
) -> None:
    site = await open_site(max_waiting=0)
    async with openai.AsyncOpenAI(
        base_url=site.url + "/v1", api_key="none", max_retries=0
    ) as client:
        with pytest.raises(openai.InternalServerError, match="no replica is awake") as refused:
            await client.completions.create(model="m", prompt="Hello")
    assert refused.value.status_code == 503
    assert refused.value.code == "queue_full"


async def test_the_official_client_skips_comments_and_sees_one_stream(
    open_site: SiteFactory,
) -> None:
    site = await open_site(keep_alive_s=0.01)
    dying = await token_replica(site, "r0", lives=[4])
    async with openai.AsyncOpenAI(
        base_url=site.url + "/v1", api_key="none", max_retries=0
    ) as client:
        stream = await client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
        site.route(dying)
        await site.until(lambda: not dying.lives)
        site.route(await token_replica(site, "r1", created=2))
        chunks = [chunk async for chunk in stream]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == "".join(piece for _, piece in TOKENS)
    assert {(chunk.id, chunk.created) for chunk in chunks} == {("cmpl-1", 1)}
    assert [chunk.choices[0].delta.role for chunk in chunks].count("assistant") == 1
    assert [c.choices[0].finish_reason for c in chunks if c.choices[0].finish_reason] == ["stop"]
