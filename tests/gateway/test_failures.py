from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest

from steppe.gateway import listener


def _error(body: bytes) -> dict[str, Any]:
    error: dict[str, Any] = json.loads(body)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error


async def test_a_hang_up_mid_stream_frees_the_place_and_reaches_the_replica(
    site: Any, chat_stream: bytes
) -> None:
    replica = await site.replica("r0")
    site.route(replica)
    replica.stream = [chat_stream[:250], asyncio.Event()]
    answer = await site.client.post(site.url + "/v1/chat/completions", data=b"{}")
    await answer.content.readany()
    assert site.gateway.status().outstanding == {"r0": 1}
    before_s = time.monotonic()
    answer.close()
    async with asyncio.timeout(1):
        await replica.hung_up.wait()
    await site.until(lambda: site.gateway.status().outstanding == {"r0": 0})
    assert time.monotonic() - before_s < 1
    (ended,) = site.gateway.drain_finished()
    assert (ended.finish, ended.status) == ("cancelled", 499)


async def test_a_client_that_takes_nothing_of_its_stream_loses_its_place(
    site: Any, chat_stream: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "PATIENCE_S", 0.05)
    replica = await site.replica("r0")
    replica.stream = [chat_stream[:250] + bytes(1 << 20) + b"\n\n"] * 32
    site.route(replica)
    reader, writer = await asyncio.open_connection(*site.url.removeprefix("http://").split(":"))
    writer.write(b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}")
    await site.until(lambda: bool(replica.seen))
    await site.until(lambda: site.gateway.status().outstanding == {"r0": 0})
    (ended,) = site.gateway.drain_finished()
    assert (ended.finish, ended.status) == ("cancelled", 499)
    assert not (await reader.read()).endswith(b"0\r\n\r\n"), "a cut stream must not look whole"
    writer.close()
    await writer.wait_closed()


async def test_a_hang_up_during_prefill_frees_the_place(site: Any) -> None:
    replica = await site.replica("r0", ready=False)
    site.route(replica)
    task = asyncio.create_task(site.post())
    await site.until(lambda: bool(replica.seen))
    task.cancel()
    async with asyncio.timeout(1):
        await replica.hung_up.wait()
    await site.until(lambda: site.gateway.status().outstanding == {"r0": 0})


async def test_a_hang_up_while_waiting_leaves_the_queue(site: Any) -> None:
    task = asyncio.create_task(site.post())
    await site.until(lambda: site.gateway.status().waiting == 1)
    task.cancel()
    await site.until(lambda: site.gateway.status().waiting == 0)
    (ended,) = site.gateway.drain_finished()
    assert (ended.finish, ended.replica) == ("cancelled", None)


async def test_a_replica_that_dies_before_the_first_byte_is_replaced_unseen(
    site: Any, chat_stream: bytes, cut: Any
) -> None:
    dying, healthy = await site.replica("r0"), await site.replica("r1")
    dying.stream, healthy.stream = [cut], [chat_stream]
    site.route(dying, healthy)
    for _ in range(2):
        status, headers, body = await site.post()
        assert (status, headers["X-Replica"], body) == (200, "r1", chat_stream)
    assert len(dying.seen) == 1, "a suspect was asked again"
    assert [ended.replica for ended in site.gateway.drain_finished()] == ["r1", "r1"]


