from __future__ import annotations

import asyncio
import base64
import json
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.fixtures.beating_sites import tls_of
from tests.fixtures.site_door import (
    BODY,
    CHAT,
    HOME,
    TARGET,
    DoorSite,
    FakeGateway,
    headers_of,
    open_door,
    token,
)

from steppe.ledger.signing import PrivateKey
from steppe.sites.peer import HOP, REFUSED, REVISION
from steppe.sites.service.forward import DoorLimits
from steppe.sites.settlement.sent import AcceptedCall
from steppe.sites.trust.certificates import Credential, new_authority
from steppe.sites.trust.token import HEADER

LONGEST_S = 30.0
EVENTS = {"Content-Type": "text/event-stream"}

OpenDoor = Callable[..., Awaitable[DoorSite]]


@pytest.fixture(scope="module")
def authority() -> Credential:
    return new_authority("steppe test", time.time())


@pytest.fixture
async def open_site(tmp_path: Path, authority: Credential) -> AsyncIterator[OpenDoor]:
    async with AsyncExitStack() as stack:

        async def open_one(gateway: FakeGateway | None = None, **settings: Any) -> DoorSite:
            return await open_door(stack, tmp_path, authority, gateway or FakeGateway(), **settings)

        yield open_one


def counts(site: DoorSite) -> dict[str, float]:
    """Return how many calls of the home site ended in each way."""
    ends, _ = site.door.metrics()
    return {
        sample.labels["end"]: sample.value
        for sample in ends.samples
        if sample.labels["site"] in (HOME, "")
    }


def is_open(site: DoorSite) -> bool:
    return any(sample.value for sample in site.door.metrics()[1].samples)


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(LONGEST_S):
        while not is_so():
            await asyncio.sleep(0.005)


async def refusal(answer: aiohttp.ClientResponse) -> tuple[int, str, str]:
    """Return status, reason and message of a refusal."""
    error = (await answer.json())["error"]
    assert answer.headers[REFUSED] == error["code"]
    assert "\n" not in error["message"]
    return answer.status, error["code"], error["message"]


async def test_a_call_reaches_the_gateway_in_the_name_of_the_home_site(open_site: OpenDoor) -> None:
    site = await open_site()
    made = token()
    headers = headers_of(made, traceparent="00-1-2-03", x_steppe_priority="interactive")
    async with site.post(headers=headers) as answer:
        assert answer.status == 200
        assert await answer.read() == b'{"ok":true}'
    call = site.gateway.calls[0]
    assert (call.path, call.body) == (CHAT, BODY)
    assert call.headers["X-Steppe-Run"] == "5ec7e7"
    assert call.headers["x-steppe-tenant"] == f"site:{HOME}"
    assert call.headers["x-request-id"] == made.request
    assert call.headers["x-steppe-hop"] == "1"
    assert call.headers["traceparent"] == "00-1-2-03"
    assert call.headers["x-steppe-priority"] == "interactive"
    assert HEADER not in call.headers
    assert site.taken == [AcceptedCall(made.request, HOME, made.most_uj, headers[HEADER])]
    assert counts(site) == {"answered": 1}
    assert not is_open(site)


async def test_headers_that_name_tenants_or_keys_pass_in_neither_direction(
    open_site: OpenDoor,
) -> None:
    names = {
        "Content-Type": "application/json",
        "x-ratelimit-limit-requests": "7",
        "X-Request-Id": "inner",
        "X-Steppe-Tenant": "acme",
        "Set-Cookie": "a=b",
        "Retry-After": "3",
    }
    site = await open_site(FakeGateway(headers=names))
    smuggled = headers_of(
        token(),
        x_steppe_tenant="acme",
        X_Steppe_Run="5ec7e7-of-others",
        Authorization="Bearer key",
        X_Api_Key="key",
        x_steppe_admin_key="key",
        x_request_id="another",
        x_forwarded_for="10.0.0.1",
        Cookie="a=b",
        x_steppe_quote="q-1",
        x_steppe_priority="root",
    )
    async with site.post(headers=smuggled) as answer:
        passed = {name.lower() for name in answer.headers}
    assert passed == {"content-type", "retry-after", "transfer-encoding", "date", "server"}
    got = site.gateway.calls[0].headers
    assert got.getall("x-steppe-tenant") == [f"site:{HOME}"]
    assert got.getall("X-Steppe-Run") == ["5ec7e7"]
    assert {name.lower() for name in got} <= {
        "accept", "host", "x-steppe-run", "content-type", "content-length", "x-steppe-tenant",
        "x-request-id", "x-steppe-hop",
    }  # fmt: skip


