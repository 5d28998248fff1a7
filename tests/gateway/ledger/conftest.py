from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from tests.gateway.ledger.fake_ledger import FakeLedger
from tests.gateway.site import Site, SiteFactory

from steppe.gateway.driver_news import DriverNews
from steppe.gateway.ledger.link import LedgerLink


@pytest.fixture
async def ledger() -> AsyncIterator[FakeLedger]:
    made = FakeLedger()
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def paid(open_site: SiteFactory, ledger: FakeLedger) -> Site:
    """A gateway whose requests have a price."""
    site = await open_site(ledger=LedgerLink(answer_s=20.0), stop_timeout_s=0.0)
    site.gateway.tell(DriverNews(services={"ledger": ledger.url}))
    return site
