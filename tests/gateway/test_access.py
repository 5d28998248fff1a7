"""Keys, tenants and limits at the gateway's door."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from pathlib import Path

import openai
import orjson
import pytest
from tests.gateway.site import Clock, Site, SiteFactory

from steppe.gateway.access import AccessSettings
from steppe.gateway.request import SettledRequest
from steppe.tenants.key import make_key
from steppe.tenants.limiter import Taken
from steppe.tenants.store import TenantStore
from steppe.tenants.tenant import NO_LIMITS, KnownTenants, Tenant, TenantLimits

KEY, ADMIN_KEY, STALE_KEY = make_key("a", 0.0), make_key("ops", 0.0), make_key("a", 0.0, 1.0)
ADMIN = Tenant("ops", is_admin=True)
BODY = b'{"model":"m","max_tokens":40,"prompt":[1,2,3,4,5,6,7,8,9,10]}'
JSON = {"Content_Type": "application/json"}


def access(
    limits: TenantLimits = NO_LIMITS, *, open_metrics: bool = False, **tenant: object
) -> AccessSettings:
    known = Tenant("a", limits, **tenant)  # type: ignore[arg-type]
    keys = (KEY.stored, ADMIN_KEY.stored, STALE_KEY.stored)
    return AccessSettings(KnownTenants((known, ADMIN), keys), open_metrics=open_metrics)


async def opened(open_site: SiteFactory, settings: AccessSettings, now_s: Clock) -> Site:
    site = await open_site(access=settings, now_s=now_s)
    await site.awake_replica()
    return site


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}", **JSON}


def code_of(body: bytes) -> str:
    code: str = orjson.loads(body)["error"]["code"]
    return code


async def test_a_key_opens_the_gateway_and_never_reaches_a_replica(open_site: SiteFactory) -> None:
    site = await open_site(access=access())
    replica = await site.awake_replica()
    assert (await site.post(body=BODY, **bearer(KEY.text)))[0] == 200
    more = {"X_Steppe_Admin_Key": KEY.text, "X_Steppe_Run": KEY.text, **JSON}
    assert (await site.post(body=BODY, X_Api_Key=KEY.text, **more))[0] == 200
    for received in replica.received:
        assert KEY.text not in str(received.headers)
    done = site.gateway.drain_finished()
    assert {(each.tenant, each.key_id) for each in done} == {("a", KEY.stored.prefix)}


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, "missing_api_key"),
        ({"Authorization": "Bearer"}, "missing_api_key"),
        ({"Authorization": "Basic YTpi"}, "invalid_api_key"),
        ({"Authorization": "Bearer sk-other"}, "invalid_api_key"),
        ({"Authorization": f"Bearer {make_key('a', 0.0).text}"}, "invalid_api_key"),
        ({"Authorization": f"Bearer {STALE_KEY.text}"}, "invalid_api_key"),
        ({"X_Steppe_Tenant": "a"}, "missing_api_key"),
    ],
)
async def test_without_a_valid_key_there_is_a_401(
    open_site: SiteFactory, headers: dict[str, str], code: str
) -> None:
    site = await open_site(access=access())
    replica = await site.awake_replica()
    for path in ("/v1/chat/completions", "/tokenize", "/v1/nothing"):
        status, answered, body = await site.post(path, BODY, **headers)
        assert (status, code_of(body), answered["WWW-Authenticate"]) == (401, code, "Bearer")
    assert replica.received == []
    assert site.gateway.drain_finished() == []


async def test_no_path_but_health_is_answered_without_a_key(open_site: SiteFactory) -> None:
    site = await open_site(access=access())
    await site.awake_replica()
    for path in ("/", "/v1/models", "/metrics", "/metrics/replicas", "/v1/models/m", "/x"):
        assert (await site.get(path))[0] == 401, path
    for path in ("/health", "/health/live", "/health/ready"):
        assert (await site.get(path))[0] == 200, path


async def test_metrics_need_an_admin_key_unless_they_are_open(open_site: SiteFactory) -> None:
    site = await open_site(access=access())
    for text, expected in ((KEY.text, 403), (ADMIN_KEY.text, 200)):
        headers = {"Authorization": f"Bearer {text}"}
        async with site.client.get(site.url + "/metrics", headers=headers) as answer:
            assert answer.status == expected
    other = await open_site(access=access(open_metrics=True))
    assert (await other.get("/metrics"))[0] == 200
    assert (await other.get("/v1/models"))[0] == 401


async def test_a_model_and_a_class_beyond_the_tenant_are_a_403(open_site: SiteFactory) -> None:
    site = await open_site(access=access(models=("other",), priority="standard"))
    await site.awake_replica()
    status, _, body = await site.post(body=BODY, **bearer(KEY.text))
    assert (status, code_of(body)) == (403, "model_not_allowed")
    other = BODY.replace(b'"m"', b'"other"')
    status, _, body = await site.post(
        body=other, X_Steppe_Priority="interactive", **bearer(KEY.text)
    )
    assert (status, code_of(body)) == (403, "priority_not_allowed")
    assert (await site.post(body=other, **bearer(KEY.text)))[0] == 200


async def test_a_tenant_of_deferrable_work_gets_that_class_without_asking(
    open_site: SiteFactory,
) -> None:
    site = await open_site(access=access(priority="deferrable"))
    await site.awake_replica()
    await site.post(body=BODY, **bearer(KEY.text))
    assert [done.priority for done in site.gateway.drain_finished()] == ["deferrable"]


async def test_a_limit_is_a_429_that_says_when_to_come_back(open_site: SiteFactory) -> None:
    clock = Clock()
    site = await opened(open_site, access(TenantLimits(requests_per_minute=2)), clock)
    site_headers = bearer(KEY.text)
    _, headers, _ = await site.post(body=BODY, **site_headers)
    assert headers["x-ratelimit-limit-requests"] == "2"
    assert headers["x-ratelimit-remaining-requests"] == "1"
    assert headers["x-ratelimit-reset-requests"] in ("1m0s", "1m1s")
    await site.post(body=BODY, **site_headers)
    status, headers, body = await site.post(body=BODY, **site_headers)
    assert (status, code_of(body)) == (429, "rate_limit_exceeded")
    assert orjson.loads(body)["error"]["param"] == "requests_per_minute"
    assert headers["x-ratelimit-remaining-requests"] == "0"
    clock.now_s += int(headers["Retry-After"]) + 0.001
    site.gateway.set_routes(site.routes, None)
    assert (await site.post(body=BODY, **site_headers))[0] == 200


async def test_tokens_are_charged_before_and_settled_after_the_answer(
    open_site: SiteFactory,
) -> None:
    clock = Clock()
    site = await opened(open_site, access(TenantLimits(tokens_per_minute=60)), clock)
    status, headers, _ = await site.post(body=BODY, **bearer(KEY.text))
    assert (status, headers["x-ratelimit-remaining-tokens"]) == (200, "47")
    # The replica reported 11 + 2 tokens, so 47 are left: 10 + 37 fit, 10 + 40 do not.
    status, headers, body = await site.post(body=BODY, **bearer(KEY.text))
    assert (status, headers["x-ratelimit-remaining-tokens"]) == (429, "47")
    assert orjson.loads(body)["error"]["param"] == "tokens_per_minute"
    less = BODY.replace(b"40", b"37")
    assert (await site.post(body=less, **bearer(KEY.text)))[0] == 200
    more = BODY.replace(b"40", b"51")
    status, headers, body = await site.post(body=more, **bearer(KEY.text))
    assert (status, code_of(body)) == (429, "request_too_large")
    assert "Retry-After" not in headers


async def test_a_stream_has_the_headers_of_the_limits_too(
    open_site: SiteFactory, chat_stream: bytes
) -> None:
    site = await open_site(access=access(TenantLimits(tokens_per_minute=1000)))
    replica = await site.awake_replica()
    replica.stream = [chat_stream]
    _, headers, body = await site.post(body=BODY, **bearer(KEY.text))
    assert body == chat_stream
    assert headers["x-ratelimit-limit-tokens"] == "1000"


async def test_open_requests_are_limited(open_site: SiteFactory) -> None:
    site = await open_site(access=access(TenantLimits(concurrency=1)))
    replica = await site.awake_replica(answers=False)
    first = asyncio.create_task(site.post(body=BODY, **bearer(KEY.text)))
    await site.until(lambda: bool(replica.received))
    status, headers, body = await site.post(body=BODY, **bearer(KEY.text))
    assert (status, orjson.loads(body)["error"]["param"]) == (429, "concurrency")
    assert int(headers["Retry-After"]) >= 1
    replica.may_answer.set()
    assert (await first)[0] == 200
    assert (await site.post(body=BODY, **bearer(KEY.text)))[0] == 200


async def test_energy_in_the_books_is_charged_and_limits_the_next_request(
    open_site: SiteFactory,
) -> None:
    site = await open_site(access=access(TenantLimits(joules_per_hour=100.0)))
    await site.awake_replica()
    await site.post(body=BODY, **bearer(KEY.text))
    (done,) = site.gateway.drain_finished()
    site.gateway.settle([SettledRequest(done.id, done.tenant, Taken(11, 2, 100.0))])
    status, headers, body = await site.post(body=BODY, **bearer(KEY.text))
    assert (status, orjson.loads(body)["error"]["param"]) == (429, "joules_per_hour")
    assert 3590 <= int(headers["Retry-After"]) <= 3661
    async with site.client.get(
        site.url + "/metrics", headers={"Authorization": f"Bearer {ADMIN_KEY.text}"}
    ) as answer:
        found = await answer.text()
    for line in (
        'steppe_tenant_energy_joules_total{tenant="a"} 100.0',
        'steppe_tenant_requests_total{finish="length",tenant="a"} 1.0',
        'steppe_tenant_denied_total{code="rate_limit_exceeded",tenant="a"} 1.0',
    ):
        assert line in found


async def test_the_tenant_header_counts_only_from_a_trusted_proxy(open_site: SiteFactory) -> None:
    keys = KnownTenants((Tenant("a"), Tenant("b")), (KEY.stored,))
    for proxies, tenant in ((("127.0.0.0/8",), "b"), (("10.0.0.1",), "a")):
        site = await open_site(access=AccessSettings(keys, trusted_proxies=proxies))
        await site.awake_replica()
        await site.post(body=BODY, X_Steppe_Tenant="b", **bearer(KEY.text))
        assert [done.tenant for done in site.gateway.drain_finished()] == [tenant]


async def test_a_trusted_proxy_names_known_tenants_and_needs_no_key(
    open_site: SiteFactory,
) -> None:
    known = KnownTenants((Tenant("b"),))
    site = await open_site(access=AccessSettings(known, trusted_proxies=("127.0.0.1",)))
    await site.awake_replica()
    assert (await site.post(body=BODY, X_Steppe_Tenant="b", **JSON))[0] == 200
    status, _, body = await site.post(body=BODY, X_Steppe_Tenant="c", **JSON)
    assert (status, code_of(body)) == (403, "unknown_tenant")
    assert (await site.post(body=BODY, **JSON))[0] == 401


async def test_without_keys_the_header_names_the_tenant_as_before(site: Site) -> None:
    await site.awake_replica()
    await site.post(X_Steppe_Tenant="anybody")
    await site.post()
    assert [done.tenant for done in site.gateway.drain_finished()] == ["anybody", "default"]


async def test_a_key_of_the_store_counts_once_it_was_read(
    open_site: SiteFactory, tmp_path: Path
) -> None:
    store = TenantStore(str(tmp_path / "tenants.db"))
    store.add(Tenant("a"))
    site = await open_site(
        access=AccessSettings(store=str(tmp_path / "tenants.db"), refresh_s=0.01)
    )
    await site.awake_replica()
    headers = bearer(KEY.text)
    assert (await site.post(body=BODY, **headers))[0] == 401
    store.add_key(KEY.stored)
    await answered(site, headers, 200)
    store.revoke("a", None, 1.0)
    await answered(site, headers, 401)
    store.close()


async def answered(site: Site, headers: dict[str, str], status: int) -> None:
    async with asyncio.timeout(20):
        while (await site.post(body=BODY, **headers))[0] != status:
            await asyncio.sleep(0.005)


async def test_keys_are_in_no_log_line(
    open_site: SiteFactory, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    site = await open_site(access=access(TenantLimits(requests_per_minute=1)))
    await site.awake_replica()
    for text in (KEY.text, KEY.text, STALE_KEY.text, KEY.text[:-1]):
        _, headers, body = await site.post(body=BODY, **bearer(text))
        assert text not in str(headers) + body.decode()
    assert KEY.text[20:] not in caplog.text
    assert KEY.stored.digest not in repr(access())


async def test_the_openai_client_sees_the_errors_it_knows(open_site: SiteFactory) -> None:
    site = await open_site(access=access(TenantLimits(requests_per_minute=1), models=("m",)))
    await site.awake_replica()

    def client(key: str) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(base_url=site.url + "/v1", api_key=key, max_retries=0)

    messages: list[openai.types.chat.ChatCompletionMessageParam] = [
        {"role": "user", "content": "Hi"}
    ]
    async with client("sk-wrong") as wrong, client(KEY.text) as right:
        with pytest.raises(openai.AuthenticationError):
            await wrong.chat.completions.create(model="m", messages=messages)
        with pytest.raises(openai.PermissionDeniedError):
            await right.chat.completions.create(model="n", messages=messages)
        await right.chat.completions.create(model="m", messages=messages)
        with pytest.raises(openai.RateLimitError):
            await right.chat.completions.create(model="m", messages=messages)


async def test_a_service_of_the_run_reads_the_status_without_a_key_and_no_more(
    open_site: SiteFactory,
) -> None:
    site = await open_site(access=replace(access(), run_secret="5ec7e7"))
    service = {"X-Steppe-Run": "5ec7e7"}

    async def status_of(path: str, **headers: str) -> int:
        async with site.client.get(site.url + path, headers=headers) as answer:
            return answer.status

    assert await status_of("/steppe/v1/status", **service) == 200
    for headers in ({"X-Steppe-Run": "other"}, {}, service | {"Authorization": "Bearer sk-other"}):
        assert await status_of("/steppe/v1/status", **headers) == 401
    for path in ("/metrics", "/steppe/v1/usage", "/v1/models", "/steppe/v1/live"):
        assert await status_of(path, **service) == 401, path
    status, _, body = await site.post(body=BODY, **service, **JSON)
    assert (status, code_of(body)) == (401, "missing_api_key")