async def test_a_stream_arrives_piece_by_piece_and_byte_for_byte(open_site: OpenDoor) -> None:
    go_on = asyncio.Event()
    events = [b"data: %d\n\n" % number for number in range(3)]
    site = await open_site(FakeGateway([events[0], go_on, events[1], events[2]], headers=EVENTS))
    async with site.post() as answer:
        assert await answer.content.readexactly(len(events[0])) == events[0]  # before the rest
        go_on.set()
        assert await answer.content.read() == events[1] + events[2]


async def test_an_encoded_answer_passes_as_it_is(open_site: OpenDoor) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    site = await open_site(FakeGateway([b"\x1f\x8b not really"], headers=headers))
    async with site.post() as answer:
        assert await answer.read() == b"\x1f\x8b not really"
        assert answer.headers["Content-Encoding"] == "gzip"


async def test_a_caller_that_leaves_ends_its_call_at_the_gateway(open_site: OpenDoor) -> None:
    gateway = FakeGateway([b"data: 1\n\n", asyncio.Event()], headers=EVENTS)
    site = await open_site(gateway)
    async with site.post() as answer:
        await answer.content.readany()
    await asyncio.wait_for(gateway.left.wait(), LONGEST_S)
    await until(lambda: not is_open(site))
    assert counts(site) == {"left": 1}


async def test_a_caller_that_leaves_before_the_first_byte_ends_its_call(
    open_site: OpenDoor,
) -> None:
    gateway = FakeGateway([asyncio.Event()], headers=EVENTS)
    site = await open_site(gateway)
    call = asyncio.create_task(site.post().__aenter__())
    await until(lambda: bool(gateway.calls))
    call.cancel()
    await asyncio.wait_for(gateway.left.wait(), LONGEST_S)


async def test_a_gateway_that_is_gone_is_a_refusal(open_site: OpenDoor) -> None:
    site = await open_site()
    await site.gateway.stop()
    async with site.post() as answer:
        status, code, message = await refusal(answer)
    assert (status, code) == (503, "gateway_gone")
    assert "does not answer" in message
    assert answer.headers["Retry-After"] == "1"


async def test_a_gateway_that_breaks_off_breaks_the_stream(open_site: OpenDoor) -> None:
    site = await open_site(FakeGateway([b"data: 1\n\n", None], headers=EVENTS))
    with pytest.raises((aiohttp.ClientError, ConnectionError)):
        async with site.post() as answer:
            await answer.read()
    await until(lambda: counts(site) == {"broken": 1})


async def test_what_the_gateway_cannot_take_is_a_refusal_and_other_errors_pass(
    open_site: OpenDoor,
) -> None:
    gateway = FakeGateway([b"no such model"], status=404)
    site = await open_site(gateway)
    async with site.post() as answer:
        assert (await refusal(answer))[:2] == (503, "not_here")
    gateway.status = 429
    async with site.post() as answer:
        assert (answer.status, await answer.read()) == (429, b"no such model")
        assert REFUSED not in answer.headers


@pytest.mark.parametrize(
    ("headers", "code", "found"),
    [
        ({HOP: "2"}, "hop_not_allowed", "asked for 1, found 2"),
        ({HOP: "01"}, "hop_not_allowed", "found 01"),
        ({HOP: ""}, "hop_not_allowed", "asked for 1"),
        ({HEADER: "x.y.z"}, "token_refused", "token: header"),
        ({HEADER: ""}, "token_refused", "asked for a compact JWS"),
        ({REVISION: "other"}, "other_revision", "asked for revision other, found main"),
        ({"Content-Type": "multipart/form-data"}, "not_json", "found multipart/form-data"),
        ({"Content-Encoding": "other"}, "not_json", "without a Content-Encoding"),
    ],
)
async def test_headers_that_are_wrong_are_refused(
    open_site: OpenDoor, headers: dict[str, str], code: str, found: str
) -> None:
    site = await open_site()
    async with site.post(headers=headers_of(token()) | headers) as answer:
        _, code_, message = await refusal(answer)
    assert code_ == code
    assert found in message
    assert not site.gateway.calls


async def test_a_call_without_a_hop_or_without_a_token_is_refused(open_site: OpenDoor) -> None:
    site = await open_site()
    for missing, code in ((HOP, "hop_not_allowed"), (HEADER, "token_refused")):
        headers = headers_of(token())
        del headers[missing]
        async with site.post(headers=headers) as answer:
            assert (await refusal(answer))[:2] == (403, code)
    assert not site.gateway.calls


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({"home": "guizhou"}, "token.iss: asked for hohhot, found guizhou"),
        ({"target": "guizhou"}, "token.aud: asked for shanghai, found guizhou"),
        ({"request": "a b"}, "token.jti: asked for at most 128 of"),
    ],
)
async def test_a_token_of_another_home_or_audience_is_refused(
    open_site: OpenDoor, fields: dict[str, Any], found: str
) -> None:
    site = await open_site()
    async with site.post(headers=headers_of(token(**fields))) as answer:
        status, code, message = await refusal(answer)
    assert (status, code) == (403, "token_refused")
    assert found in message


