"""Drills: events that a site gives itself."""

from __future__ import annotations

from pathlib import Path

from tests.fixtures.grid_fleet import GridFleet, Times
from tests.grid.service.conftest import SiteFactory

from steppe.config import GridSection
from steppe.grid.service.drills import Drills
from steppe.grid.service.links import links_of

SECTION = GridSection.model_validate(
    {"drills": [{"after_s": 10, "notice_s": 5, "ramp_down_s": 2, "hold_s": 60, "share": 0.7}]}
)


async def test_a_drill_is_announced_when_it_is_due(open_site: SiteFactory) -> None:
    site = await open_site(SECTION)
    began_s = site.now_s()
    await site.look()
    assert (await site.grid())["events"] == []
    site.now_s.now_s = began_s + 10
    await site.look()
    await site.look()
    (event,) = (await site.grid())["events"]
    assert (event["id"], event["link"], event["starts"]) == ("drill-1", "drill", began_s + 15)
    assert len(site.fleet.taken) == 1
    site.now_s.now_s = began_s + 30
    assert (await site.ask("GET", "/steppe/v1/budget"))[1]["in_force"]["limit_w"] == 700


async def test_a_cancelled_drill_does_not_come_back_with_a_new_service(
    open_site: SiteFactory, tmp_path: Path
) -> None:
    site = await open_site(SECTION)
    began_s = site.now_s()
    await site.look()
    site.now_s.now_s = began_s + 30
    await site.look()
    site.now_s.now_s = began_s + 31
    assert (await site.ask("DELETE", "/steppe/v1/grid/events/drill-1"))[0] == 200
    again = Drills(site.fleet, SECTION.drills, "1-a", tmp_path / "grid")
    await again.see(await site.fleet.view(0))
    site.now_s.now_s = began_s + 32
    assert (await site.ask("GET", "/steppe/v1/budget"))[1]["in_force"] is None


async def test_a_drill_that_is_over_is_not_announced_again_but_another_run_has_its_own(
    tmp_path: Path,
) -> None:
    now_s = Times()
    fleet = GridFleet(tmp_path, links_of(SECTION), now_s)
    await Drills(fleet, SECTION.drills, "1-a", tmp_path).see(await fleet.view(0))
    now_s.now_s += 1000
    await Drills(fleet, SECTION.drills, "1-a", tmp_path).see(await fleet.view(0))
    assert fleet.taken == []
    other = Drills(fleet, SECTION.drills, "1-b", tmp_path)
    await other.see(await fleet.view(0))
    now_s.now_s += 10
    await other.see(await fleet.view(0))
    assert len(fleet.taken) == 1
