"""Gateways and the ledger service itself: no more is served than an account pays for."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import orjson
import pytest
from tests.gateway.site import Site, SiteFactory
from tests.ledger.service.running import NOON_US, TARIFF, Clock, Running, booked, booking

from steppe.config import LedgerSection
from steppe.engine.run_secret import secret_headers
from steppe.gateway.driver_news import DriverNews
from steppe.gateway.ledger.link import LedgerLink
from steppe.gateway.request import FinishedRequest
from steppe.ledger.booking import BookedRequest
from steppe.ledger.entries import deposited
from steppe.ledger.log.checkpoint import Proof
from steppe.ledger.receipt import Receipt
from steppe.ledger.service.service import LedgerService
from steppe.ledger.service.settings import LedgerSettings
from steppe.ledger.signing import PublicKey

SECRET = "of-this-run"
TEXT, JSON = "/v1/completions", {"Content_Type": "application/json"}
BODY = b'{"model":"m","max_tokens":2,"prompt":[1,2,3]}'
HELD = 3 * 100 + 2 * 400
CREDIT, ASKED = 25, 100


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Running]:
    tariff = tmp_path / "tariff.yaml"
    tariff.write_text(TARIFF)
    values = {"site": "hohhot", "tariffs": [tariff], "accounts": "required"}
    section = LedgerSection.model_validate(values)
    settings = LedgerSettings(section, tmp_path / "ledger", secret_headers(SECRET))
    clock = Clock()
    async with aiohttp.ClientSession() as client:
        made = LedgerService(settings, clock.epoch_ns)
        running = Running(made, client, settings.folder, clock, await made.start())
        running.headers |= dict(secret_headers(SECRET))
        yield running
        await running.stop()


async def gateway(open_site: SiteFactory, service: Running) -> Site:
    site = await open_site(ledger=LedgerLink(answer_s=60.0), run_secret=SECRET, max_waiting=ASKED)
    site.gateway.tell(DriverNews(services={"ledger": service.url}))
    return site


def give(service: Running, amount: int) -> None:
    store = service.store
    store.move([deposited("d", "lab", "CNY", amount)], NOON_US)
    store.close()


async def ask(site: Site) -> int:
    return (await site.post(TEXT, BODY, X_Steppe_Tenant="lab", **JSON))[0]


async def test_two_gateways_serve_exactly_what_one_account_pays_for(
    open_site: SiteFactory, service: Running
) -> None:
    give(service, CREDIT * HELD + HELD - 1)
    first, second = [await gateway(open_site, service) for _ in range(2)]
    replica = await first.replica("r0")
    for site in (first, second):
        site.route(replica, limit=ASKED)
    sent = (ask((first, second)[number % 2]) for number in range(ASKED))
    statuses = Counter(await asyncio.gather(*sent))
    assert statuses == {200: CREDIT, 402: ASKED - CREDIT}
    ended = [*first.gateway.drain_finished(), *second.gateway.drain_finished()]
    assert Counter(each.terms for each in ended) == {"flat-1/0": CREDIT, "": ASKED - CREDIT}
    (balance,) = (await service.get("/steppe/v1/balance"))["data"]
    assert (balance["available"], balance["held"]) == (HELD - 1, CREDIT * HELD)


async def test_a_tenant_without_an_account_gets_a_402(
    open_site: SiteFactory, service: Running
) -> None:
    site = await gateway(open_site, service)
    await site.awake_replica()
    status, _, body = await site.post(TEXT, BODY, X_Steppe_Tenant="stranger", **JSON)
    assert (status, orjson.loads(body)["error"]["code"]) == (402, "no_account")


async def test_a_request_that_is_not_served_leaves_nothing_held(
    open_site: SiteFactory, service: Running
) -> None:
    give(service, 10 * HELD)
    site = await gateway(open_site, service)
    replica = await site.awake_replica()
    replica.status, replica.body = 400, b"{}"
    assert await ask(site) == 400
    async with asyncio.timeout(20):
        while (await service.get("/steppe/v1/balance"))["data"][0]["held"]:
            await asyncio.sleep(0.01)


async def test_a_tenant_finds_the_receipt_of_its_request_and_its_proof(
    open_site: SiteFactory, service: Running
) -> None:
    give(service, 10 * HELD)
    site = await gateway(open_site, service)
    await site.awake_replica()
    named = {"X_Steppe_Tenant": "lab", "X_Request_Id": "mine"}
    assert (await site.post(TEXT, BODY, **named, **JSON))[0] == 200
    assert (await show(site, "receipts/mine"))[0] == 202
    (done,) = site.gateway.drain_finished()
    await service.service.take(booking(1, as_booked(done), metered_uj=1_000))
    status, entry = await show(site, "receipts/mine")
    receipt = Receipt.read(entry)
    assert (status, receipt.id, receipt.tariff) == (200, done.engine_id, "flat-1/0")
    assert await show(site, f"receipts/{done.engine_id}") == (200, entry)
    key = PublicKey.read((await show(site, "log/key"))[1].decode())
    proof = await published(site, "receipts/mine/proof")
    Proof.read(proof.decode()).check(entry, "hohhot", [key])
    listed = orjson.loads((await show(site, "receipts"))[1])
    assert [each["receipt"]["request"] for each in listed["data"]] == ["mine"]
    assert (await show(site, "log/tile/0/000.p/2"))[0] == 200


async def test_a_quote_pays_for_what_it_has_tokens_for(
    open_site: SiteFactory, service: Running
) -> None:
    give(service, 10 * HELD)
    site = await gateway(open_site, service)
    await site.awake_replica()
    offer = orjson.dumps({"model": "m", "tokens": 2 * (3 + 2) + 1})
    status, _, body = await site.post("/steppe/v1/quote", offer, X_Steppe_Tenant="lab", **JSON)
    quote = orjson.loads(body)
    assert (status, quote["tariff"]) == (200, "flat-1/0")
    for expected in (200, 200, 400):
        headers = {"X_Steppe_Tenant": "lab", "X_Steppe_Quote": quote["id"]}
        status, _, body = await site.post(TEXT, BODY, **headers, **JSON)
        assert status == expected
    error = orjson.loads(body)["error"]
    assert (error["code"], error["message"].partition(": ")[2]) == (
        "invalid_quote",
        "asked for 5 tokens, found 1 of 11 left",
    )


async def test_no_metric_is_in_the_answer_twice(open_site: SiteFactory, service: Running) -> None:
    site = await gateway(open_site, service)
    status, _, text = await site.get("/metrics")
    names = [line.split()[2] for line in text.decode().splitlines() if line.startswith("# TYPE")]
    assert status == 200
    assert {"steppe_ledger_entries", "steppe_gateway_ledger_seconds"} <= set(names)
    assert len(names) == len(set(names))


async def show(site: Site, path: str) -> tuple[int, bytes]:
    headers = {"x-steppe-tenant": "lab"}
    async with site.client.get(f"{site.url}/steppe/v1/{path}", headers=headers) as answer:
        return answer.status, await answer.read()


async def published(site: Site, path: str) -> bytes:
    async with asyncio.timeout(30):
        while (found := await show(site, path))[0] == 202:
            await asyncio.sleep(0.02)
    assert found[0] == 200
    return found[1]


def as_booked(done: FinishedRequest) -> BookedRequest:
    return booked(
        done.engine_id,
        request=done.id,
        tenant=done.tenant,
        prompt_tokens=done.prompt_tokens,
        output_tokens=done.output_tokens,
        terms=done.terms,
    )
