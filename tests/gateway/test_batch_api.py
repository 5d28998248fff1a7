"""The Batch API's door: what reaches the batch service of a run, and what it answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import aiohttp
import orjson
import pytest
from tests.gateway.raw import WITHIN_S, Raw
from tests.gateway.site import Cut, FakeReplica, Site, SiteFactory

from steppe.gateway.access import AccessSettings
from steppe.gateway.batch_api import UploadLimits, _Upload
from steppe.gateway.driver_news import DriverNews
from steppe.tenants.key import make_key
from steppe.tenants.tenant import KnownTenants, Tenant, TenantLimits

KEY, SECRET = make_key("a", 0.0), "of-this-run"
LIMITS = UploadLimits(file_bytes=1000, uploads=1, idle_s=20.0)
MIB = 1 << 20


def access(limits: TenantLimits = TenantLimits()) -> AccessSettings:  # noqa: B008  a frozen value
    known = KnownTenants((Tenant("a", limits), Tenant("b")), (KEY.stored,))
    return AccessSettings(known, run_secret=SECRET)


def bearer() -> dict[str, str]:
    return {"Authorization": f"Bearer {KEY.text}"}


def code_of(body: bytes) -> str:
    code: str = orjson.loads(body)["error"]["code"]
    return code


async def with_service(
    open_site: SiteFactory,
    access: AccessSettings | None = None,
    limits: UploadLimits = LIMITS,
) -> tuple[Site, FakeReplica]:
    settings = AccessSettings(run_secret=SECRET) if access is None else access
    site = await open_site(access=settings, uploads=limits, run_secret=SECRET)
    service = await site.replica("batch service")
    service.body = b'{"object":"batch"}'
    site.gateway.tell(DriverNews(services={"batch": service.url}))
    return site, service


async def test_without_the_section_a_call_gets_a_404_that_names_it(site: Site) -> None:
    for path in ("/v1/files", "/v1/batches", "/v1/batches/batch_1/cancel"):
        status, _, body = await site.post(path)
        assert (status, code_of(body)) == (404, "batch_not_configured")
        assert b"found no section batch in the configuration" in body


async def test_a_service_that_starts_is_a_503_that_says_when_to_try_again(
    open_site: SiteFactory,
) -> None:
    site = await open_site(uploads=LIMITS)
    status, headers, body = await site.get("/v1/batches")
    assert (status, code_of(body), headers["Retry-After"]) == (503, "batch_unavailable", "1")


async def test_an_absolute_url_is_refused_before_the_service_is_asked(
    open_site: SiteFactory,
) -> None:
    site, service = await with_service(open_site)
    async with Raw(site) as client:
        client.send(b"GET http://elsewhere/v1/batches HTTP/1.1\r\nHost: here\r\n\r\n")
        assert client.reader is not None
        async with asyncio.timeout(WITHIN_S):
            head = await client.reader.readuntil(b"\r\n")
    assert b" 400 " in head
    assert not service.received


async def test_a_call_reaches_the_service_with_its_tenant_and_the_secret_but_no_key(
    open_site: SiteFactory,
) -> None:
    site, service = await with_service(open_site, access())
    status, headers, body = await site.post(
        "/v1/batches?x=%2F", b"{}", X_Request_Id="1", **bearer()
    )
    assert (status, body, headers["X-Request-Id"]) == (200, service.body, "1")
    (received,) = service.received
    assert (received.method, received.target) == ("POST", "/v1/batches?x=%2F")
    assert received.headers["x-steppe-tenant"] == "a"
    assert received.headers["X-Steppe-Run"] == SECRET
    assert KEY.text not in str(received.headers)


async def test_a_client_cannot_choose_another_tenant(open_site: SiteFactory) -> None:
    site, service = await with_service(open_site, access())
    more = {"X_Steppe_Tenant": "b", "X_Steppe_Run": "a guess"}
    assert (await site.post("/v1/batches", b"{}", **more, **bearer()))[0] == 200
    assert service.received[0].headers.getall("x-steppe-tenant") == ["a"]
    assert (await site.post("/v1/batches", b"{}", **more))[0] == 401


async def test_the_secret_of_the_run_asks_in_the_name_of_a_tenant(open_site: SiteFactory) -> None:
    site, _ = await with_service(open_site, access())
    await site.awake_replica()
    body, headers = b'{"model":"m","prompt":"a"}', {"Content_Type": "application/json"}
    named = {"X_Steppe_Run": SECRET, "X_Steppe_Tenant": "b"}
    path = "/v1/completions"
    assert (await site.post(path, body, **named, **headers))[0] == 200
    assert [done.tenant for done in site.gateway.drain_finished()] == ["b"]
    named["X_Steppe_Tenant"] = "unknown"
    status, _, answer = await site.post(path, body, **named, **headers)
    assert (status, code_of(answer)) == (403, "unknown_tenant")


async def test_without_a_secret_nobody_can_present_one(open_site: SiteFactory) -> None:
    known = KnownTenants((Tenant("a"),), (KEY.stored,))
    site = await open_site(access=AccessSettings(known), uploads=LIMITS)
    for found in ("", "x"):
        status, _, _ = await site.post(X_Steppe_Run=found, X_Steppe_Tenant="a")
        assert status == 401


async def test_a_tenant_name_that_no_file_could_have_is_refused(open_site: SiteFactory) -> None:
    site, service = await with_service(open_site)
    status, _, body = await site.post("/v1/batches", X_Steppe_Tenant="../b")
    assert (status, code_of(body)) == (400, "bad_request")
    assert not service.received


async def test_changes_are_charged_to_the_tenant_and_reading_is_not(open_site: SiteFactory) -> None:
    site, _ = await with_service(open_site, access(TenantLimits(requests_per_minute=1)))
    assert (await site.post("/v1/batches", b"{}", **bearer()))[0] == 200
    status, _, body = await site.post("/v1/batches", b"{}", **bearer())
    assert (status, code_of(body)) == (429, "rate_limit_exceeded")
    async with site.client.get(site.url + "/v1/batches", headers=bearer()) as answer:
        assert answer.status == 200


async def test_a_file_that_is_too_large_is_refused_before_it_is_read(
    open_site: SiteFactory,
) -> None:
    site, service = await with_service(open_site)
    status, _, body = await site.post("/v1/files", b"x" * (1000 + (64 << 10) + 1))
    assert (status, code_of(body)) == (413, "file_too_large")
    assert b"at most 1000 bytes" in body
    assert not service.received


async def test_a_file_that_is_too_large_is_broken_off_as_it_comes(open_site: SiteFactory) -> None:
    site, service = await with_service(open_site)

    async def parts() -> AsyncIterator[bytes]:
        for _ in range(80):
            yield b"x" * 1024

    async with site.client.post(site.url + "/v1/files", data=parts()) as answer:
        assert (answer.status, code_of(await answer.read())) == (413, "file_too_large")
    assert not service.received


async def test_an_upload_that_stops_is_broken_off(open_site: SiteFactory) -> None:
    site, service = await with_service(open_site, limits=UploadLimits(1000, 1, idle_s=0.05))
    never = asyncio.Event()

    async def parts() -> AsyncIterator[bytes]:
        yield b"x"
        await never.wait()

    sent = asyncio.ensure_future(site.client.post(site.url + "/v1/files", data=parts()))
    async with await sent as answer:
        assert (answer.status, code_of(await answer.read())) == (408, "request_timeout")
    assert not service.received


async def test_a_large_file_passes_without_being_held(open_site: SiteFactory) -> None:
    site, service = await with_service(open_site, limits=UploadLimits(64 * MIB))
    status, _, _ = await site.post("/v1/files", b"x" * (40 * MIB))
    assert status == 200
    assert len(service.received[0].body) == 40 * MIB
    assert site.gateway.status().arrived == 0


async def test_only_so_many_uploads_run_at_one_time(open_site: SiteFactory) -> None:
    site, service = await with_service(open_site)
    service.may_answer.clear()
    first = asyncio.create_task(site.post("/v1/files", b"x"))
    await site.until(lambda: len(service.received) == 1)
    status, _, body = await site.post("/v1/files", b"x")
    assert (status, code_of(body)) == (503, "batch_unavailable")
    service.may_answer.set()
    assert (await first)[0] == 200
    assert (await site.post("/v1/files", b"x"))[0] == 200


async def test_a_service_that_is_gone_is_a_503(open_site: SiteFactory) -> None:
    site, service = await with_service(open_site)
    await service.stop()
    status, headers, body = await site.get("/v1/batches")
    assert (status, code_of(body), headers["Retry-After"]) == (503, "batch_unavailable", "1")


async def test_a_service_that_does_not_answer_is_a_503(open_site: SiteFactory) -> None:
    site, service = await with_service(open_site, limits=UploadLimits(1000, answer_s=0.1))
    service.may_answer.clear()
    for call in (site.get("/v1/batches"), site.post("/v1/batches", b"{}"), site.post("/v1/files")):
        status, headers, body = await call
        assert (status, code_of(body), headers["Retry-After"]) == (503, "batch_unavailable", "1")


async def test_a_service_that_takes_no_more_of_an_upload_is_a_503(open_site: SiteFactory) -> None:
    never, left = asyncio.Event(), asyncio.Event()

    async def stand_still(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await never.wait()
        writer.transport.abort()
        with suppress(OSError):
            await writer.wait_closed()
        left.set()

    site = await open_site(uploads=UploadLimits(64 * MIB, answer_s=0.2))
    stopped = await asyncio.start_server(stand_still, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{stopped.sockets[0].getsockname()[1]}"
    site.gateway.tell(DriverNews(services={"batch": url}))
    status, headers, body = await site.post("/v1/files", b"x" * (40 * MIB))
    assert (status, code_of(body), headers["Retry-After"]) == (503, "batch_unavailable", "1")
    never.set()
    await left.wait()
    stopped.close()
    await stopped.wait_closed()


async def test_the_time_of_a_client_does_not_count_as_that_of_the_service() -> None:
    content = asyncio.StreamReader()
    request: Any = SimpleNamespace(content=SimpleNamespace(readany=lambda: content.read(100)))
    async with asyncio.timeout(100) as wait:
        chunks = _Upload(request, UploadLimits(answer_s=50)).chunks(wait)
        for text in (b"a", b"b"):
            chunk = asyncio.ensure_future(anext(chunks))
            await asyncio.sleep(0)
            assert wait.when() is None
            content.feed_data(text)
            assert await chunk == text
            assert wait.when() is not None


async def test_an_answer_that_stands_still_is_broken_off(open_site: SiteFactory) -> None:
    site, service = await with_service(open_site, limits=UploadLimits(1000, answer_s=2.0))
    service.stream = [b"a line\n", asyncio.Event()]
    with pytest.raises(aiohttp.ClientError):
        await site.get("/v1/files/file-1/content")


async def test_an_answer_that_the_service_breaks_off_is_broken_off(open_site: SiteFactory) -> None:
    site, service = await with_service(open_site)
    service.stream = [b"a line\n", Cut()]
    with pytest.raises(aiohttp.ClientError):
        await site.get("/v1/files/file-1/content")


async def test_the_metrics_of_the_service_stand_after_those_of_the_gateway(
    open_site: SiteFactory,
) -> None:
    site, service = await with_service(open_site)
    service.body = b"steppe_batch_jobs 1\n"
    _, _, text = await site.get("/metrics")
    assert text.endswith(service.body)
    await service.stop()
    assert b"steppe_batch_jobs" not in (await site.get("/metrics"))[2]