async def test_a_replica_that_is_gone_costs_no_try_and_the_request_waits_for_another(
    site: Any,
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


async def test_a_server_error_is_tried_again_and_passed_on_if_it_stays(site: Any) -> None:
    broken, healthy = await site.replica("r0"), await site.replica("r1")
    broken.status, broken.body = 500, b'{"error":{"message":"engine dead"}}'
    site.route(broken, healthy)
    assert (await site.post())[0] == 200
    site.route(broken)
    broken.seen.clear()
    status, _, body = await site.post()
    assert (status, body, len(broken.seen)) == (500, broken.body, 3)
    assert [ended.finish for ended in site.gateway.drain_finished()] == ["length", "error"]


async def test_a_request_that_two_replicas_failed_is_not_let_loose_on_a_third(site: Any) -> None:
    replicas = [await site.replica(f"r{number}") for number in range(3)]
    for replica in replicas:
        replica.status, replica.body = 500, b'{"error":{"message":"engine dead"}}'
    site.route(*replicas)
    status, _, body = await site.post()
    assert (status, body) == (500, replicas[0].body)
    assert [len(replica.seen) for replica in replicas] == [1, 1, 0]


async def test_a_stream_that_begins_with_a_server_error_is_tried_again(
    site: Any, chat_stream: bytes
) -> None:
    dead, healthy = await site.replica("r0"), await site.replica("r1")
    dead.stream = [b'data: {"error": {"message": "engine dead", "code": 500}}\n\ndata: [DONE]\n\n']
    healthy.stream = [chat_stream]
    site.route(dead, healthy)
    status, headers, body = await site.post()
    assert (status, headers["X-Replica"], body) == (200, "r1", chat_stream)
    assert len(dead.seen) == 1
    (ended,) = site.gateway.drain_finished()
    assert (ended.finish, ended.replica) == ("stop", "r1")


async def test_a_stream_that_begins_with_the_client_s_own_error_is_passed_on(site: Any) -> None:
    replica = await site.replica("r0")
    replica.stream = [b'data: {"error": {"message": "too long", "code": 400}}\n\ndata: [DONE]\n\n']
    site.route(replica)
    _, _, body = await site.post()
    assert (body, len(replica.seen)) == (replica.stream[0], 1)


async def test_a_request_that_kills_each_replica_is_given_up(site: Any, cut: Any) -> None:
    replicas = [await site.replica(f"r{number}") for number in range(4)]
    for replica in replicas:
        replica.stream = [cut]
    site.route(*replicas)
    status, headers, body = await site.post()
    assert status == 502
    assert _error(body)["code"] == "replica_lost"
    assert sum(len(replica.seen) for replica in replicas) == 3
    (ended,) = site.gateway.drain_finished()
    assert (ended.finish, ended.status, ended.id) == ("error", 502, headers["X-Request-Id"])


async def test_a_stream_that_breaks_ends_with_an_error_event_and_no_done(
    site: Any, chat_stream: bytes, cut: Any
) -> None:
    replica = await site.replica("r0")
    site.route(replica)
    replica.stream = [chat_stream[:250], cut]
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
    site: Any, chat_stream: bytes, cut: Any, ends_with: str
) -> None:
    replica, die = await site.replica("r0"), asyncio.Event()
    replica.stream = [chat_stream, die, cut]
    site.route(replica)
    async with site.client.post(f"{site.url}/v1/chat/completions", data=b"{}") as answer:
        body = await answer.content.readuntil(b"[DONE]\n\n")
        async with asyncio.timeout(5):
            if ends_with == "our stop":
                await site.gateway.stop()
            else:
                die.set()
            body += await answer.read()
    assert body == chat_stream
    await site.until(lambda: site.gateway.status().finished == 1)
    (ended,) = site.gateway.drain_finished()
    assert (ended.finish, ended.status, ended.output_tokens) == ("stop", 200, 3)


async def test_a_stream_from_a_replica_that_was_started_anew_elsewhere_ends_with_an_error(
    site: Any, chat_stream: bytes
) -> None:
    vanished, successor = await site.replica("r0"), await site.replica("r0")
    vanished.stream = [chat_stream[:250], asyncio.Event()]
    site.route(vanished, limit=1)
    async with site.client.post(f"{site.url}/v1/chat/completions", data=b"{}") as answer:
        await answer.content.readany()  # until then, the request would go to the successor
        async with asyncio.timeout(5):
            site.route(successor, limit=1)
            assert (await site.post())[0] == 200
            body = await answer.read()
    assert _error(body.rsplit(b"data: ", 1)[1])["code"] == "replica_lost"
    assert site.gateway.status().outstanding == {"r0": 0}


