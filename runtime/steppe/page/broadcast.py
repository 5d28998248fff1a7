"""One event for many viewers: each has room for one event, so a slow one misses some."""

from __future__ import annotations

import asyncio

from steppe.errors import SteppeError

MOST_VIEWERS = 500


class TooManyViewersError(SteppeError):
    """As many viewers are connected as may be."""


class Viewer:
    """What one viewer gets next: the newest event that it has not had."""

    def __init__(self) -> None:
        """Begin without an event."""
        self._event: bytes | None = None
        self._has_ended = False
        self._ready = asyncio.Event()

    def offer(self, event: bytes) -> None:
        """Replace the event that it has not taken by a newer one."""
        self._event = event
        self._ready.set()

    def end(self) -> None:
        """Let it go."""
        self._has_ended = True
        self._ready.set()

    async def next(self) -> bytes | None:
        """Wait for the next event and return it; None at the end."""
        await self._ready.wait()
        self._ready.clear()
        event, self._event = self._event, None
        if self._has_ended:
            return None
        assert event is not None, "only an event or the end wakes a viewer"
        return event


class Broadcast:
    """The viewers of a page. To send to them waits for none of them."""

    def __init__(self, most: int = MOST_VIEWERS) -> None:
        """Begin without viewers; take at most `most`."""
        self._most, self._viewers = most, set[Viewer]()
        self._has_ended = False

    def __len__(self) -> int:
        """Number of viewers."""
        return len(self._viewers)

    def join(self) -> Viewer:
        """Return a new viewer.

        Raises:
            TooManyViewersError: There is no room.
        """
        if len(self._viewers) >= self._most or self._has_ended:
            found = "found the end of the gateway" if self._has_ended else "found no room"
            raise TooManyViewersError(f"asked for one of {self._most} places of viewers, {found}")
        viewer = Viewer()
        self._viewers.add(viewer)
        return viewer

    def leave(self, viewer: Viewer) -> None:
        """Forget a viewer."""
        self._viewers.discard(viewer)

    def send(self, event: bytes) -> None:
        """Offer an event to all viewers."""
        for viewer in self._viewers:
            viewer.offer(event)

    def end(self) -> None:
        """Let all viewers go, and take no new ones."""
        self._has_ended = True
        for viewer in self._viewers:
            viewer.end()
