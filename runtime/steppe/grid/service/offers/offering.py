"""Makes the offers of a site: keeps the history, and looks at it anew with each entry of it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from steppe.config import OffersSection
from steppe.errors import UsageError
from steppe.grid.offers.history import Moment, Window
from steppe.grid.offers.offer import Call
from steppe.grid.offers.site_offer import SiteOffer, site_offers
from steppe.grid.service.offers.kept_history import KeptHistory, shown_moments
from steppe.grid.service.seam import GridView

NAME = "offers"
DAY_S = 86_400.0


class Offering:
    """The offers of a site, as a part of the grid service.

    Times in which an event holds, or is about to end, are left out of the history: the draw is not
    that of the fleet's own work then.

    Attributes:
        name: Its name at the service.
        offers: The last offers; empty before the first entry of the history.
        now: What the site could give at the last look; None before it.
    """

    name = NAME

    def __init__(self, site: str, section: OffersSection, folder: Path) -> None:
        """Prepare.

        Args:
            site: Name of the site.
            section: What is offered.
            folder: Where the history is kept.
        """
        self._site, self._section, self._folder = site, section, folder
        self._history: KeptHistory | None = None
        self._task: asyncio.Task[None] | None = None
        self.offers: list[SiteOffer] = []
        self.now: Moment | None = None

    @property
    def shown(self) -> Mapping[str, Any]:
        """What it says of itself."""
        history = self._history
        if history is None:
            return {}
        return {
            "history": shown_moments(history.moments),
            "entries": len(history.moments),
            "unread": history.unread,
            "offers": len(self.offers),
        }

    @property
    def calls(self) -> list[Call]:
        """The kinds of calls for which offers are made."""
        sure = self._section.confidence
        return [Call(each.notice_s, each.hold_s, sure) for each in self._section.calls]

    async def start(self) -> None:
        """Read the history.

        Raises:
            UsageError: It cannot be read.
        """
        keep_s = self._section.history_days * DAY_S
        self._history = await asyncio.to_thread(KeptHistory, self._folder, keep_s)

    async def see(self, view: GridView) -> None:
        """Note what the site can give, if it is time, and make the offers of then on.

        Raises:
            DiskFullError: No space is left.
            UsageError: The history cannot be written.
        """
        history = self._history
        assert history is not None, "the service starts its parts first"
        self.now = Moment(view.at_s, view.sources)
        is_new = view.draw_w is not None and self._is_due(view) and not _is_in_event(view)
        if is_new:
            await asyncio.to_thread(history.add, self.now)
        if (is_new and not self._is_busy) or self._task is None:
            self._task = asyncio.create_task(self._make())

    def _is_due(self, view: GridView) -> bool:
        """Return whether the last entry is old enough, or later than now: the clock was set."""
        assert self._history is not None
        moments = self._history.moments
        return not moments or not 0.0 <= view.at_s - moments[-1].at_s < self._section.sample_s

    @property
    def _is_busy(self) -> bool:
        return self._task is not None and not self._task.done()

    async def stop(self) -> None:
        """End."""
        if self._task is not None:
            await asyncio.wait([self._task])
            self._task = None

    async def offer_for(self, window: Window, call: Call) -> SiteOffer:
        """Return what is offered for any time.

        Args:
            window: When.
            call: Notice, hold time and confidence of its calls.

        Raises:
            UsageError: The time is over, or the site is not seen.
        """
        history, now = self._history, self.now
        if history is None or now is None:
            raise UsageError("asked for an offer, found a site that has not been seen yet")
        if not now.at_s <= window.from_s < window.until_s:
            found = f"{window.from_s:.0f} to {window.until_s:.0f} s"
            raise UsageError(f"asked for a time from {now.at_s:.0f} s on, found {found}")
        moments = tuple(history.moments)
        found_offers = await asyncio.to_thread(
            site_offers, self._site, moments, now, [window], call
        )
        return found_offers[0]

    async def _make(self) -> None:
        """Make the offers of the windows to come, in a thread."""
        history, now = self._history, self.now
        assert history is not None
        assert now is not None
        moments, offers = tuple(history.moments), list[SiteOffer]()
        for call in self.calls:
            windows = self._windows(now.at_s + call.notice_s)
            offers += await asyncio.to_thread(site_offers, self._site, moments, now, windows, call)
        self.offers = offers

    def _windows(self, from_s: float) -> list[Window]:
        """Return the windows to come: they begin at whole ones of the day, in UTC."""
        length_s = self._section.window_s
        first = math.ceil(from_s / length_s)
        return [
            Window(n * length_s, (n + 1) * length_s)
            for n in range(first, first + self._section.windows)
        ]


def _is_in_event(view: GridView) -> bool:
    return any(each.event.starts_s <= view.at_s < each.event.ends_s for each in view.events)
