from __future__ import annotations

from pathlib import Path

from steppe.config import CallSection, OffersSection
from steppe.grid.offers.history import Moment
from steppe.grid.offers.sources import Source
from steppe.grid.renderings.openadr import available
from steppe.grid.service.offers.kept_history import KeptHistory
from steppe.grid.service.offers.offering import Offering
from steppe.grid.service.offers.reported import ReportedOffers
from steppe.grid.service.seam import GridView

HOUR_S = 3600.0
NOW_S = 10 * 24 * HOUR_S + 900.0
SOURCES = (
    Source("work that can wait", 300.0, 0.0, 300.0, 0.0),
    Source("streams", 200.0, 0.0, 200.0, 0.0, energy_j=200.0 * 900.0),
)
"""In a call of an hour, the streams give a quarter."""
SITE = GridView(
    at_s=NOW_S,
    in_force=None,
    budget_w=2e3,
    budget_source="supply",
    draw_w=1200.0,
    energy_source="counter",
    sources=SOURCES,
)


async def test_hours_beyond_the_next_one_have_what_is_offered_for_the_longest_calls(
    tmp_path: Path,
) -> None:
    history = KeptHistory(tmp_path, 1e9)
    for number in range(288, 0, -1):
        history.add(Moment(NOW_S - 600.0 * number, SOURCES))
    calls = (CallSection(hold_s=900.0), CallSection(hold_s=HOUR_S))
    offering = Offering("site", OffersSection(calls=calls, windows=2), tmp_path)
    await offering.start()
    await offering.see(SITE)
    await offering.stop()
    assert {each.offer.down.watts for each in offering.offers} == {350, 500}
    offers = ReportedOffers(offering)(SITE)
    spans = available(offers, "LOAD_SHED_DELTA_AVAILABLE", NOW_S, 4, HOUR_S)
    assert [each.value for each in spans] == [350.0, 350.0, 0.0, 0.0]
