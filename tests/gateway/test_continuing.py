from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from tests.gateway.site import Site, SiteFactory
from tests.gateway.token_replica import TOKENS, TokenReplica, token_replica

from steppe.gateway import forwarder

CHAT = "/v1/chat/completions"
TEXT = "/v1/completions"
JSON = {"Content_Type": "application/json"}


def body_of(path: str, **more: Any) -> bytes:
    asked = {"messages": [{"role": "user", "content": "a"}]} if path == CHAT else {"prompt": "a"}
    return json.dumps({"model": "m", "stream": True, **asked, **more}).encode()


def uninterrupted(path: str, body: bytes, *, reasons: bool = False) -> bytes:
    """Return what a client gets from vLLM itself."""
    events = list(TokenReplica("r", reasons=reasons).events(path, json.loads(body)))
    # With a reasoning parser, vLLM sends events without news only to those that want token ids.
    return b"".join(event for event in events if b'"delta":{},' not in event or b"stop" in event)


USAGE = {"stream_options": {"include_usage": True}}


@pytest.mark.parametrize("more", [USAGE, {}, {"return_token_ids": True}], ids=str)
@pytest.mark.parametrize("path", [CHAT, TEXT])
async def test_a_stream_that_loses_its_replica_anywhere_is_the_uninterrupted_one(
    site: Site, path: str, more: dict[str, Any]
) -> None:
    dying, healthy = await token_replica(site, "r0"), await token_replica(site, "r1", created=2)
    body = body_of(path, **more)
    whole = uninterrupted(path, body)
    for cut in range(1, whole.count(b"\n\n")):
        dying.lives, healthy.bodies = [cut], []
        while dying.lives:
            site.route(dying)
            task = asyncio.create_task(site.post(path, body, **JSON))
            await site.until(lambda: not dying.lives)
            site.route(healthy)
            status, _, found = await task
        assert (status, found) == (200, whole), f"cut after {cut} events"
        (ended,) = site.gateway.drain_finished()
        assert (ended.finish, ended.continued) == ("stop", len(healthy.bodies))
    assert site.gateway.status().outstanding == {"r1": 0}


async def test_a_stream_that_loses_its_replica_before_its_first_event_is_sent_again(
    site: Site,
) -> None:
    site.route(await token_replica(site, "r0", lives=[0]), await token_replica(site, "r1"))
    body = body_of(CHAT)
    assert (await site.post(CHAT, body, **JSON))[2] == uninterrupted(CHAT, body)
    (ended,) = site.gateway.drain_finished()
    assert (ended.finish, ended.continued) == ("stop", 0)


@pytest.mark.parametrize("fails", ["end", "error", "abort"])
async def test_a_stream_goes_on_however_its_engine_fails(site: Site, fails: str) -> None:
    failing = await token_replica(site, "r0", fails=fails)
    healthy = await token_replica(site, "r1")
    body = body_of(CHAT, **USAGE)
    for cut in range(1, len(TOKENS)):
        failing.lives = [cut]
        while failing.lives:
            site.route(failing, healthy)
            found = (await site.post(CHAT, body, **JSON))[2]
            assert found == uninterrupted(CHAT, body)


async def test_a_stream_goes_on_after_each_of_several_losses(site: Site) -> None:
    replicas = [await token_replica(site, f"r{n}", lives=[2, 3, 2, 2, 2]) for n in range(3)]
    body = body_of(CHAT, **USAGE)
    task = asyncio.create_task(site.post(CHAT, body, **JSON))
    while not task.done():
        site.route(*replicas)  # clears the suspects
        await asyncio.sleep(0.001)
    assert task.result()[2] == uninterrupted(CHAT, body)
    (ended,) = site.gateway.drain_finished()
    assert ended.continued >= 3
    assert (ended.prompt_tokens, ended.output_tokens) == (3, len(TOKENS))
    metrics = (await site.get("/metrics"))[2].decode()
    assert "steppe_gateway_continued_streams_total 1.0" in metrics
    assert "steppe_gateway_broken_streams_total 0.0" in metrics


