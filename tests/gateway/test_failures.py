from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

import pytest
from tests.gateway.site import Cut, Site, SiteFactory

VLLM_DEAD = b'{"error":{"message":"engine dead","type":"Internal Server Error","code":500}}'
DEAD = {
    "message": "engine dead",
    "type": "server_error",
    "param": None,
    "code": "internal_server_error",
}
TOO_LONG = {
    "message": "too long",
    "type": "invalid_request_error",
    "param": None,
    "code": "bad_request",
}


def _error(body: bytes) -> dict[str, Any]:
    error: dict[str, Any] = json.loads(body)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error


async def test_a_disconnect_mid_stream_frees_the_slot_and_reaches_the_replica(
    site: Site, chat_stream: bytes
) -> None:
    replica = await site.awake_replica()
    replica.stream = [chat_stream[:250], asyncio.Event()]
    answer = await site.client.post(site.url + "/v1/chat/completions", data=b"{}")
    await answer.content.readany()
    assert site.gateway.status().outstanding == {"r0": 1}
    answer.close()
    async with asyncio.timeout(20):
        await replica.disconnected.wait()
    await site.until(lambda: site.gateway.status().outstanding == {"r0": 0})
    (ended,) = site.gateway.drain_finished()
    assert (ended.finish, ended.status) == ("cancelled", 499)


async def test_a_client_that_reads_nothing_of_its_stream_is_disconnected(
    open_site: SiteFactory, chat_stream: bytes
) -> None:
    site = await open_site(write_timeout_s=0.05)
    replica = await site.awake_replica()
    replica.stream = [chat_stream[:250] + bytes(1 << 20) + b"\n\n"] * 32
    reader, writer = await asyncio.open_connection(*site.url.removeprefix("http://").split(":"))
    writer.write(b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}")
    await site.until(lambda: bool(replica.received))
    await site.until(lambda: site.gateway.status().outstanding == {"r0": 0})
    (ended,) = site.gateway.drain_finished()
    assert (ended.finish, ended.status) == ("cancelled", 499)
    with contextlib.suppress(ConnectionResetError):  # it is cut, with bytes unsent or without
        whole = (await reader.read()).endswith(b"0\r\n\r\n")
        assert not whole, "a cut stream must not look whole"
    writer.close()
    with contextlib.suppress(ConnectionResetError):
        await writer.wait_closed()


async def test_a_disconnect_during_prefill_frees_the_slot(site: Site) -> None:
    replica = await site.awake_replica(answers=False)
    task = asyncio.create_task(site.post())
    await site.until(lambda: bool(replica.received))
    task.cancel()
    async with asyncio.timeout(20):
        await replica.disconnected.wait()
    await site.until(lambda: site.gateway.status().outstanding == {"r0": 0})


async def test_a_disconnect_while_waiting_leaves_the_queue(site: Site) -> None:
    task = asyncio.create_task(site.post())
    await site.until(lambda: site.gateway.status().waiting == 1)
    task.cancel()
    await site.until(lambda: site.gateway.status().waiting == 0)
    (ended,) = site.gateway.drain_finished()
    assert (ended.finish, ended.replica) == ("cancelled", None)


async def test_a_replica_that_dies_before_the_first_byte_is_replaced_without_an_error(
    site: Site, chat_stream: bytes
) -> None:
    dying, healthy = await site.replica("r0"), await site.replica("r1")
    dying.stream, healthy.stream = [Cut()], [chat_stream]
    site.route(dying, healthy)
    for _ in range(2):
        status, headers, body = await site.post()
        assert (status, headers["X-Replica"], body) == (200, "r1", chat_stream)
    assert len(dying.received) == 1, "a suspect was asked again"
    assert [ended.replica for ended in site.gateway.drain_finished()] == ["r1", "r1"]


async def test_an_unreachable_replica_costs_no_try_and_the_request_waits_for_another(
    site: Site,
) -> None:
    gone = await site.replica("r0")
    await gone.stop()
    task = asyncio.create_task(site.post())
    for _ in range(5):  # more tables than tries
        site.route(gone)
        await site.until(lambda: site.gateway.status().waiting == 1)
    site.route(await site.replica("r1"))
    status, headers, _ = await task
    assert (status, headers["X-Replica"]) == (200, "r1")


async def test_a_server_error_is_retried_and_passed_on_if_it_persists(site: Site) -> None:
    broken, healthy = await site.replica("r0"), await site.replica("r1")
    broken.status, broken.body = 500, VLLM_DEAD
    site.route(broken, healthy)
    assert (await site.post())[0] == 200
    site.route(broken)
    broken.received.clear()
    status, _, body = await site.post()
    assert (status, _error(body), len(broken.received)) == (500, DEAD, 3)
    assert [ended.finish for ended in site.gateway.drain_finished()] == ["length", "error"]