async def test_a_request_that_a_vanished_replica_has_not_answered_goes_to_its_successor(
    site: Any,
) -> None:
    vanished, successor = await site.replica("r0", ready=False), await site.replica("r0")
    site.route(vanished, limit=1)
    task = asyncio.create_task(site.post())
    await site.until(lambda: bool(vanished.seen))
    site.route(successor, limit=1)
    async with asyncio.timeout(1):
        assert (await task)[0] == 200
    assert len(successor.seen) == 1


async def test_a_whole_answer_that_breaks_is_tried_again(
    site: Any, chat_body: bytes, cut: Any
) -> None:
    breaking, healthy = await site.replica("r0"), await site.replica("r1")
    breaking.stream, breaking.content_type = [chat_body[:40], cut], "application/json"
    site.route(breaking, healthy)
    status, headers, body = await site.post()
    assert (status, headers["X-Replica"], body) == (200, "r1", chat_body)
    assert len(breaking.seen) == 1


async def test_a_client_error_is_the_clients(site: Any) -> None:
    replica = await site.replica("r0")
    site.route(replica)
    replica.status, replica.body = 400, b'{"error":{"message":"too long"}}'
    status, _, body = await site.post()
    assert (status, body, len(replica.seen)) == (400, replica.body, 1)
    (ended,) = site.gateway.drain_finished()
    assert ended.finish == "invalid"
    assert site.gateway.status().failed == 0


@pytest.mark.parametrize(
    ("found", "message"),
    [(b'{"detail":"Not Found"}', "Not Found"), (b"no route", "no route"), (b"[1]", "[1]")],
)
async def test_an_error_of_another_shape_is_told_in_openai_shape(
    site: Any, found: bytes, message: str
) -> None:
    replica = await site.replica("r0")
    site.route(replica)
    replica.status, replica.body = 404, found
    status, headers, body = await site.post("/v1/nothing")
    assert (status, headers["Content-Type"]) == (404, "application/json")
    assert (_error(body)["message"], _error(body)["code"]) == (message, "not_found")


async def test_a_draining_replica_finishes_what_it_has_and_gets_no_more(
    site: Any, chat_stream: bytes
) -> None:
    draining, awake = await site.replica("r0"), await site.replica("r1")
    finish = asyncio.Event()
    draining.stream = [chat_stream[:250], finish, chat_stream[250:]]
    site.route(draining)
    task = asyncio.create_task(site.post())
    await site.until(lambda: bool(draining.seen))
    site.route(awake)
    for _ in range(3):
        assert (await site.post())[1]["X-Replica"] == "r1"
    assert site.gateway.status().outstanding == {"r0": 1, "r1": 0}
    finish.set()
    assert (await task)[2] == chat_stream
    assert site.gateway.status().outstanding == {"r1": 0}
    assert len(draining.seen) == 1


async def test_the_idler_replica_is_next(site: Any) -> None:
    slow, quick = await site.replica("r0", ready=False), await site.replica("r1")
    site.route(slow, quick)
    task = asyncio.create_task(site.post())
    await site.until(lambda: bool(slow.seen))
    for _ in range(5):
        assert (await site.post())[1]["X-Replica"] == "r1"
    slow.gate.set()
    assert (await task)[0] == 200


@pytest.mark.parametrize("is_served", [False, True])
async def test_stopping_refuses_those_who_wait_and_those_who_have_no_answer_in_time(
    site: Any, is_served: bool
) -> None:
    replica = await site.replica("r0", ready=False)
    if is_served:
        site.route(replica)
    task = asyncio.create_task(site.post())
    await site.until(lambda: site.gateway.status().arrived == 1)
    await site.until(lambda: bool(replica.seen) or not is_served)
    await site.gateway.stop()
    status, headers, body = await task
    assert (status, _error(body)["code"], "Retry-After" in headers) == (503, "stopping", True)
    (ended,) = site.gateway.drain_finished()
    assert (ended.finish, ended.status) == ("cancelled" if is_served else "rejected", 503)


async def test_stopping_ends_a_stream_with_an_error_event_and_no_done(
    site: Any, chat_stream: bytes
) -> None:
    replica = await site.replica("r0")
    site.route(replica)
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