async def test_a_token_that_has_expired_is_refused(open_site: OpenDoor) -> None:
    site, end_s = await open_site(), int(time.time()) - 60
    expired = token(issued_s=end_s - 60, expires_s=end_s)
    async with site.post(headers=headers_of(expired)) as answer:
        status, code, message = await refusal(answer)
    assert (status, code) == (403, "token_refused")
    assert "found its end" in message


async def test_a_token_of_a_key_of_another_site_is_refused(open_site: OpenDoor) -> None:
    site = await open_site()
    headers = headers_of(token(), PrivateKey("guizhou", b"\2" * 32))
    async with site.post(headers=headers) as answer:
        assert "asked for a known key" in (await refusal(answer))[2]


async def test_a_token_is_used_once(open_site: OpenDoor) -> None:
    site, headers = await open_site(), headers_of(token())
    async with site.post(headers=headers) as answer:
        assert answer.status == 200
    async with site.post(headers=headers) as answer:
        status, code, message = await refusal(answer)
    assert (status, code) == (403, "token_refused")
    assert "was here before" in message
    assert len(site.gateway.calls) == 1


async def test_a_changed_claim_is_refused(open_site: OpenDoor) -> None:
    site, headers = await open_site(), headers_of(token())
    head, claims, signature = headers[HEADER].split(".")
    values = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
    more = json.dumps(values | {"max_uj": 10**15}).encode()
    headers[HEADER] = ".".join(
        (head, base64.urlsafe_b64encode(more).rstrip(b"=").decode(), signature)
    )
    async with site.post(headers=headers) as answer:
        assert "its signature does not fit" in (await refusal(answer))[2]


@pytest.mark.parametrize(
    ("fields", "joules"),
    [
        ({"max_tokens": 100}, "31 J"),
        ({"max_tokens": 10**9}, "1269.76 J"),
        ({"max_completion_tokens": 50, "n": 8}, "124 J"),
        ({}, "158.72 J"),
    ],
)
async def test_a_call_that_needs_more_energy_than_its_home_pays_for_is_refused(
    open_site: OpenDoor, fields: dict[str, int], joules: str
) -> None:
    site = await open_site()
    body = json.dumps({"model": "qwen3-8b", "prompt": "Hi", **fields})
    async with site.post(body, headers=headers_of(token(most_uj=30_000_000))) as answer:
        status, code, message = await refusal(answer)
    assert (status, code) == (403, "too_much_energy")
    assert message.startswith("asked for a call of at most 30 J, as its token says, found one that")
    assert message.endswith(f"need {joules}")


async def test_embeddings_need_no_energy_for_output(open_site: OpenDoor) -> None:
    site = await open_site()
    headers = headers_of(token(most_uj=0))
    body = b'{"model":"qwen3-8b","input":"text"}'
    async with site.post(body, path="/v1/embeddings", headers=headers) as answer:
        assert answer.status == 200


@pytest.mark.parametrize("body", [b"", b"[1]", b"{", b'{"a":' * 2000])
async def test_a_body_that_is_no_json_object_is_refused(open_site: OpenDoor, body: bytes) -> None:
    site = await open_site()
    async with site.post(body) as answer:
        assert (await refusal(answer))[:2] == (403, "not_json")


async def test_a_site_that_does_not_know_itself_takes_nothing(open_site: OpenDoor) -> None:
    site = await open_site(knows_itself=False)
    async with site.post() as answer:
        assert (await refusal(answer))[:2] == (503, "site_not_ready")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v1/models", 404),
        ("POST", "/steppe/v1/status", 404),
        ("POST", "/v1/batches", 404),
        ("POST", "/v1/chat/completions/", 404),
        ("POST", "/v1//chat/completions", 404),
        ("GET", CHAT, 405),
        ("DELETE", CHAT, 405),
    ],
)
async def test_only_calls_that_compute_an_answer_pass(
    open_site: OpenDoor, method: str, path: str, status: int
) -> None:
    site = await open_site()
    url, tls = site.url + path, site.home.client
    call = site.client.request(
        method, url, headers=headers_of(token()), ssl=tls, server_hostname=TARGET
    )
    async with call as answer:
        assert answer.status == status
    assert not site.gateway.calls


async def raw(site: DoorSite, text: bytes) -> bytes:
    """Send bytes with the certificate of the home site; return what comes until the end."""
    port = int(site.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=site.home.client, server_hostname=TARGET
    )
    writer.write(text)
    await writer.drain()
    try:
        return await reader.read(100_000)
    finally:
        writer.close()


