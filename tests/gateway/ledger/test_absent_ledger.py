"""A ledger that is dead, hangs, or comes back; and a gateway that stops while it is asked."""

from __future__ import annotations

import asyncio
import json

import pytest
from tests.gateway.ledger.fake_ledger import TERMS, FakeLedger
from tests.gateway.site import Site, SiteFactory

from steppe.gateway.driver_news import DriverNews
from steppe.gateway.ledger import calls
from steppe.gateway.ledger.link import LedgerLink

TEXT, JSON = "/v1/completions", {"Content_Type": "application/json"}
BODY = b'{"model":"m","max_tokens":40,"prompt":[1,2,3]}'
SOON_S = 2.0


@pytest.fixture
async def hasty(open_site: SiteFactory) -> Site:
    """A gateway that waits for its ledger a short time only."""
    site = await open_site(ledger=LedgerLink(answer_s=SOON_S))
    await site.awake_replica()
    return site


def listen(site: Site, url: str) -> None:
    site.gateway.tell(DriverNews(services={"ledger": url}))


async def refused(site: Site) -> str:
    """Return the message to a request that gets a 503 for want of a ledger."""
    status, headers, body = await site.post(TEXT, BODY, **JSON)
    error = json.loads(body)["error"]
    assert (status, error["code"]) == (503, "ledger_unavailable")
    assert int(headers["Retry-After"]) >= 1
    message: str = error["message"]
    return message


async def test_without_a_ledger_a_request_gets_a_503_and_reaches_no_replica(hasty: Site) -> None:
    assert "it is starting" in await refused(hasty)
    (done,) = hasty.gateway.drain_finished()
    assert (done.finish, done.status, done.replica, done.terms) == ("rejected", 503, None, "")
    metrics = (await hasty.get("/metrics"))[2].decode()
    assert 'steppe_rejections_total{reason="ledger_unavailable"} 1.0' in metrics
    assert 'steppe_gateway_ledger_answers_total{answer="ledger_unavailable"} 1.0' in metrics


async def test_a_dead_ledger_is_named_and_logged_once(
    hasty: Site, ledger: FakeLedger, caplog: pytest.LogCaptureFixture
) -> None:
    listen(hasty, ledger.url)
    await ledger.stop()
    for message in await asyncio.gather(refused(hasty), refused(hasty)):
        assert "Connection refused" in message
    assert caplog.text.count("Connection refused") == 1


async def test_a_hung_ledger_is_a_503_after_the_time_limit(hasty: Site, ledger: FakeLedger) -> None:
    listen(hasty, ledger.url)
    ledger.may_answer.clear()
    assert f"did not answer within {SOON_S:g} s" in await refused(hasty)
    assert len({each["request"] for each in ledger.asked}) == 1
    ledger.may_answer.set()
    await hasty.until(lambda: bool(ledger.returned))
    assert set(ledger.returned) == {ledger.asked[0]["request"]}
    assert not ledger.held


async def test_a_ledger_that_takes_a_late_request_after_its_return_gets_it_again(
    hasty: Site, ledger: FakeLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "REPEAT_S", 0.1)
    listen(hasty, ledger.url)
    ledger.may_answer.clear()
    await refused(hasty)
    ledger.may_answer.set()
    late = ledger.asked[0]["request"]
    await hasty.until(lambda: late in ledger.returned)
    ledger.free, ledger.held = ledger.free - 1, {late}
    await hasty.until(lambda: not ledger.held)


@pytest.mark.parametrize("status", [500, 503])
async def test_a_ledger_with_an_error_is_asked_again_until_the_time_is_over(
    open_site: SiteFactory, ledger: FakeLedger, status: int
) -> None:
    site = await open_site(ledger=LedgerLink(answer_s=20.0))
    await site.awake_replica()
    listen(site, ledger.url)
    ledger.status = status
    sent = asyncio.create_task(site.post(TEXT, BODY, **JSON))
    await site.until(lambda: len(ledger.calls) >= 2)
    ledger.status = 200
    assert (await sent)[0] == 200
    assert len(ledger.held) == 1  # it was asked for several times


async def test_a_ledger_that_refuses_the_call_is_a_503_at_once(
    open_site: SiteFactory, ledger: FakeLedger
) -> None:
    site = await open_site(ledger=LedgerLink(answer_s=1000.0))
    await site.awake_replica()
    listen(site, ledger.url)
    ledger.status = 401
    assert "status 401" in await refused(site)


async def test_a_ledger_that_comes_back_within_the_time_is_enough(
    open_site: SiteFactory, ledger: FakeLedger
) -> None:
    site = await open_site(ledger=LedgerLink(answer_s=20.0))
    await site.awake_replica()
    listen(site, ledger.url)
    port = int(ledger.url.rpartition(":")[2])
    await ledger.stop()
    sent = asyncio.create_task(site.post(TEXT, BODY, **JSON))
    await site.until(lambda: not site.gateway._started.tracker.is_idle)
    await ledger.start(port)
    assert (await sent)[0] == 200
    (done,) = site.gateway.drain_finished()
    assert done.terms == TERMS


async def test_a_ledger_that_moves_is_asked_at_its_new_place(
    open_site: SiteFactory, ledger: FakeLedger
) -> None:
    site = await open_site(ledger=LedgerLink(answer_s=20.0))
    await site.awake_replica()
    sent = asyncio.create_task(site.post(TEXT, BODY, **JSON))
    await site.until(lambda: not site.gateway._started.tracker.is_idle)
    listen(site, ledger.url)
    assert (await sent)[0] == 200


async def test_a_gateway_that_stops_lets_nobody_wait_for_the_ledger(
    paid: Site, ledger: FakeLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "_STOP_S", 30.0)
    await paid.awake_replica()
    ledger.may_answer.clear()
    sent = asyncio.create_task(paid.post(TEXT, BODY, **JSON))
    await paid.until(lambda: len(ledger.calls) == 1)
    stopping = asyncio.create_task(paid.gateway.stop())
    status, _, body = await sent
    assert (status, json.loads(body)["error"]["code"]) == (503, "stopping")
    ledger.may_answer.set()
    await stopping
    assert ledger.returned == [ledger.asked[0]["request"]]
    assert not ledger.held


async def test_a_gateway_stops_though_its_ledger_hangs(paid: Site, ledger: FakeLedger) -> None:
    await paid.awake_replica()
    ledger.may_answer.clear()
    sent = asyncio.create_task(paid.post(TEXT, BODY, **JSON))
    await paid.until(lambda: len(ledger.calls) == 1)
    async with asyncio.timeout(15):
        await paid.gateway.stop()
    assert (await sent)[0] == 503
    ledger.may_answer.set()
