"""The client at the other end of a stream, as long as it takes what comes."""

from __future__ import annotations

import asyncio
import time
from types import TracebackType

from aiohttp import web

PATIENCE_S = 60.0
"""A client that takes nothing for so long is as good as gone."""


class Listener:
    """Writes a stream to its client, and cuts off one that takes nothing for `PATIENCE_S`.

    A stream has thousands of writes, and nearly all end at once; so one timer looks after it, which
    finds a client that takes nothing after at most twice that time.
    """

    def __init__(self, request: web.Request, response: web.StreamResponse) -> None:
        """Take a response that is prepared; the timer runs while the block is not left."""
        self._request, self._response = request, response
        self._begun_s: float | None = None

    def __enter__(self) -> Listener:
        """Start to look."""
        self._look()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Look no more."""
        self._timer.cancel()

    async def write(self, data: bytes) -> None:
        """Send bytes; wait while the client is far behind.

        Raises:
            ConnectionResetError: The client is gone.
        """
        self._begun_s = time.monotonic()
        await self._response.write(data)
        self._begun_s = None

    async def end(self) -> None:
        """Send the end of the stream; waits and raises as `write` does."""
        self._begun_s = time.monotonic()
        await self._response.write_eof()
        self._begun_s = None

    def _look(self) -> None:
        begun_s = self._begun_s
        if begun_s is None or time.monotonic() < begun_s + PATIENCE_S:
            self._timer = asyncio.get_running_loop().call_later(PATIENCE_S, self._look)
        elif self._request.transport is not None:
            self._request.transport.abort()  # the write ends with an error
