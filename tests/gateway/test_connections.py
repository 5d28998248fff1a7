"""Clients that hold the gateway up: half requests, idle connections, slow readers, big bodies."""

from __future__ import annotations

import asyncio

import pytest
from tests.gateway.raw import Raw
from tests.gateway.site import Site, SiteFactory

from steppe.gateway.access import AccessSettings
from steppe.services.connections import HttpLimits

POST = b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"
ALIVE = b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.mark.parametrize(
    "part", [b"G", b"GET / HTTP/1.1\r\n", b"POST /v1/x HTTP/1.1\r\nHost: a\r\nX"]
)
async def test_half_sent_headers_get_a_408(open_site: SiteFactory, part: bytes) -> None:
    site = await open_site(http=HttpLimits(header_s=0.05))
    async with Raw(site) as raw:
        raw.send(part)
        answer = await raw.rest()
    assert answer.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    assert b'"code":"request_timeout"' in answer
    await site.until(lambda: len(site.gateway._guard) == 0)


async def test_drops_of_headers_do_not_prolong_their_time(open_site: SiteFactory) -> None:
    site = await open_site(http=HttpLimits(header_s=0.2))
    async with Raw(site) as raw:
        raw.send(b"GET / HTTP/1.1\r\n")
        ended = asyncio.create_task(raw.rest())
        while not ended.done():
            raw.send(b"X: a\r\n")
            await asyncio.sleep(0.02)
        assert (await ended).startswith(b"HTTP/1.1 408 ")


async def test_a_half_sent_body_gets_a_408(open_site: SiteFactory) -> None:
    site = await open_site(http=HttpLimits(body_s=0.05))
    replica = await site.awake_replica()
    async with Raw(site) as raw:
        raw.send(POST % 100 + b"half")
        assert (await raw.answer())[0] == 408
        await site.until(lambda: site.gateway._bodies.reserved == 0)
    assert replica.received == []


async def test_an_idle_connection_is_closed(open_site: SiteFactory) -> None:
    site = await open_site(http=HttpLimits(idle_s=0.05))
    async with Raw(site) as raw:
        assert await raw.rest() == b""
    async with Raw(site) as raw:
        raw.send(ALIVE)
        assert (await raw.answer())[0] == 200
        assert await raw.rest() == b""


async def test_a_connection_serves_one_request_after_the_other(open_site: SiteFactory) -> None:
    site = await open_site(http=HttpLimits(header_s=30.0))
    async with Raw(site) as raw:
        for _ in range(3):
            raw.send(ALIVE[:20])
            await _headers_begin(site)
            raw.send(ALIVE[20:])
            assert (await raw.answer())[0] == 200
        raw.send(ALIVE + ALIVE)
        assert [(await raw.answer())[0] for _ in range(2)] == [200, 200]


async def _headers_begin(site: Site) -> None:
    """Wait until a part of the headers of a request has arrived."""
    found = site.gateway._guard._open
    await site.until(lambda: any(c._header_timer is not None for c in found.values()))


async def test_connections_beyond_the_limit_get_a_503(open_site: SiteFactory) -> None:
    for limits in (HttpLimits(connections=2), HttpLimits(connections_per_client=2)):
        site = await open_site(http=limits)
        async with Raw(site) as first, Raw(site) as second:
            for raw in (first, second):
                raw.send(ALIVE)
                assert (await raw.answer())[0] == 200
            async with Raw(site) as third:
                answer = await third.rest()
                assert answer.startswith(b"HTTP/1.1 503 ")
                assert b"Retry-After: 1\r\n" in answer
        await site.until(lambda s=site: len(s.gateway._guard) == 0)  # type: ignore[misc]
        async with Raw(site) as again:
            again.send(ALIVE)
            assert (await again.answer())[0] == 200


async def test_a_trusted_proxy_may_have_more_connections_than_a_client(
    open_site: SiteFactory,
) -> None:
    proxies = AccessSettings(trusted_proxies=("127.0.0.1",))
    site = await open_site(http=HttpLimits(connections_per_client=1), access=proxies)
    async with Raw(site) as first, Raw(site) as second:
        for raw in (first, second):
            raw.send(ALIVE)
            assert (await raw.answer())[0] == 200


async def test_a_body_that_is_too_large_is_refused_before_it_is_sent(
    open_site: SiteFactory,
) -> None:
    site = await open_site(max_body_bytes=1000)
    async with Raw(site) as raw:
        raw.send(POST % 1001)
        assert (await raw.answer())[0] == 413
    async with Raw(site) as raw:
        raw.send(POST.replace(b"Content-Length: %d", b"Transfer-Encoding: chunked"))
        raw.send(b"800\r\n" + b"x" * 0x800 + b"\r\n")
        assert (await raw.answer())[0] == 413


async def test_all_bodies_together_have_one_limit(open_site: SiteFactory) -> None:
    site = await open_site(http=HttpLimits(bodies_bytes=1500))
    replica = await site.awake_replica(answers=False)
    async with Raw(site) as first, Raw(site) as second:
        first.send(POST % 1000 + b"x" * 1000)
        await site.until(lambda: bool(replica.received))
        second.send(POST % 1000)
        status, head = await second.answer()
        assert (status, b"Retry-After: 1" in head) == (503, True)
        replica.may_answer.set()
        assert (await first.answer())[0] == 200
    await site.until(lambda: site.gateway._bodies.reserved == 0)
    status, _, _ = await site.post(body=b"x" * 1000)
    assert status == 200


async def test_a_client_that_reads_no_answer_is_cut_off(open_site: SiteFactory) -> None:
    site = await open_site(write_timeout_s=0.2)
    replica = await site.awake_replica()
    replica.body = b"x" * (30 << 20)
    async with Raw(site) as raw:
        raw.send(POST % 2 + b"{}")
        await site.until(lambda: len(site.gateway._guard) == 1)
        await site.until(lambda: len(site.gateway._guard) == 0)
    async with site.client.get(site.url + "/metrics") as answer:
        assert 'steppe_gateway_cut_off_total{reason="slow_reader"} 1.0' in await answer.text()


async def test_on_a_stop_a_kept_connection_gets_a_503_and_is_closed(
    open_site: SiteFactory,
) -> None:
    site = await open_site(stop_timeout_s=5.0)
    replica = await site.awake_replica(answers=False)
    async with Raw(site) as kept, Raw(site) as busy:
        kept.send(ALIVE)
        assert (await kept.answer())[0] == 200
        busy.send(POST % 2 + b"{}")
        await site.until(lambda: bool(replica.received))
        stop = asyncio.create_task(site.gateway.stop())
        await site.until(lambda: site.gateway._guard.is_stopping)
        kept.send(POST % 2 + b"{}")
        status, head = await kept.answer()
        assert status == 503
        assert b"connection: close" in head.lower()
        assert await kept.rest() == b""
        replica.may_answer.set()
        status, head = await busy.answer()
        assert (status, b"connection: close" in head.lower()) == (200, True)
        await stop


async def test_the_metrics_show_connections_and_bodies(site: Site) -> None:
    async with site.client.get(site.url + "/metrics") as answer:
        found = await answer.text()
    assert "steppe_gateway_connections 1.0" in found
    assert "steppe_gateway_bodies_bytes 0.0" in found