async def test_a_request_that_two_replicas_failed_is_not_sent_to_a_third(site: Site) -> None:
    replicas = [await site.replica(f"r{number}") for number in range(3)]
    for replica in replicas:
        replica.status, replica.body = 500, VLLM_DEAD
    site.route(*replicas)
    status, _, body = await site.post()
    assert (status, _error(body)) == (500, DEAD)
    assert [len(replica.received) for replica in replicas] == [1, 1, 0]


async def test_a_stream_that_begins_with_a_server_error_is_retried(
    site: Site, chat_stream: bytes
) -> None:
    dead, healthy = await site.replica("r0"), await site.replica("r1")
    dead.stream = [b'data: {"error": {"message": "engine dead", "code": 500}}\n\ndata: [DONE]\n\n']
    healthy.stream = [chat_stream]
    site.route(dead, healthy)
    status, headers, body = await site.post()
    assert (status, headers["X-Replica"], body) == (200, "r1", chat_stream)
    assert len(dead.received) == 1
    (ended,) = site.gateway.drain_finished()
    assert (ended.finish, ended.replica) == ("stop", "r1")


async def test_a_stream_that_begins_with_a_client_error_is_a_4xx_and_not_retried(
    site: Site,
) -> None:
    replica, other = await site.replica("r0"), await site.replica("r1")
    too_long = b'{"message": "too long", "type": "BadRequestError", "code": 400}'
    for each in (replica, other):
        each.stream = [b'data: {"error": ' + too_long + b"}\n\ndata: [DONE]\n\n"]
    site.route(replica, other)
    status, headers, body = await site.post()
    assert (status, headers["Content-Type"]) == (400, "application/json")
    assert _error(body) == TOO_LONG
    assert len(replica.received) + len(other.received) == 1
    (ended,) = site.gateway.drain_finished()
    assert (ended.finish, ended.status) == ("invalid", 400)


async def test_a_request_that_kills_each_replica_fails_after_three_tries(site: Site) -> None:
    replicas = [await site.replica(f"r{number}") for number in range(4)]
    for replica in replicas:
        replica.stream = [Cut()]
    site.route(*replicas)
    status, headers, body = await site.post()
    assert status == 502
    assert _error(body)["code"] == "replica_lost"
    assert sum(len(replica.received) for replica in replicas) == 3
    (ended,) = site.gateway.drain_finished()
    assert (ended.finish, ended.status, ended.id) == ("error", 502, headers["X-Request-Id"])


async def test_a_stream_that_breaks_ends_with_an_error_event_and_no_done(
    site: Site, chat_stream: bytes
) -> None:
    replica = await site.awake_replica()
    replica.stream = [chat_stream[:250], Cut()]
    status, _, body = await site.post()
    assert status == 200
    whole, error, rest = body.rsplit(b"\n\n", 2)
    assert chat_stream.startswith(whole + b"\n\n")
    assert error.startswith(b"event: error\n")
    assert _error(error.split(b"data: ")[1])["code"] == "replica_lost"
    assert rest == b""
    assert b"[DONE]" not in body
    (ended,) = site.gateway.drain_finished()
    assert (ended.finish, ended.status, ended.output_tokens) == ("error", 200, None)
    assert site.gateway.status().failed == 1


@pytest.mark.parametrize("ends_with", ["a broken connection", "our stop"])
async def test_a_stream_that_ends_after_done_is_whole(
    site: Site, chat_stream: bytes, ends_with: str
) -> None:
    replica, die = await site.replica("r0"), asyncio.Event()
    replica.stream = [chat_stream, die, Cut()]
    site.route(replica)
    async with site.client.post(f"{site.url}/v1/chat/completions", data=b"{}") as answer:
        body = await answer.content.readuntil(b"[DONE]\n\n")
        async with asyncio.timeout(20):
            if ends_with == "our stop":
                await site.gateway.stop()
            else:
                die.set()
            body += await answer.read()
    assert body == chat_stream
    await site.until(lambda: site.gateway.status().finished == 1)
    (ended,) = site.gateway.drain_finished()
    assert (ended.finish, ended.status, ended.output_tokens) == ("stop", 200, 3)


