"""A service matches the hours that it closes, with the terms of its configuration."""

from __future__ import annotations

import asyncio

from tests.ledger.service.running import HOUR, Running, ServiceFactory, booked, booking

from steppe.ledger.entries import available
from steppe.ledger.green.match import Match
from steppe.ledger.green.supply import UJ_PER_WH
from steppe.ledger.periods.closing import HOUR_US


async def matches_of(service: Running) -> list[Match]:
    """Return the matches of the log as soon as there is one."""
    store = service.store
    try:
        async with asyncio.timeout(30):
            while not (found := await asyncio.to_thread(store.of_kind, "match")):
                await asyncio.sleep(0.02)
    finally:
        store.close()
    return [Match.read(entry) for entry in found]


async def test_an_hour_is_matched_when_it_closes_and_its_tenant_gets_its_share(
    open_service: ServiceFactory,
) -> None:
    first = await open_service(green={"zone": "mengxi", "grid_mix": {"coal": 3, "hydro": 1}})
    taken = booking(
        1,
        booked("r1", 3 * UJ_PER_WH),
        metered_uj=4 * UJ_PER_WH,
        idle_uj=UJ_PER_WH,
        supply_uj={"wind": 2 * UJ_PER_WH, "grid": 4 * UJ_PER_WH},
        site_uj=6 * UJ_PER_WH,
        is_last=True,
    )
    assert await first.service.take(taken) == 1
    await first.stop()
    first.clock.now_us += 2 * HOUR_US
    second = await open_service(green={"zone": "mengxi", "grid_mix": {"coal": 3, "hydro": 1}})
    (match,) = await matches_of(second)
    assert (match.hour, match.zone, match.load_wh, match.green_wh) == (HOUR, "mengxi", 6, 2)
    assert match.source_wh == {"wind": 2, "grid/coal": 3, "grid/hydro": 1}
    assert (match.receipts_uj, match.sold_uj) == (4 * UJ_PER_WH, 4 * UJ_PER_WH // 3)
    store = second.store
    units = {each.unit: each.balance for each in store.balances(available("lab"))}
    store.close()
    assert units[f"green:hohhot:{HOUR}"] == match.sold_uj
    assert (await second.get("/steppe/v1/balance"))["data"] == [], "nothing that one can pay with"


async def test_without_figures_of_the_supply_nothing_is_green(open_service: ServiceFactory) -> None:
    first = await open_service()
    request = booked("r1", 3 * UJ_PER_WH)
    await first.service.take(booking(1, request, metered_uj=3 * UJ_PER_WH, is_last=True))
    await first.stop()
    first.clock.now_us += 2 * HOUR_US
    (match,) = await matches_of(await open_service())
    assert (match.zone, match.load_wh, match.green_wh, match.source_wh) == ("hohhot", 3, 0, {})
