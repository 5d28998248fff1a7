from __future__ import annotations

import asyncio
import gzip
import json
import random
import re
from typing import Any

import pytest
from tests.gateway.site import Site, SiteFactory

from steppe.errors import UsageError
from steppe.gateway.server import Gateway, GatewayModel, GatewaySettings


def _random_steps(data: bytes, rng: random.Random) -> list[bytes]:
    edges = sorted(rng.sample(range(1, len(data)), rng.randrange(1, 30)))
    return [data[a:b] for a, b in zip([0, *edges], [*edges, len(data)], strict=True)]


async def test_a_whole_response_passes_byte_for_byte(site: Site, chat_body: bytes) -> None:
    replica = await site.awake_replica()
    status, headers, body = await site.post(
        "/v1/chat/completions?a=%20b&a=%2F",
        b'{"x": "\xc3\xbc"}',
        X_Other="kept",
        Connection="X-Hop",
    )
    assert (status, body) == (200, chat_body)
    assert headers["X-Replica"] == "r0"
    assert headers["Content-Type"] == "application/json"
    (received,) = replica.received
    assert (received.method, received.target) == ("POST", "/v1/chat/completions?a=%20b&a=%2F")
    assert received.body == b'{"x": "\xc3\xbc"}'
    assert received.headers["X-Other"] == "kept"
    (ended,) = site.gateway.drain_finished()
    assert (ended.finish, ended.replica, ended.streamed) == ("length", "r0", False)
    assert (ended.prompt_tokens, ended.cached_tokens, ended.output_tokens) == (11, 8, 2)


async def test_a_stream_passes_byte_for_byte_at_any_chunk_boundaries(
    site: Site, chat_stream: bytes
) -> None:
    replica = await site.awake_replica()
    rng = random.Random(7)
    for _ in range(20):
        replica.stream = _random_steps(chat_stream, rng)
        status, headers, body = await site.post()
        assert (status, body) == (200, chat_stream)
        assert headers["Content-Type"] == "text/event-stream; charset=utf-8"
    for ended in site.gateway.drain_finished():
        assert (ended.finish, ended.output_tokens, ended.streamed) == ("stop", 3, True)
        assert ended.ttft_s is not None
        assert 0 < ended.ttft_s < ended.e2e_s


async def test_an_event_reaches_the_client_before_the_next_is_made(
    site: Site, chat_stream: bytes
) -> None:
    replica = await site.awake_replica()
    more = asyncio.Event()
    head, tail = chat_stream[:250], chat_stream[250:]
    whole = head[: head.rindex(b"\n\n") + 2]
    replica.stream = [head, more, tail]
    async with site.client.post(site.url + "/v1/chat/completions", data=b"{}") as answer:
        assert await answer.content.readexactly(len(whole)) == whole
        more.set()
        assert whole + await answer.read() == chat_stream


async def test_hop_by_hop_headers_are_not_forwarded(site: Site) -> None:
    replica = await site.awake_replica()
    await site.post(
        Connection="X-Hop, keep-alive", X_Hop="1", TE="trailers", Expect="100-continue", X_End="2"
    )
    (received,) = replica.received
    assert {"X-Hop", "TE", "Te", "Expect"}.isdisjoint(received.headers)
    assert received.headers["X-End"] == "2"
    assert received.headers["Host"] in replica.url


async def test_the_client_keeps_its_request_id_and_the_replica_gets_one_of_the_gateway(
    site: Site,
) -> None:
    replica = await site.awake_replica()
    _, kept, _ = await site.post(X_Request_Id="mine-1")
    _, made, _ = await site.post(X_Request_Id="not valid")
    ids = [kept["X-Request-Id"], made["X-Request-Id"]]
    assert ids[0] == "mine-1"
    assert ids[1] != "not valid"
    finished = site.gateway.drain_finished()
    assert [ended.id for ended in finished] == ids
    inner = [received.headers["X-Request-Id"] for received in replica.received]
    assert [ended.engine_id for ended in finished] == inner
    assert all(re.fullmatch("[0-9a-f]{32}", id_) for id_ in inner)
    assert len(set(inner)) == 2


