from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.fixtures.s2_manager import S2Manager

from steppe.grid.limits.limit import Limit, Link
from steppe.grid.limits.limits import Limits
from steppe.grid.offers.offer import Call, FlexOffer, offered
from steppe.grid.offers.sources import Source
from steppe.grid.s2.control import SiteNow
from steppe.grid.s2.kept import KeptInstructions
from steppe.grid.s2.link import Manager, S2Link
from steppe.grid.s2.manager import LimitsAwayError, ManagerSettings, ResourceManager

DEFAULT_W = 700.0
SETTINGS = ManagerSettings("s2", "steppe site", DEFAULT_W, currency="EUR", version="1.2.3")


class Controller:
    """The limits of a site; `away` refuses all, as a controller that restarts does."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.away = folder, False
        self.limits = Limits(folder / "limits.json", [Link("s2", DEFAULT_W, 60.0)])

    @property
    def watts(self) -> float | None:
        found = self.limits.in_force()
        return None if found is None else found.watts

    async def put(self, limit: Limit) -> None:
        if self.away:
            raise LimitsAwayError("the controller does not answer")
        self.limits.put(limit)

    async def lift(self, name: str, issued_s: float) -> None:
        self.limits.lift("s2", name, issued_s)


def offer() -> FlexOffer:
    """Return an offer of 300 W for nothing, 200 W more for 0.01 per J, and 500 W upwards."""
    down = [
        Source("work", 300.0, 5.0, 50.0, 0.0, rebound_share=1.0),
        Source("streams", 200.0, 0.0, 50.0, 0.01),
    ]
    up = [Source("work", 500.0, 0.0, 50.0, 0.0)]
    call = Call(10.0, 900.0)
    return FlexOffer("o1", 0.0, 1e10, offered([down] * 9, call), offered([up] * 9, call))


def site_now(draw_w: float = 1000.0, limit_w: float | None = None) -> SiteNow:
    return SiteNow(draw_w, 1000.0, 1500.0, limit_w, offer())


@pytest.fixture
def controller(tmp_path: Path) -> Controller:
    return Controller(tmp_path)


@pytest.fixture
def speaks(controller: Controller) -> ResourceManager:
    return ResourceManager(SETTINGS, controller, KeptInstructions(controller.folder / "s2.json"))


@pytest.fixture
async def cem() -> AsyncIterator[S2Manager]:
    async with S2Manager() as found:
        yield found


@pytest.fixture
async def link(
    cem: S2Manager, speaks: ResourceManager, controller: Controller
) -> AsyncIterator[S2Link]:
    """A link whose site has been looked at once."""
    place = Manager(cem.url, token="s3cret", retry_s=(0.02, 0.05))
    found = S2Link(place, speaks, lambda: controller.limits.heard("s2"))
    await found.step(site_now())
    found.start()
    yield found
    await found.stop()