async def test_the_tokens_of_a_continued_stream_are_known_without_its_usage(site: Site) -> None:
    site.route(await token_replica(site, "r0", lives=[4]), await token_replica(site, "r1"))
    await site.post(CHAT, body_of(CHAT), **JSON)
    (ended,) = site.gateway.drain_finished()
    assert (ended.prompt_tokens, ended.output_tokens, ended.continued) == (3, len(TOKENS), 1)


async def test_reasoning_and_content_are_continued_each(site: Site) -> None:
    dying = await token_replica(site, "r0", reasons=True)
    healthy = await token_replica(site, "r1", reasons=True)
    body = body_of(CHAT, **USAGE)
    for cut in range(1, len(TOKENS) + 2):
        dying.lives = [cut]
        while dying.lives:
            site.route(dying, healthy)
            found = (await site.post(CHAT, body, **JSON))[2]
            assert found == uninterrupted(CHAT, body, reasons=True)


@pytest.mark.parametrize(
    "more", [{"n": 2}, {"logprobs": True}, {"tools": [{"type": "function"}]}, {"unknown": 1}]
)
async def test_what_cannot_go_on_ends_with_an_error_event_and_no_done(
    site: Site, more: dict[str, Any]
) -> None:
    dying, other = await token_replica(site, "r0", lives=[3]), await token_replica(site, "r1")
    site.route(dying, other)
    _, _, found = await site.post(CHAT, body_of(CHAT, **more), **JSON)
    assert b'"code":"replica_lost"' in found.rsplit(b"\n\n", 2)[1]
    assert b"[DONE]" not in found
    assert not other.bodies
    metrics = (await site.get("/metrics"))[2].decode()
    assert "steppe_gateway_broken_streams_total 1.0" in metrics


async def test_a_stream_whose_request_fails_every_replica_ends_with_an_error(site: Site) -> None:
    lives = ([3], [1], [1], [1])
    replicas = [await token_replica(site, f"r{n}", lives=cut) for n, cut in enumerate(lives)]
    site.route(*replicas)
    _, _, found = await site.post(CHAT, body_of(CHAT), **JSON)
    assert b"replica_lost" in found
    assert b"[DONE]" not in found
    assert sum(len(replica.bodies) for replica in replicas) == 3
    (ended,) = site.gateway.drain_finished()
    assert (ended.finish, ended.output_tokens) == ("error", 2)


