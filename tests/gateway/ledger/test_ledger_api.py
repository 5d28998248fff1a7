"""The ledger's door: which calls reach the ledger of a run, in whose name, and what it answers."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest
from tests.gateway.ledger.fake_ledger import FakeLedger
from tests.gateway.raw import WITHIN_S, Raw
from tests.gateway.site import CHAT_BODY, Site, SiteFactory

from steppe.gateway.access import AccessSettings
from steppe.gateway.driver_news import DriverNews
from steppe.gateway.ledger.ledger_api import is_public
from steppe.gateway.ledger.link import LedgerLink
from steppe.tenants.key import make_key
from steppe.tenants.tenant import KnownTenants, Tenant, TenantLimits

KEY, OTHER, ADMIN = make_key("lab", 0.0), make_key("school", 0.0), make_key("ops", 0.0)
BODY, JSON = b'{"model":"m","prompt":[1]}', {"Content_Type": "application/json"}


@pytest.fixture
async def locked(open_site: SiteFactory, ledger: FakeLedger) -> Site:
    """A gateway with keys whose ledger is not asked about requests."""
    lab = Tenant("lab", TenantLimits(requests_per_minute=3))
    tenants = (lab, Tenant("school"), Tenant("ops", is_admin=True))
    access = AccessSettings(KnownTenants(tenants, (KEY.stored, OTHER.stored, ADMIN.stored)))
    site = await open_site(access=access, ledger=LedgerLink(asks=False))
    site.gateway.tell(DriverNews(services={"ledger": ledger.url}))
    return site


async def get(site: Site, path: str, key: str = KEY.text) -> tuple[int, Any]:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with site.client.get(site.url + path, headers=headers) as answer:
        return answer.status, orjson.loads(await answer.read())


def code_of(body: Any) -> Any:
    return body["error"]["code"]


async def test_without_the_section_a_call_gets_a_404_that_names_it(site: Site) -> None:
    for path in ("/steppe/v1/receipts", "/steppe/v1/balance", "/steppe/v1/log/checkpoint"):
        status, body = await get(site, path)
        assert (status, code_of(body)) == (404, "ledger_not_configured")
        assert "found no section ledger" in body["error"]["message"]


async def test_a_ledger_that_starts_is_a_503(open_site: SiteFactory) -> None:
    site = await open_site(ledger=LedgerLink(answer_s=20.0))
    status, headers, body = await site.get("/steppe/v1/balance")
    assert (status, code_of(orjson.loads(body))) == (503, "ledger_unavailable")
    assert headers["Retry-After"] == "1"


@pytest.mark.parametrize(
    "path",
    [
        "receipts",
        "receipts?since=0&limit=2",
        "receipts/req-1",
        "receipts/req-1/proof",
        "balance",
        "tariffs",
        "tariffs/flat-1",
        "tariffs/flat-1/proof",
    ],
)
async def test_a_tenant_reads_in_its_own_name(locked: Site, path: str) -> None:
    status, body = await get(locked, f"/steppe/v1/{path}")
    assert (status, body) == (200, {"tenant": "lab", "path": f"/steppe/v1/{path}"})
    assert (await get(locked, f"/steppe/v1/{path}", key=""))[0] == 401


async def test_a_client_cannot_choose_another_tenant(locked: Site) -> None:
    headers = {"Authorization": f"Bearer {KEY.text}", "x-steppe-tenant": "school"}
    async with locked.client.get(locked.url + "/steppe/v1/balance", headers=headers) as answer:
        assert (await answer.json())["tenant"] == "lab"


async def test_quotes_are_charged_to_the_tenant_and_reading_is_not(locked: Site) -> None:
    headers = {"Authorization": f"Bearer {KEY.text}"}
    statuses = [(await locked.post("/steppe/v1/quote", b"{}", **headers))[0] for _ in range(4)]
    assert statuses == [200, 200, 200, 429]
    assert (await get(locked, "/steppe/v1/balance"))[0] == 200


async def test_the_head_and_the_hashes_of_the_log_need_no_key(locked: Site) -> None:
    for part in ("checkpoint", "key", "tile/0/000", "tile/1/x001/234.p/9"):
        assert (await get(locked, f"/steppe/v1/log/{part}", key=""))[0] == 200


async def test_the_entries_of_the_log_need_an_admin_key(locked: Site) -> None:
    path = "/steppe/v1/log/tile/entries/x001/234.p/9"
    for key, expected in (("", 401), (KEY.text, 403), (ADMIN.text, 200)):
        assert (await get(locked, path, key=key))[0] == expected


@pytest.mark.parametrize("path", ["lo%67/tile/entries/000", "%6Cog/checkpoint"])
async def test_a_path_with_an_escaped_letter_is_no_other_way_to_the_log(
    locked: Site, path: str
) -> None:
    async with Raw(locked) as client:
        head = f"GET /steppe/v1/{path} HTTP/1.1\r\nHost: here\r\nX-Api-Key: {KEY.text}\r\n\r\n"
        client.send(head.encode())
        assert client.reader is not None
        async with asyncio.timeout(WITHIN_S):
            assert b" 404 " in await client.reader.readuntil(b"\r\n")


async def test_without_keys_anyone_may_read_the_entries(
    open_site: SiteFactory, ledger: FakeLedger
) -> None:
    site = await open_site(ledger=LedgerLink(answer_s=20.0))
    site.gateway.tell(DriverNews(services={"ledger": ledger.url}))
    assert (await get(site, "/steppe/v1/log/tile/entries/000", key=""))[0] == 200


@pytest.mark.parametrize(
    "part",
    [
        "tile/0/../../../receipts/x",
        "tile/0/%2e%2e/000",
        "tile/entries/..%2f000",
        "key/more",
        "tile/0/000?x=1",
        "tile/0/000.p/1234",
        "receipts",
        "",
    ],
)
async def test_no_other_path_passes_for_a_part_of_the_log(
    locked: Site, ledger: FakeLedger, part: str
) -> None:
    assert not is_public(f"/steppe/v1/log/{part}")
    async with Raw(locked) as client:
        head = (
            f"GET /steppe/v1/log/{part} HTTP/1.1\r\nHost: here\r\nX-Api-Key: {ADMIN.text}\r\n\r\n"
        )
        client.send(head.encode())
        assert client.reader is not None
        async with asyncio.timeout(WITHIN_S):
            assert b" 404 " in await client.reader.readuntil(b"\r\n")


async def test_the_receipt_of_a_request_that_is_open_or_settles_is_a_202(
    locked: Site, ledger: FakeLedger
) -> None:
    replica = await locked.awake_replica(answers=False)
    named = {"X_Request_Id": "unknown", "Authorization": f"Bearer {KEY.text}", **JSON}
    path = "/steppe/v1/receipts/unknown"
    assert (await get(locked, path))[0] == 404
    sent = asyncio.create_task(locked.post(body=BODY, **named))
    await locked.until(lambda: len(replica.received) == 1)
    expected = {"object": "steppe.receipt", "request": "unknown", "state": "open"}
    assert await get(locked, path) == (202, expected)
    replica.may_answer.set()
    assert (await sent)[2] == CHAT_BODY
    assert await get(locked, path) == (202, expected | {"state": "settling"})
    assert (await get(locked, path, OTHER.text))[0] == 404


async def test_a_request_that_was_refused_has_no_receipt(locked: Site) -> None:
    replica = await locked.awake_replica()
    replica.status = 400
    named = {"X_Request_Id": "unknown", "Authorization": f"Bearer {KEY.text}", **JSON}
    assert (await locked.post(body=BODY, **named))[0] == 400
    assert (await get(locked, "/steppe/v1/receipts/unknown"))[0] == 404
