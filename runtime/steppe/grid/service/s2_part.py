"""The link to an energy manager of S2: its instructions become limits, and it sees the draw."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from steppe.config import S2Section
from steppe.grid.limits.limit import Limit
from steppe.grid.offers.offer import Call
from steppe.grid.s2.control import SiteNow
from steppe.grid.s2.kept import KeptInstructions
from steppe.grid.s2.link import Manager, S2Link
from steppe.grid.s2.manager import (
    LimitsAwayError,
    ManagerSettings,
    RefusedLimitError,
    ResourceManager,
)
from steppe.grid.service.links import S2
from steppe.grid.service.present import present_offer
from steppe.grid.service.refusals import Refusals
from steppe.grid.service.seam import (
    Change,
    FleetAwayError,
    FleetLimits,
    GridView,
    Heard,
    Lift,
    PutLimit,
)
from steppe.grid.service.secret_files import read_secret

FILE_NAME = "s2.json"
_BOUND_SHARE = 0.98
_FOREVER_S = 1e10


class S2Part:
    """Hands over what an energy manager asks, and says what the site draws and could draw.

    A sign of life of the link is any message of an energy manager that has chosen a control type.
    """

    name = S2

    def __init__(
        self,
        section: S2Section,
        site: str,
        limits: FleetLimits,
        refusals: Refusals,
        *,
        folder: Path,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        """Prepare.

        Args:
            section: The section of the configuration.
            site: Name of the site at the grid.
            limits: The limits of the fleet.
            refusals: Gets the messages that are refused.
            folder: Where the instructions are kept.
            now_s: Reads the time, s since the Unix epoch.

        Raises:
            UsageError: The token cannot be read, or the URL is not private.
        """
        file = section.token_file
        token = "" if file is None else read_secret("grid.s2.token_file", file)
        settings = ManagerSettings(S2, site, section.default_w, section.currency or "")
        self._section, self._limits, self._now_s = section, limits, now_s
        self._manager = ResourceManager(
            settings,
            _FleetHolds(limits),
            KeptInstructions(folder / FILE_NAME),
            refused=lambda why: refusals.note(S2, why),
        )
        place = Manager(section.url, token, lost_s=section.lost_s)
        self._link = S2Link(place, self._manager, self._note, clock=now_s)
        self._heard = self._has_seen = False
        self._baseline_w: float | None = None
        self._saying: asyncio.Task[None] | None = None

    @property
    def shown(self) -> Mapping[str, Any]:
        """Where the energy manager is, what it has chosen, and how many instructions are held."""
        return {
            "url": self._section.url,
            "problem": self._link.problem,
            "control_type": self._manager.chosen,
            "instructions": self._manager.held,
        }

    async def start(self) -> None:
        """Begin; the first connection waits until it is known whether the link was lost."""

    async def see(self, view: GridView) -> None:
        """Say what the site draws and could draw, and note a sign of life."""
        self._manager.agree([each for each in view.limits if each.source == S2], view.at_s)
        if S2 in view.lost:
            self._manager.lost(view.at_s)
        if not self._has_seen:
            self._has_seen = True
            self._link.start()
        if self._heard:
            self._heard = False
            await self._limits.take([Heard(S2)])
        if view.draw_w is None or (self._saying is not None and not self._saying.done()):
            return
        self._saying = asyncio.create_task(self._link.step(self._site(view, view.draw_w)))

    async def stop(self) -> None:
        """Close the connection; what was asked holds on."""
        await self._link.stop()
        if self._saying is not None:
            await asyncio.gather(self._saying, return_exceptions=True)

    def _note(self) -> None:
        self._heard = True

    def _site(self, view: GridView, draw_w: float) -> SiteNow:
        """Return the site as it is now.

        While a limit holds the draw down, what it drew before is the baseline: the watts between
        are part of the offer, for they are given already.
        """
        limit_w = None if view.in_force is None else view.in_force.watts
        is_bound = limit_w is not None and draw_w >= _BOUND_SHARE * limit_w
        before_w = self._baseline_w if is_bound else None
        self._baseline_w = baseline_w = draw_w if before_w is None else max(before_w, draw_w)
        return SiteNow(
            draw_w=draw_w,
            baseline_w=baseline_w,
            most_w=max(self._section.most_w, baseline_w),
            limit_w=limit_w,
            offer=present_offer(
                view,
                Call(self._section.notice_s, self._section.hold_s),
                _FOREVER_S,
                given_w=baseline_w - draw_w,
            ),
        )


class _FleetHolds:
    """The limits of the fleet, as the resource manager sees them."""

    def __init__(self, limits: FleetLimits) -> None:
        self._limits = limits

    async def put(self, limit: Limit) -> None:
        await self._take(PutLimit(limit))

    async def lift(self, name: str, issued_s: float) -> None:
        await self._take(Lift(S2, name, issued_s))

    async def _take(self, change: Change) -> None:
        try:
            (why,) = await self._limits.take([change])
        except FleetAwayError as error:
            raise LimitsAwayError(str(error)) from error
        if why:
            raise RefusedLimitError(why)
