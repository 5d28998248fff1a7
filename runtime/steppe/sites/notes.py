"""Notes of a gateway on their way to the sites service: bounded, and sent until they arrive.

The service keeps one note of each request, so that a note which is sent twice counts once.
"""

from __future__ import annotations

import asyncio
import logging
from itertools import islice

import aiohttp

from steppe.sites.service.sent_api import MOST_NOTES, PATH, write_sent
from steppe.sites.settlement.sent import Sent

MOST_WAITING = 20_000
"""More notes than these are dropped: the sites service has been gone for long."""

_log = logging.getLogger(__name__)


class Notes:
    """The notes of one gateway.

    Attributes:
        dropped: Notes that never arrived: too many waited, or the service refused them.
        sent: Notes that arrived.
    """

    def __init__(self, most: int = MOST_WAITING) -> None:
        """Begin with none.

        Args:
            most: How many may wait.
        """
        self._most = most
        self._waiting: dict[str, Sent] = {}
        self._sending = asyncio.Lock()
        self.dropped = self.sent = 0

    def __len__(self) -> int:
        """Notes that wait."""
        return len(self._waiting)

    def add(self, note: Sent) -> None:
        """Take a note; drop it if too many wait."""
        if len(self._waiting) >= self._most:
            if not self.dropped:
                _log.error("more than %d notes wait for the sites service: lost", self._most)
            self.dropped += 1
            return
        self._waiting[note.request] = note

    async def send(self, session: aiohttp.ClientSession, url: str) -> None:
        """Send all that wait; stop at the first failure, and keep those.

        Args:
            session: Has the secret of the run.
            url: Where the sites service listens.
        """
        async with self._sending:
            while self._waiting and await self._send_some(session, url):
                pass

    async def _send_some(self, session: aiohttp.ClientSession, url: str) -> bool:
        """Send one call of notes; return whether they are done with.

        Of a call that the service refuses each note is sent alone: one that is not as it should be
        takes no other one with it.
        """
        batch = list(islice(self._waiting.values(), MOST_NOTES))
        status = await self._post(session, url, batch)
        if status == 400 and len(batch) > 1:
            for note in batch:
                if not self._settle([note], await self._post(session, url, [note])):
                    return False
            return True
        return self._settle(batch, status)

    async def _post(self, session: aiohttp.ClientSession, url: str, batch: list[Sent]) -> int:
        """Send notes in one call; return the status of the answer, 0 without one."""
        try:
            async with session.post(
                url + PATH,
                data=write_sent(batch),
                headers={"Content-Type": "application/json"},
            ) as answer:
                status, text = answer.status, await answer.text(errors="replace")
        except (aiohttp.ClientError, OSError) as error:
            _log.info("%d notes wait for the sites service: %r", len(self), error)
            return 0
        if status == 400:
            _log.error("the sites service refused %d notes: %.200s", len(batch), text)
        return status

    def _settle(self, batch: list[Sent], status: int) -> bool:
        """Take notes out that arrived or never will; return whether they are."""
        if status not in (200, 400):
            return False
        if status == 200:
            self.sent += len(batch)
        else:
            self.dropped += len(batch)
        for note in batch:
            del self._waiting[note.request]
        return True
