"""Malformed and hostile bytes: no crash, nothing forwarded, no answer without a key, no leak."""

from __future__ import annotations

import asyncio
import gc
import logging
import resource
from contextlib import AsyncExitStack
from pathlib import Path

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.gateway.raw import Raw
from tests.gateway.site import FakeReplica, Site, SiteFactory

from steppe.gateway.access import AccessSettings
from steppe.services.connections import HttpLimits
from steppe.tenants.key import make_key
from steppe.tenants.tenant import KnownTenants, Tenant

KEY = make_key("a", 0.0)
ACCESS = AccessSettings(KnownTenants((Tenant("a"),), (KEY.stored,)))
AUTHORIZED = b"Authorization: Bearer " + KEY.text.encode() + b"\r\n"
INNER = b"GET /v1/models HTTP/1.1\r\nHost: a\r\n\r\n"

SMUGGLING = {
    "length and chunked": b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked and length": b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
    "two lengths": b"Content-Length: 2\r\nContent-Length: 50\r\n\r\n{}",
    "the same length twice": b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
    "a list of lengths": b"Content-Length: 2, 50\r\n\r\n{}",
    "a signed length": b"Content-Length: +2\r\n\r\n{}",
    "a negative length": b"Content-Length: -2\r\n\r\n{}",
    "a hexadecimal length": b"Content-Length: 0x2\r\n\r\n{}",
    "a bare line feed": b"X: a\nContent-Length: 2\r\n\r\n{}",
    "only line feeds": b"Content-Length: 2\n\n{}",
    "a folded header": b"X: a\r\n b\r\nContent-Length: 2\r\n\r\n{}",
    "a space before the colon": b"Content-Length : 2\r\n\r\n{}",
    "two codings": b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "an unknown coding": b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "a null byte": b"X: a\0b\r\nContent-Length: 2\r\n\r\n{}",
    "a chunk without a size": b"Transfer-Encoding: chunked\r\n\r\n\r\n{}\r\n0\r\n\r\n",
    "a chunk size too far": b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n{}",
}


@pytest.fixture
async def keyed(open_site: SiteFactory) -> tuple[Site, FakeReplica]:
    site = await open_site(access=ACCESS)
    return site, await site.awake_replica()


@pytest.fixture
async def quick(open_site: SiteFactory) -> tuple[Site, FakeReplica]:
    """A gateway that soon gives up a request that never ends."""
    site = await open_site(access=ACCESS, http=HttpLimits(header_s=0.5, body_s=0.5, idle_s=0.5))
    return site, await site.awake_replica()


def statuses(answers: bytes) -> set[int]:
    """Return the statuses of all answers in a stream of bytes."""
    return {
        int(line.split()[1])
        for line in answers.split(b"\r\n")
        if line.startswith((b"HTTP/1.1 ", b"HTTP/1.0 "))
    }


@pytest.mark.parametrize("headers", SMUGGLING.values(), ids=SMUGGLING.keys())
async def test_a_request_that_two_servers_may_read_differently_is_not_forwarded(
    quick: tuple[Site, FakeReplica], headers: bytes
) -> None:
    site, replica = quick
    async with Raw(site) as raw:
        raw.send(b"POST /v1/completions HTTP/1.1\r\nHost: a\r\n" + AUTHORIZED + headers + INNER)
        answers = await raw.rest()
    assert statuses(answers) <= {400, 401, 408, 413}
    assert replica.received == []
    assert (await site.get("/health/live"))[0] == 200


async def test_what_follows_a_request_is_another_one_and_needs_its_own_key(
    keyed: tuple[Site, FakeReplica],
) -> None:
    site, replica = keyed
    async with Raw(site) as raw:
        raw.send(b"POST /v1/completions HTTP/1.1\r\nHost: a\r\n" + AUTHORIZED)
        raw.send(b"Content-Length: 2\r\n\r\n{}" + INNER)
        assert [(await raw.answer())[0] for _ in range(2)] == [200, 401]
    assert len(replica.received) == 1


