from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.grid.service.conftest import Site, SiteFactory

from steppe.config import CallSection, GridSection, OffersSection
from steppe.grid.offers.history import Moment
from steppe.grid.offers.sources import Source
from steppe.grid.service.offers.kept_history import KeptHistory
from steppe.grid.service.offers.offering import Offering
from steppe.grid.service.settings import GridSettings

DAY_S, STEP_S, HOUR_S = 86_400.0, 600.0, 3600.0
SECTION = GridSection(
    offers=OffersSection(calls=(CallSection(hold_s=1800.0),), windows=3, sample_s=300.0)
)
SOURCES = (
    Source("work that can wait", 300.0, 1.0, 300.0, 0.0, rebound_share=1.0, recovery_s=600.0),
    Source("stopped streams", 200.0, 1.0, 200.0, 2.0 / 3.6e9),
)


def note_history(folder: Path, now_s: float, hours: int) -> None:
    """Write a history of a fleet that could always give the same."""
    history = KeptHistory(folder, 28 * DAY_S)
    for number in range(hours * 6):
        history.add(Moment(now_s - hours * HOUR_S + number * STEP_S, SOURCES))


async def seen(site: Site) -> None:
    """Show the site to the service, and wait for the offers that follow."""
    await site.look()
    assert site.service._hosted is not None
    for part in site.service._hosted.parts:
        if isinstance(part, Offering) and part._task is not None:
            await part._task


async def flexibility(site: Site) -> Any:
    status, found = await site.ask("GET", "/steppe/v1/flexibility")
    assert status == 200
    return found


@pytest.fixture
async def site(open_site: SiteFactory, tmp_path: Path) -> Site:
    import time

    note_history(tmp_path / "grid", time.time(), 48)
    found = await open_site(SECTION)
    found.fleet.sources = SOURCES
    await seen(found)
    return found


def sale(site: Site, watts: int, id_: str = "c1", **more: Any) -> dict[str, Any]:
    starts_s = int(site.now_s()) + 7200
    return {
        "id": id_,
        "programme": "reserve",
        "from": starts_s,
        "until": starts_s + 3600,
        "down_w": watts,
        **more,
    }


async def test_offers_say_watts_notice_ramp_length_cost_and_how_sure(site: Site) -> None:
    found = await flexibility(site)
    assert [each["name"] for each in found["sources"]] == [one.name for one in SOURCES]
    assert len(found["offers"]) == 3
    first = found["offers"][0]
    assert first["from"] >= site.now_s()
    assert first["until"] - first["from"] == HOUR_S
    assert first["call"] == {"notice_s": 60.0, "hold_s": 1800.0, "confidence": 0.9}
    down = first["down"]
    assert [step["watts"] for step in down["steps"]] == [300, 200]
    assert [step["price_per_mwh"] for step in down["steps"]] == pytest.approx([0.0, 2.0])
    assert (down["watts"], down["free_w"], down["recovery_s"]) == (500, 500, 600.0)
    assert down["ramp_w_per_s"] == pytest.approx(500.0)
    assert down["sure_w"]["0.9"] == 500
    assert down["rebound"]["energy_j"] == pytest.approx(0.6 * 500 * 1800)
    assert first["up"]["watts"] == 0
    assert first["up"]["reason"] == "not in 90% of the futures; now it is 0 W"


async def test_without_history_nothing_is_offered_and_the_reason_is_there(
    open_site: SiteFactory,
) -> None:
    site = await open_site(SECTION)
    site.fleet.sources = SOURCES
    await seen(site)
    for offer in (await flexibility(site))["offers"]:
        assert offer["down"]["watts"] == 0
        assert offer["down"]["reason"].startswith("too little history: asked for 9 earlier times")
    status, found = await site.ask("POST", "/steppe/v1/grid/commitments", sale(site, 1))
    assert status == 409
    assert "asked for 1 W, found none offered: too little history" in found["error"]["message"]