@pytest.mark.parametrize(
    "forged", ["solo-0000000000000000-beam-1", "x-prompt-0-chunk", "0" * 32, "a-0-12345678"]
)
async def test_no_request_id_of_a_client_reaches_an_engine(site: Site, forged: str) -> None:
    replica = await site.awake_replica()
    await site.post(X_Request_Id=forged)
    await site.post(path="/v1/chat/completions/batch", X_Request_Id=forged)
    for received in replica.received:
        assert forged not in received.headers.values()
    assert {ended.id for ended in site.gateway.drain_finished()} >= {forged}


async def test_tenant_and_priority_are_kept_and_an_unknown_priority_is_refused(site: Site) -> None:
    await site.awake_replica()
    await site.post(X_Steppe_Tenant="lab", X_Steppe_Priority="deferrable")
    status, _, body = await site.post(X_Steppe_Priority="now!")
    assert status == 400
    error = json.loads(body)["error"]
    assert error["type"] == "invalid_request_error"
    assert "interactive, standard, deferrable" in error["message"]
    (ended,) = site.gateway.drain_finished()
    assert (ended.tenant, ended.priority) == ("lab", "deferrable")


async def test_models_are_those_of_a_replica_or_of_the_settings_if_none_is_awake(
    site: Site,
) -> None:
    async def ask() -> dict[str, Any]:
        async with site.client.get(site.url + "/v1/models") as answer:
            assert answer.status == 200
            models: dict[str, Any] = (await answer.json())["data"][0]
            return models

    assert (await ask())["owned_by"] == "steppe"
    await site.awake_replica()
    assert (await ask())["owned_by"] == "vllm"
    assert (await ask())["id"] == "m"


@pytest.mark.parametrize("awake", [False, True])
async def test_each_model_can_be_requested_by_name(site: Site, awake: bool) -> None:
    if awake:
        await site.awake_replica()
    async with site.client.get(site.url + "/v1/models/m") as answer:
        assert ((await answer.json())["id"], answer.status) == ("m", 200)
    async with site.client.get(site.url + "/v1/models/org/other") as answer:
        error = (await answer.json())["error"]
        assert (answer.status, error["code"]) == (404, "model_not_found")
        assert error["message"] == "asked for model org/other, found m"
    for path, status in (("", 200), ("/m", 200), ("/org/other", 404)):
        async with site.client.head(site.url + "/v1/models" + path) as answer:
            assert (answer.status, await answer.read()) == (status, b"")


async def test_light_requests_need_no_slot(site: Site) -> None:
    replica = await site.replica("r0")
    site.route(replica, limit=0)
    status, _, _ = await site.post("/tokenize")
    assert status == 200
    assert site.gateway.drain_finished() == []


@pytest.mark.parametrize("path", ["/v1/../sleep", "/v1/%2e%2e/sleep", "/v1//x", "/v1/a%2Fb"])
async def test_a_path_is_not_normalised(site: Site, path: str) -> None:
    replica = await site.awake_replica()
    await site.post(path)
    assert [received.target for received in replica.received] == [path]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nothing", 404), ("POST", "/sleep", 404), ("POST", "/health", 405)],
)
async def test_unknown_paths_are_refused_in_openai_shape(
    site: Site, method: str, path: str, status: int
) -> None:
    replica = await site.awake_replica()
    async with site.client.request(method, site.url + path) as answer:
        assert answer.status == status
        assert path in (await answer.json())["error"]["message"]
    assert replica.received == []


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_redirect_to_the_replica_becomes_one_to_the_gateway(
    site: Site, method: str
) -> None:
    replica = await site.awake_replica()
    path = "/v1/chat/completions?a=%20b"
    replica.status, replica.location = 307, replica.url + path
    asked = site.client.request(method, site.url + "/v1/x/", allow_redirects=False)
    async with asked as answer:
        assert (answer.status, answer.headers["Location"]) == (307, path)
    replica.location = elsewhere = replica.url + "0/v1"
    async with site.client.get(site.url + "/v1/x/", allow_redirects=False) as answer:
        assert answer.headers["Location"] == elsewhere


