"""A part of the grid service, such as a link."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from steppe.grid.service.seam import GridView


class Part(Protocol):
    """Something that the service starts, stops, and shows the site to once a second.

    It is made with the `FleetLimits` that it hands its changes to. It may have routes, too: see
    `parts_of`.

    Attributes:
        name: Its name in `GET /steppe/v1/grid`; of a link, the one that the limits know.
        shown: What it says of itself there, as JSON values.
    """

    @property
    def name(self) -> str:
        """Return its name."""
        ...

    @property
    def shown(self) -> Mapping[str, Any]:
        """Return what it says of itself."""
        ...

    async def start(self) -> None:
        """Begin.

        Raises:
            UsageError: It cannot run as it is configured.
        """
        ...

    async def see(self, view: GridView) -> None:
        """Take note of the site, once a second. What takes long is for a task of its own.

        An error of Steppe, or of the system, is logged once and shown, and hinders no other part.

        Args:
            view: What the controller has; its samples are those since the last view.
        """
        ...

    async def stop(self) -> None:
        """End; also called where `start` failed."""
        ...