LINES = st.sampled_from(
    [
        b"POST /v1/completions HTTP/1.1",
        b"GET /v1/models HTTP/1.1",
        b"GET http://b/metrics HTTP/1.1",
        b"OPTIONS * HTTP/1.1",
        b"CONNECT b:80 HTTP/1.1",
        b"TRACE / HTTP/1.1",
        b"GET /../metrics HTTP/1.0",
        b"GET //metrics HTTP/1.1",
        b"GET /health/../metrics HTTP/1.1",
        b"GET /health%2f..%2fmetrics HTTP/1.1",
        b"Host: a",
        b"Upgrade: websocket",
        b"Connection: Upgrade",
        b"Expect: 100-continue",
        b"Content-Length: 5",
        b"Transfer-Encoding: chunked",
        b"Content-Encoding: gzip",
        b"Authorization: Bearer sk-steppe-00000000-x",
        b"X-Steppe-Tenant: a",
        b"X-Steppe-Run: a",
        b"",
        b"5",
        b"0",
        b"{}",
    ]
)
NOISE = st.one_of(LINES, st.binary(max_size=30))


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(parts=st.lists(NOISE, min_size=1, max_size=12), end=st.sampled_from([b"\r\n", b"\n"]))
async def test_no_bytes_without_a_key_get_more_than_a_refusal(
    quick: tuple[Site, FakeReplica], parts: list[bytes], end: bytes
) -> None:
    site, replica = quick
    async with Raw(site) as raw:
        raw.send(end.join(parts) + end + end)
        raw.end()
        answers = await raw.rest()
    assert statuses(answers) <= {100, 400, 401, 404, 405, 408, 413, 417}
    assert replica.received == []


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)  # orjson writes no larger ones
    | st.floats(allow_nan=False)
    | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4)
    ),
    max_leaves=12,
)
KEYS = ("model", "messages", "prompt", "max_tokens", "n", "stream", "stream_options", "tools")


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    body=st.one_of(
        st.binary(max_size=200),
        st.dictionaries(st.sampled_from(KEYS), JSON).map(orjson.dumps),
        JSON.map(orjson.dumps),
        st.just(b"[" * 5000),
    )
)
async def test_no_body_makes_the_gateway_fail(keyed: tuple[Site, FakeReplica], body: bytes) -> None:
    site, replica = keyed
    site.route(replica)  # as the controller does all the time
    headers = {"Authorization": f"Bearer {KEY.text}", "Content_Type": "application/json"}
    status, _, answer = await site.post(body=body, **headers)
    assert status in (200, 400), answer
    assert site.gateway._bodies.reserved == 0


async def test_keys_are_in_no_log_whatever_a_client_sends(
    quick: tuple[Site, FakeReplica], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    site, _ = quick
    for headers in (*SMUGGLING.values(), b"\r\n", b"X\r\n\r\n"):
        async with Raw(site) as raw:
            raw.send(b"POST /v1/completions HTTP/1.1\r\n" + AUTHORIZED + headers)
            raw.end()
            await raw.rest()
    assert KEY.text[20:] not in caplog.text


def resident_bytes() -> int:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


async def hold(site: Site, count: int, data: bytes) -> None:
    """Open connections, send some bytes on each, and wait until the gateway has closed all."""
    async with AsyncExitStack() as stack:
        opened = [await stack.enter_async_context(Raw(site)) for _ in range(count)]
        for raw in opened:
            raw.send(data)
        await site.until(lambda: len(site.gateway._guard) > 0)
        await asyncio.gather(*(raw.rest() for raw in opened))
    await site.until(lambda: len(site.gateway._guard) == 0)


async def test_two_hundred_half_requests_end_and_leave_nothing(open_site: SiteFactory) -> None:
    site = await open_site(access=ACCESS, http=HttpLimits(header_s=0.3, body_s=0.3, idle_s=5.0))
    half_body = b"POST /v1/completions HTTP/1.1\r\nHost: a\r\n" + AUTHORIZED
    half_body += b"Content-Length: 60000000\r\n\r\n" + b"x" * 1000
    for data in (b"POST /v1/completions HTTP/1.1\r\nHo", half_body):
        await hold(site, 200, data)
    assert site.gateway._bodies.reserved == 0
    assert (await site.get("/health/live"))[0] == 200


@pytest.mark.slow
async def test_two_thousand_idle_connections_leave_the_memory_as_it_was(
    open_site: SiteFactory,
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 5000:
        pytest.skip("needs 5,000 open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (5000, hard))
    site = await open_site(access=ACCESS, http=HttpLimits(header_s=3.0, idle_s=3.0))
    try:
        await hold(site, 2000, b"")
        before = resident_bytes()
        for data in (b"", b"GET / HT"):
            await hold(site, 2000, data)
        assert resident_bytes() - before < 8 << 20
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