async def test_large_bodies_pass(site: Site) -> None:
    replica = await site.awake_replica()
    body = random.Random(1).randbytes(8 << 20)
    status, _, _ = await site.post(body=body)
    assert status == 200
    assert replica.received[0].body == body


async def test_a_compressed_body_passes_unchanged(site: Site) -> None:
    replica = await site.awake_replica()
    body = gzip.compress(b'{"model":"m"}')
    status, _, _ = await site.post(body=body, Content_Encoding="gzip")
    (received,) = replica.received
    assert (status, received.body, received.headers["Content-Encoding"]) == (200, body, "gzip")


async def test_a_port_in_use_is_one_line_that_names_it(site: Site) -> None:
    port = int(site.url.rsplit(":", 1)[1])
    other = Gateway(GatewaySettings("127.0.0.1", port, 1, 1.0, (GatewayModel("m", 2.0),)))
    with pytest.raises(UsageError, match=f"^gateway.port: 127.0.0.1:{port} is in use already$"):
        await other.start()


async def test_a_gateway_that_could_not_listen_serves_once_it_can(
    open_site: SiteFactory, chat_body: bytes
) -> None:
    first = await open_site()
    port = int(first.url.rsplit(":", 1)[1])
    other = Gateway(GatewaySettings("127.0.0.1", port, 1, 1.0, (GatewayModel("m", 2.0),)))
    with pytest.raises(UsageError):
        await other.start()
    await first.gateway.stop()
    assert await other.start() == first.url
    first.gateway = other
    first.route(await first.replica("r0"))
    assert (await first.post())[2] == chat_body
    await other.stop()


async def test_an_ipv6_host_is_in_brackets_in_the_url() -> None:
    gateway = Gateway(GatewaySettings("::1", 0, 1, 1.0, (GatewayModel("m", 2.0),)))
    url = await gateway.start()
    await gateway.stop()
    assert re.fullmatch(r"http://\[::1\]:\d+", url)


async def test_a_long_token_passes(site: Site) -> None:
    replica = await site.awake_replica()
    assert (await site.post(X_Token="a" * 20_000))[0] == 200
    assert len(replica.received[0].headers["X-Token"]) == 20_000


async def test_invalid_http_is_refused_without_a_log_line(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    reader, writer = await asyncio.open_connection(*site.url.removeprefix("http://").split(":"))
    writer.write(b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: many\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.0 400 ")
    writer.close()
    await writer.wait_closed()
    assert caplog.records == []


async def test_errors_of_clients_are_counted_by_reason_and_are_no_refusals(
    open_site: SiteFactory,
) -> None:
    site = await open_site(max_body_bytes=100)
    assert (await site.post(X_Steppe_Priority="now!"))[0] == 400
    assert (await site.post(X_Steppe_Tenant="of mine"))[0] == 400
    assert (await site.post("/v1/tokenize", b" " * 101))[0] == 413
    async with site.client.get(site.url + "/metrics") as answer:
        found = await answer.text()
    assert "steppe_rejections_total{" not in found
    counted = re.findall(r'steppe_client_errors_total\{reason="(\w+)"\} (\S+)', found)
    assert dict(counted) == {"bad_request": "2.0", "request_entity_too_large": "1.0"}
    assert site.gateway.drain_finished() == []


async def test_the_status_counts_the_prompt_tokens_that_arrived(
    site: Site, chat_stream: bytes
) -> None:
    replica = await site.awake_replica(answers=False)
    replica.stream = [chat_stream]
    body = b'{"stream":true,"messages":[{"role":"user","content":"' + b"four" * 1000 + b'"}]}'
    post = asyncio.create_task(site.post(body=body, Content_Type="application/json"))
    await site.until(lambda: bool(replica.received))
    status = site.gateway.status()
    assert status.prompt_tokens == 1001
    replica.may_answer.set()
    await post
    await site.until(lambda: site.gateway.status().finished == 1)
    status = site.gateway.status()
    assert status.prompt_tokens == 7
    assert (status.latency.first_tokens, status.latency.late) == (1, 0)
