"""The link to an energy manager of S2, beside one in memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.fixtures.grid_fleet import GridFleet
from tests.fixtures.s2_manager import S2Manager, envelope, new

from steppe.config import GridSection
from steppe.errors import ConfigError
from steppe.grid.s2.messages import when
from steppe.grid.service.links import links_of
from steppe.grid.service.refusals import NotedLimits, Refusals
from steppe.grid.service.s2_part import S2Part


class Link:
    """The link, its energy manager and its fleet, which draws 1000 W."""

    def __init__(self, cem: S2Manager, folder: Path) -> None:
        (folder / "token").write_text("s3cret\n")
        section = GridSection.model_validate(
            {
                "s2": {
                    "url": cem.url,
                    "token_file": folder / "token",
                    "default_w": 700.0,
                    "most_w": 1500.0,
                }
            }
        )
        assert section.s2 is not None
        self.cem, self.folder, self.section = cem, folder, section
        self.fleet = GridFleet(folder, links_of(section))
        self.refusals = Refusals(time.time)
        self.part = self.new_part()

    def new_part(self) -> S2Part:
        assert self.section.s2 is not None
        limits = NotedLimits(self.fleet, self.refusals)
        self.part = S2Part(self.section.s2, "steppe", limits, self.refusals, folder=self.folder)
        return self.part

    def forget(self) -> None:
        """Let the controller start anew without the file of its limits."""
        (self.folder / "limits.json").unlink()
        self.fleet.limits = GridFleet(self.folder, links_of(self.section)).limits

    @property
    def watts(self) -> float | None:
        found = self.fleet.limits.in_force()
        return None if found is None else found.watts

    async def look(self) -> None:
        await self.part.see(await self.fleet.view(0))

    async def constraints(self) -> str:
        """Wait for the constraints, and show the site meanwhile."""
        async with asyncio.timeout(20):
            while not self.cem.of("PEBC.PowerConstraints"):
                await self.look()
                await asyncio.sleep(0.01)
        return str(self.cem.of("PEBC.PowerConstraints")[-1].id)


@pytest.fixture
async def link(tmp_path: Path) -> AsyncIterator[Link]:
    async with S2Manager() as cem:
        found = Link(cem, tmp_path)
        await found.part.start()
        yield found
        await found.part.stop()


async def test_an_instruction_is_handed_over_and_named(link: Link) -> None:
    id_ = await link.constraints()
    assert link.watts == 700.0
    asked = envelope(id_, when(time.time()), (600, 1400.0))
    assert (await link.cem.send(asked)).status.value == "OK"
    found = link.fleet.limits.in_force()
    assert found is not None
    assert (found.watts, found.name) == (1400.0, "s2/envelope")
    await link.look()
    assert link.part.shown["control_type"] == "POWER_ENVELOPE_BASED_CONTROL"
    assert link.part.shown["instructions"] == 1
    assert not link.fleet.limits.is_lost("s2")


async def test_without_the_controller_an_instruction_is_to_be_sent_again(link: Link) -> None:
    asked = envelope(await link.constraints(), when(time.time()), (600, 1400.0))
    link.fleet.away = True
    assert (await link.cem.send(asked)).status.value == "TEMPORARY_ERROR"
    assert link.watts == 700.0


async def test_what_is_refused_is_shown(link: Link) -> None:
    await link.constraints()
    wrong = new("SelectControlType", control_type="FILL_RATE_BASED_CONTROL")
    assert (await link.cem.send(wrong)).status.value == "INVALID_CONTENT"
    assert [each.link for each in link.refusals.newest] == ["s2"]


async def test_the_floor_stays_where_it_is_while_the_draw_is_held_down(link: Link) -> None:
    link.fleet.draw_w = 600.0
    id_ = await link.constraints()
    before = link.cem.of("PEBC.PowerConstraints")[-1].allowed_limit_ranges[0].range_boundary
    assert (before.start_of_range, before.end_of_range) == (600.0, 1500.0)
    urgent = envelope(id_, when(time.time()), (600, 400.0), abnormal_condition=True)
    assert (await link.cem.send(urgent)).status.value == "OK"
    view = await link.fleet.view(0)
    assert view.draw_w == 400.0
    site = link.part._site(view, 400.0)
    assert (site.baseline_w, site.offer.down.watts, site.limit_w) == (600.0, 200, 400.0)


@pytest.mark.parametrize("has_file", [True, False])
async def test_a_new_service_goes_on_with_the_limit_that_is_held(
    link: Link, tmp_path: Path, has_file: bool
) -> None:
    id_ = await link.constraints()
    await link.cem.send(envelope(id_, when(time.time()), (7200, 600.0), abnormal_condition=True))
    await link.part.stop()
    if not has_file:
        (tmp_path / "s2.json").unlink()
    link.cem.got.clear()
    again = link.new_part()
    id_ = await link.constraints()
    later = envelope(id_, when(time.time() + 3600), (3600, 1400.0))
    assert (await link.cem.send(later)).status.value == "OK"
    assert link.watts == 600.0
    then = link.fleet.limits.in_force(5400.0)
    assert then is not None
    assert then.watts == 1400.0
    await again.stop()


async def test_what_the_controller_has_forgotten_is_not_brought_back(link: Link) -> None:
    id_ = await link.constraints()
    await link.cem.send(envelope(id_, when(time.time()), (7200, 1400.0)))
    assert link.watts == 1400.0
    link.forget()
    await link.look()
    await link.cem.send(envelope(id_, when(time.time() + 3600), (3600, 1300.0)))
    assert link.watts == 700.0


def test_a_manager_on_another_host_needs_wss(tmp_path: Path) -> None:
    section = GridSection.model_validate(
        {"s2": {"url": "ws://cem.example/s2", "default_w": 1.0, "most_w": 2.0}}
    )
    assert section.s2 is not None
    fleet = GridFleet(tmp_path, links_of(section))
    with pytest.raises(ConfigError, match="asked for a wss URL"):
        S2Part(section.s2, "steppe", fleet, Refusals(time.time), folder=tmp_path)