async def test_a_watt_is_sold_once(site: Site) -> None:
    status, found = await site.ask("POST", "/steppe/v1/grid/commitments", sale(site, 400))
    assert (status, found["down_w"], found["recovery_s"]) == (201, 400, 600)
    status, found = await site.ask("POST", "/steppe/v1/grid/commitments", sale(site, 200, "c2"))
    assert status == 409
    assert "asked for 200 W down for reserve, found 100 W free" in found["error"]["message"]
    assert (await site.ask("POST", "/steppe/v1/grid/commitments", sale(site, 100, "c2")))[0] == 201
    _, found = await site.ask("GET", "/steppe/v1/grid/commitments")
    assert [(one["id"], one["down_w"]) for one in found["data"]] == [("c1", 400), ("c2", 100)]
    free = [offer["down"]["free_w"] for offer in (await flexibility(site))["offers"]]
    assert min(free) == 0


async def test_the_same_commitment_again_is_the_one_that_was_made(site: Site) -> None:
    asked = sale(site, 400)
    assert (await site.ask("POST", "/steppe/v1/grid/commitments", asked))[0] == 201
    site.now_s.now_s += 3 * HOUR_S  # it has begun
    assert (await site.ask("POST", "/steppe/v1/grid/commitments", asked))[0] == 200
    other = asked | {"down_w": 300}
    status, _ = await site.ask("POST", "/steppe/v1/grid/commitments", other)
    assert status == 409


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"down_w": 0}, "asked for down_w or up_w above 0"),
        ({"until": 1.0}, "asked for until after from"),
        ({"down_w": -5}, "down_w"),
        ({"id": "a b"}, "id"),
        ({"watts": 5}, "watts"),
    ],
)
async def test_a_wrong_commitment_is_refused_by_name(
    site: Site, change: dict[str, Any], says: str
) -> None:
    status, found = await site.ask("POST", "/steppe/v1/grid/commitments", sale(site, 5) | change)
    assert status == 400
    assert says in found["error"]["message"]


async def test_a_time_that_is_over_is_not_sold(site: Site) -> None:
    over = int(site.now_s()) - 7200
    status, found = await site.ask(
        "POST", "/steppe/v1/grid/commitments", sale(site, 5) | {"from": over, "until": over + 60}
    )
    assert status == 409
    assert "asked for a time from" in found["error"]["message"]


async def test_commitments_and_history_outlive_the_service(
    site: Site, open_site: SiteFactory, tmp_path: Path
) -> None:
    assert (await site.ask("POST", "/steppe/v1/grid/commitments", sale(site, 400)))[0] == 201
    await site.service.stop()
    again = await open_site(SECTION)
    again.fleet.sources = SOURCES
    await seen(again)
    assert (await flexibility(again))["offers"][2]["down"]["watts"] == 500
    status, _ = await again.ask("POST", "/steppe/v1/grid/commitments", sale(site, 200, "c2"))
    assert status == 409


async def test_a_run_with_a_ledger_keeps_commitments_in_it(tmp_path: Path) -> None:
    settings = GridSettings(SECTION, tmp_path, "1-a", 0.0, ledger_store="ledger.db")
    assert "ledger.db" not in repr(settings)


async def test_the_history_is_noted_at_its_times_and_not_while_an_event_holds(
    open_site: SiteFactory,
) -> None:
    site = await open_site(SECTION)
    site.fleet.sources = SOURCES
    for _ in range(4):
        await seen(site)
        site.now_s.now_s += 150.0
    parts = (await site.grid())["parts"]
    assert parts["offers"]["entries"] == 2
    body = {"hold_s": 3600, "share": 0.5}
    assert (await site.ask("PUT", "/steppe/v1/grid/events/e1", body))[0] == 200
    for _ in range(4):
        await seen(site)
        site.now_s.now_s += 150.0
    assert (await site.grid())["parts"]["offers"]["entries"] == 2