async def test_a_stream_outlasts_the_restart_of_the_only_replica(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until its process ends, an app whose engine died answers with 500."""
    monkeypatch.setattr(forwarder, "PATIENCE_S", (0.0,) * 7)
    replica = await token_replica(site, "r0", lives=[4], refuses=6)
    site.route(replica)
    body = body_of(CHAT, **USAGE)
    task = asyncio.create_task(site.post(CHAT, body, **JSON))
    while not task.done():
        site.route(replica)  # the controller has not noticed yet
        await asyncio.sleep(0.001)
    assert task.result()[2] == uninterrupted(CHAT, body)
    (ended,) = site.gateway.drain_finished()
    assert (ended.finish, ended.continued) == ("stop", 1)


async def test_a_stream_goes_on_while_the_gateway_drains(open_site: SiteFactory) -> None:
    site = await open_site(stop_timeout_s=20.0)
    dying = await token_replica(site, "r0", lives=[4])
    dying.may_answer.clear()
    site.route(dying)
    body = body_of(CHAT, **USAGE)
    task = asyncio.create_task(site.post(CHAT, body, **JSON))
    await site.until(lambda: bool(dying.received))
    stop = asyncio.create_task(site.gateway.stop())
    await asyncio.sleep(0)
    dying.may_answer.set()
    await site.until(lambda: not dying.lives)
    site.route(await token_replica(site, "r1"))
    assert (await task)[2] == uninterrupted(CHAT, body)
    await stop


async def test_a_replica_hands_over_what_can_go_on(site: Site) -> None:
    stuck = await token_replica(site, "r0")
    stuck.may_answer.clear()
    site.route(stuck)
    tools = body_of(CHAT, tools=[{"type": "function"}])
    waiting = [
        asyncio.create_task(site.post(CHAT, body, **JSON)) for body in (body_of(CHAT), tools)
    ]
    await site.until(lambda: len(stuck.received) == 2)
    other = await token_replica(site, "r1")
    site.route(other)
    assert site.gateway.hand_over("r0") == 2, "nothing had left of either"
    for task in waiting:
        assert (await task)[0] == 200
    assert len(other.bodies) == 2
    assert {ended.continued for ended in site.gateway.drain_finished()} == {0}


async def test_a_stream_that_waits_for_power_gets_comments_and_goes_on(
    open_site: SiteFactory,
) -> None:
    site = await open_site(keep_alive_s=0.01)
    body = body_of(CHAT, **USAGE)
    async with site.client.post(site.url + CHAT, data=body, headers=CONTENT) as answer:
        assert answer.status == 200
        begun = await answer.content.readuntil(b"\n\n")
        assert begun == b": waiting for power\n\n"
        site.route(await token_replica(site, "r0"))
        rest = await answer.read()
    assert without_comments(rest) == uninterrupted(CHAT, body)


CONTENT = {"Content-Type": "application/json"}


def without_comments(text: bytes) -> bytes:
    events = text.split(b"\n\n")
    return b"\n\n".join(event for event in events if not event.startswith(b":"))


async def test_a_stream_without_any_replica_is_held_and_goes_on(open_site: SiteFactory) -> None:
    site = await open_site(keep_alive_s=0.01)
    dying = await token_replica(site, "r0", lives=[4])
    site.route(dying)
    body = body_of(CHAT, **USAGE)
    async with site.client.post(site.url + CHAT, data=body, headers=CONTENT) as answer:
        begun = await answer.content.readuntil(b": waiting\n\n")
        site.route()
        begun += await answer.content.readuntil(b": waiting for power\n\n")
        site.route(await token_replica(site, "r1"))
        rest = await answer.read()
    assert without_comments(begun + rest) == uninterrupted(CHAT, body)


async def test_a_stream_is_held_no_longer_than_allowed(open_site: SiteFactory) -> None:
    site = await open_site(keep_alive_s=0.01, hold_s=1.0)
    site.route(await token_replica(site, "r0", lives=[4]))
    _, _, found = await site.post(CHAT, body_of(CHAT), **JSON)
    assert b": waiting" in found
    assert b'"code":"waited_too_long"' in found.rsplit(b"data: ", 1)[1]
    assert b"[DONE]" not in found


async def test_a_frozen_replica_is_held_no_longer_than_allowed(open_site: SiteFactory) -> None:
    site = await open_site(keep_alive_s=0.01, hold_s=1.0)
    frozen = await token_replica(site, "r0")
    frozen.may_answer.clear()
    site.route(frozen)
    _, _, found = await site.post(CHAT, body_of(CHAT), **JSON)
    assert b'"code":"held_too_long"' in found.rsplit(b"data: ", 1)[1]


async def test_a_request_that_is_refused_after_comments_ends_with_an_error_event(
    open_site: SiteFactory,
) -> None:
    site = await open_site(keep_alive_s=0.01, max_wait_s=1.0)
    status, _, found = await site.post(CHAT, body_of(CHAT), **JSON)
    assert status == 200
    assert b'"code":"waited_too_long"' in found.rsplit(b"data: ", 1)[1]
    (ended,) = site.gateway.drain_finished()
    assert ended.finish == "shed"


async def test_an_answer_that_is_no_stream_gets_no_comments(open_site: SiteFactory) -> None:
    site = await open_site(keep_alive_s=0.01, max_wait_s=0.1)
    status, _, found = await site.post(CHAT, b'{"model":"m"}', **JSON)
    assert (status, json.loads(found)["error"]["code"]) == (503, "waited_too_long")


async def test_a_client_error_after_comments_is_an_error_event(open_site: SiteFactory) -> None:
    site = await open_site(keep_alive_s=0.01)
    replica = await site.replica("r0")
    replica.status, replica.body = 400, b'{"error":{"message":"too long","code":400}}'
    async with site.client.post(site.url + CHAT, data=body_of(CHAT), headers=CONTENT) as answer:
        await answer.content.readuntil(b"\n\n")
        site.route(replica)
        rest = await answer.read()
    error = json.loads(rest.rsplit(b"data: ", 1)[1])["error"]
    assert error["message"] == "too long"
    (ended,) = site.gateway.drain_finished()
    assert (ended.finish, ended.status) == ("invalid", 200)
