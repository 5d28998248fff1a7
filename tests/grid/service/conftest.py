"""A grid service in this process, its fleet and the client of its tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import aiohttp
import pytest
from tests.fixtures.grid_fleet import GridFleet, Times

from steppe.config import GridSection
from steppe.grid.service.links import links_of
from steppe.grid.service.service import GridService
from steppe.grid.service.settings import GridSettings


@dataclass
class Site:
    """A site with its service.

    Attributes:
        fleet: The fleet.
        service: The service.
        now_s: Its clock.
        url: Where it listens.
        session: The client.
    """

    fleet: GridFleet
    service: GridService
    now_s: Times
    url: str
    session: aiohttp.ClientSession

    async def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        async with self.session.request(method, self.url + path, json=body) as answer:
            return answer.status, await answer.json()

    async def grid(self) -> Any:
        return (await self.ask("GET", "/steppe/v1/grid"))[1]

    async def look(self) -> None:
        """Show the site to all parts, as the service does once a second."""
        assert self.service._watch is not None
        await self.service._watch.look()


class SiteFactory(Protocol):
    async def __call__(self, section: GridSection | None = None) -> Site: ...


@pytest.fixture
async def open_site(tmp_path: Path) -> AsyncIterator[SiteFactory]:
    opened: list[GridService] = []
    async with aiohttp.ClientSession() as session:

        async def open_(section: GridSection | None = None) -> Site:
            section, now_s = section or GridSection(), Times()
            fleet = GridFleet(tmp_path, links_of(section), now_s)
            settings = GridSettings(section, tmp_path / "grid", "1-a", now_s())
            service = GridService(settings, fleet, now_s, period_s=3600.0)
            opened.append(service)
            return Site(fleet, service, now_s, await service.start(), session)

        yield open_
        for service in opened:
            await service.stop()