async def test_a_stream_from_a_replica_that_restarted_elsewhere_ends_with_an_error(
    site: Site, chat_stream: bytes
) -> None:
    lost, successor = await site.replica("r0"), await site.replica("r0")
    lost.stream = [chat_stream[:250], asyncio.Event()]
    site.route(lost, limit=1)
    async with site.client.post(f"{site.url}/v1/chat/completions", data=b"{}") as answer:
        await answer.content.readany()  # until then, the request would go to the successor
        async with asyncio.timeout(20):
            site.route(successor, limit=1)
            assert (await site.post())[0] == 200
            body = await answer.read()
    assert _error(body.rsplit(b"data: ", 1)[1])["code"] == "replica_lost"
    assert site.gateway.status().outstanding == {"r0": 0}


async def test_a_request_without_response_from_a_lost_replica_goes_to_its_successor(
    site: Site,
) -> None:
    lost, successor = await site.replica("r0", answers=False), await site.replica("r0")
    site.route(lost, limit=1)
    task = asyncio.create_task(site.post())
    await site.until(lambda: bool(lost.received))
    site.route(successor, limit=1)
    async with asyncio.timeout(20):
        assert (await task)[0] == 200
    assert len(successor.received) == 1


async def test_a_whole_response_that_breaks_is_retried(site: Site, chat_body: bytes) -> None:
    breaking, healthy = await site.replica("r0"), await site.replica("r1")
    breaking.stream, breaking.content_type = [chat_body[:40], Cut()], "application/json"
    site.route(breaking, healthy)
    status, headers, body = await site.post()
    assert (status, headers["X-Replica"], body) == (200, "r1", chat_body)
    assert len(breaking.received) == 1


async def test_a_client_error_is_not_retried(site: Site) -> None:
    replica = await site.awake_replica()
    replica.status = 400
    replica.body = b'{"error":{"message":"too long","type":"Bad Request","code":400}}'
    status, headers, body = await site.post()
    assert (status, _error(body), len(replica.received)) == (400, TOO_LONG, 1)
    assert headers["Content-Type"] == "application/json"
    (ended,) = site.gateway.drain_finished()
    assert ended.finish == "invalid"
    assert site.gateway.status().failed == 0


async def test_a_draining_replica_finishes_its_requests_and_gets_no_more(
    site: Site, chat_stream: bytes
) -> None:
    draining, awake = await site.replica("r0"), await site.replica("r1")
    finish = asyncio.Event()
    draining.stream = [chat_stream[:250], finish, chat_stream[250:]]
    site.route(draining)
    task = asyncio.create_task(site.post())
    await site.until(lambda: bool(draining.received))
    site.route(awake)
    for _ in range(3):
        assert (await site.post())[1]["X-Replica"] == "r1"
    assert site.gateway.status().outstanding == {"r0": 1, "r1": 0}
    finish.set()
    assert (await task)[2] == chat_stream
    assert site.gateway.status().outstanding == {"r1": 0}
    assert len(draining.received) == 1


async def test_the_least_loaded_replica_is_next(site: Site) -> None:
    slow, quick = await site.replica("r0", answers=False), await site.replica("r1")
    site.route(slow, quick)
    task = asyncio.create_task(site.post())
    await site.until(lambda: bool(slow.received))
    for _ in range(5):
        assert (await site.post())[1]["X-Replica"] == "r1"
    slow.may_answer.set()
    assert (await task)[0] == 200


@pytest.mark.parametrize("is_served", [False, True])
async def test_stopping_refuses_waiting_requests_and_those_without_a_response_in_time(
    site: Site, is_served: bool
) -> None:
    replica = await site.replica("r0", answers=False)
    if is_served:
        site.route(replica)
    task = asyncio.create_task(site.post())
    await site.until(lambda: site.gateway.status().arrived == 1)
    await site.until(lambda: bool(replica.received) or not is_served)
    await site.gateway.stop()
    status, headers, body = await task
    assert (status, _error(body)["code"], "Retry-After" in headers) == (503, "stopping", True)
    (ended,) = site.gateway.drain_finished()
    assert (ended.finish, ended.status) == ("cancelled" if is_served else "rejected", 503)


async def test_stopping_ends_a_stream_with_an_error_event_and_no_done(
    site: Site, chat_stream: bytes
) -> None:
    replica = await site.awake_replica()
    replica.stream = [chat_stream[:250], asyncio.Event()]
    async with site.client.post(site.url + "/v1/chat/completions", data=b"{}") as answer:
        begun = await answer.content.readany()
        await site.gateway.stop()
        rest = await answer.read()
    assert chat_stream.startswith(begun)
    assert _error(rest.rsplit(b"data: ", 1)[1])["code"] == "stopping"
    (ended,) = site.gateway.drain_finished()
    assert (ended.finish, ended.status) == ("cancelled", 200)
    assert site.gateway.status().failed == 0
