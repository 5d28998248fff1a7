from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from tests.gateway.ledger.fake_ledger import TERMS, FakeLedger
from tests.gateway.sites.other_site import Sites, SitesMaker
from tests.gateway.sites.test_hops import HOP, SECRET, access_of
from tests.gateway.test_continuing import CHAT, JSON, body_of
from tests.gateway.token_replica import TOKENS, token_replica

from steppe.fleet.driver.accounts import Accounts
from steppe.gateway.driver_news import DriverNews
from steppe.gateway.ledger.link import LedgerLink
from steppe.ledger.receipts_of import Place, receipts_of
from steppe.tenants.tenant import Tenant


@pytest.fixture
async def ledger() -> AsyncIterator[FakeLedger]:
    made = FakeLedger()
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def paid(make_sites: SitesMaker, ledger: FakeLedger) -> Sites:
    """A home whose requests have a price."""
    access = replace(access_of(Tenant("a")), trusted_proxies=("127.0.0.1",))
    sites = await make_sites(
        "shanghai", access=access, run_secret=SECRET, ledger=LedgerLink(answer_s=20.0)
    )
    sites.home.gateway.tell(DriverNews(services={"ledger": ledger.url}))
    return sites


async def test_a_request_that_another_site_serves_is_held_and_has_its_price_but_no_energy(
    paid: Sites, ledger: FakeLedger
) -> None:
    paid.router.plan = ["shanghai"]
    assert (await paid.home.post(CHAT, body_of(CHAT), **JSON, x_steppe_tenant="a"))[0] == 200
    (ended,) = paid.home.gateway.drain_finished()
    assert (ended.terms, ended.site) == (TERMS, "shanghai")
    assert [each["request"] for each in ledger.asked] == [ended.engine_id]
    assert not ledger.returned
    accounts = Accounts("counter", 0.0, models={})
    accounts.finish([ended])
    accounts.close_tick(1.0)
    (receipt,) = receipts_of(accounts.take_booked(), Place("hohhot", "gpu", 1, 1), {})
    assert (receipt.energy_uj, receipt.prompt_tokens, receipt.output_tokens) == (0, 3, len(TOKENS))
    assert (receipt.site, receipt.tenant, receipt.id) == ("hohhot", "a", ended.engine_id)


async def test_the_hold_of_a_request_that_no_site_takes_is_given_back(
    make_sites: SitesMaker, ledger: FakeLedger
) -> None:
    access = replace(access_of(Tenant("a", regions=("eu",))), trusted_proxies=("127.0.0.1",))
    sites = await make_sites(
        "shanghai", access=access, run_secret=SECRET, ledger=LedgerLink(answer_s=20.0)
    )
    sites.home.gateway.tell(DriverNews(services={"ledger": ledger.url}))
    status, _, _ = await sites.home.post(CHAT, body_of(CHAT), **JSON, x_steppe_tenant="a")
    assert status == 503
    await sites.home.until(lambda: not ledger.held)


async def test_calls_of_other_sites_have_no_price(paid: Sites, ledger: FakeLedger) -> None:
    paid.home.route(await token_replica(paid.home, "r0"))
    assert (await paid.home.post(CHAT, body_of(CHAT), **JSON, **HOP))[0] == 200
    (ended,) = paid.home.gateway.drain_finished()
    assert (ended.terms, ended.tenant) == ("", "site:shanghai")
    assert not ledger.asked
