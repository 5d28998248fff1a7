"""The meter of the site as a part of the grid service."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from steppe.grid.meters.site_meter import MeteredDraw, SiteMeter
from steppe.grid.service.seam import GridView


class SiteMeterPart:
    """Shows the metered draw beside the computed one.

    Attributes:
        latest: Both draws of the last second; None before the first.
    """

    name = "site_meter"

    def __init__(self, meter: SiteMeter) -> None:
        """Keep the meter; this asks it nothing yet."""
        self._meter = meter
        self.latest: MeteredDraw | None = None

    @property
    def shown(self) -> Mapping[str, Any]:
        """Return both draws, W, and their difference, share of the higher one."""
        if self.latest is None:
            return {}
        return {**asdict(self.latest), "difference": self.latest.difference}

    async def start(self) -> None:
        """Begin; the first second starts the readings."""

    async def see(self, view: GridView) -> None:
        """Read the meter; this does not wait for it.

        Args:
            view: What the controller has.
        """
        if view.draw_w is not None:
            self.latest = self._meter.beside(view.draw_w)

    async def stop(self) -> None:
        """End the readings."""
        self._meter.stop()