@pytest.mark.parametrize(
    "target",
    [
        b"http://127.0.0.1:1/v1/chat/completions",
        b"/v1/chat%2Fcompletions",
        b"/./" + b"v1/chat/completions",
    ],
)
async def test_an_absolute_or_odd_address_reaches_nothing(
    open_site: OpenDoor, target: bytes
) -> None:
    site = await open_site()
    head = "".join(f"{name}: {value}\r\n" for name, value in headers_of(token()).items())
    text = b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n%s\r\n{}"
    answer = await raw(site, text % (target, head.encode()))
    assert answer.split()[1] in (b"403", b"404", b"400")
    assert not site.gateway.calls


async def test_two_hops_or_two_tokens_are_refused(open_site: OpenDoor) -> None:
    site = await open_site()
    for name in (HOP, HEADER):
        lines = list(headers_of(token()).items())
        lines += [each for each in lines if each[0] == name]
        head = "".join(f"{key}: {value}\r\n" for key, value in lines)
        text = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n{head}\r\n{{}}"
        assert (await raw(site, text.encode())).split()[1] == b"403"
    assert not site.gateway.calls


async def test_a_body_that_is_too_large_is_refused_with_and_without_a_length(
    open_site: OpenDoor,
) -> None:
    site = await open_site(limits=DoorLimits(body_bytes=1000))

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b" " * 100

    for body in (b" " * 2000, pieces()):
        async with site.post(body) as answer:
            assert (await refusal(answer))[:2] == (403, "body_too_large")
    assert not site.gateway.calls


async def test_all_bodies_together_have_a_limit(open_site: OpenDoor) -> None:
    site = await open_site(limits=DoorLimits(bodies_bytes=50))
    for _ in range(2):  # what a refused one held is free again
        async with site.post() as answer:
            assert (await refusal(answer))[:2] == (503, "site_full")


async def test_a_body_that_is_too_slow_is_refused(open_site: OpenDoor) -> None:
    site = await open_site(limits=DoorLimits(body_s=0.05))
    head = "".join(f"{name}: {value}\r\n" for name, value in headers_of(token()).items())
    text = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n{head}\r\n{{"
    assert (await raw(site, text.encode())).split()[1] == b"503"


async def test_more_calls_than_a_site_may_have_open_are_refused(open_site: OpenDoor) -> None:
    gateway = FakeGateway([b"data: 1\n\n", asyncio.Event()], headers=EVENTS)
    site = await open_site(gateway, limits=DoorLimits(open_per_home=1))
    async with site.post() as first:
        await first.content.readany()
        async with site.post() as answer:
            status, code, message = await refusal(answer)
    assert (status, code) == (503, "site_full")
    assert f"found 1 of {HOME}" in message


async def test_a_caller_that_takes_nothing_is_disconnected(open_site: OpenDoor) -> None:
    gateway = FakeGateway([b"x" * 65536] * 1000, headers=EVENTS)
    site = await open_site(gateway, limits=DoorLimits(write_s=0.1))
    async with site.post():
        await until(lambda: counts(site) == {"broken": 1})
    await asyncio.wait_for(gateway.left.wait(), LONGEST_S)


async def post_with(site: DoorSite, tls: ssl.SSLContext) -> None:
    headers = headers_of(token())
    url = site.url + CHAT
    call = site.client.post(url, data=BODY, headers=headers, ssl=tls, server_hostname=TARGET)
    async with call as answer:
        await answer.read()


async def test_a_caller_without_a_certificate_or_of_a_foreign_authority_is_refused(
    open_site: OpenDoor, tmp_path: Path
) -> None:
    site = await open_site()
    (tmp_path / "foreign").mkdir()
    foreign = tls_of(tmp_path / "foreign", HOME, new_authority("steppe test", time.time())).client
    foreign.load_verify_locations(tmp_path / "authority.pem")
    for tls in (ssl.create_default_context(cafile=str(tmp_path / "authority.pem")), foreign):
        with pytest.raises((aiohttp.ClientError, OSError)):
            await post_with(site, tls)
    assert not site.gateway.calls


async def test_a_site_that_is_not_in_the_list_is_refused(
    open_site: OpenDoor, tmp_path: Path, authority: Credential
) -> None:
    site = await open_site()
    async with site.post(tls=tls_of(tmp_path, "beijing", authority)) as answer:
        status, code, message = await refusal(answer)
    assert (status, code) == (403, "not_a_site")
    assert "found beijing" in message


async def test_another_site_of_the_list_cannot_use_a_token_of_the_home_site(
    open_site: OpenDoor, tmp_path: Path, authority: Credential
) -> None:
    site = await open_site()
    async with site.post(tls=tls_of(tmp_path, "guizhou", authority)) as answer:
        assert (await refusal(answer))[:2] == (403, "token_refused")
