"""The event stream to a client, with a time limit for each write."""

from __future__ import annotations

import asyncio
import time
from types import TracebackType

from aiohttp import web

from steppe.gateway.held_tail import HeldTail

WRITE_TIMEOUT_S = 60.0
"""A client that reads nothing for this long is disconnected, s."""


class ClientStream:
    """Writes a stream to its client, and disconnects a client that reads nothing.

    A stream has thousands of writes, nearly all of which end at once. So one timer checks them,
    and finds a client that reads nothing after at most twice its timeout.
    """

    def __init__(
        self,
        request: web.Request,
        response: web.StreamResponse,
        timeout_s: float = WRITE_TIMEOUT_S,
        tail: HeldTail | None = None,
    ) -> None:
        """Wrap a prepared response; the timer runs inside the `with` block.

        Args:
            request: The client's request.
            response: The prepared response.
            timeout_s: The client may read nothing for so long, s.
            tail: Takes the end of the stream, which another stream sends later; None sends it.
        """
        self._tail = tail
        self._request, self._response = request, response
        self._timeout_s = timeout_s
        self._write_began_s: float | None = None

    def __enter__(self) -> ClientStream:
        """Start the timer."""
        self._check()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop the timer."""
        self._timer.cancel()

    async def write(self, data: bytes) -> None:
        """Send bytes; wait while the client is far behind.

        Raises:
            ConnectionResetError: The client has disconnected.
        """
        if self._tail is not None:
            data = self._tail.take(data)
        self._write_began_s = time.monotonic()
        await self._response.write(data)
        self._write_began_s = None

    async def end(self) -> None:
        """Send the end of the stream unless it is held back; waits and raises as `write` does."""
        if self._tail is not None:
            return
        self._write_began_s = time.monotonic()
        await self._response.write_eof()
        self._write_began_s = None

    def _check(self) -> None:
        began_s = self._write_began_s
        if began_s is None or time.monotonic() < began_s + self._timeout_s:
            self._timer = asyncio.get_running_loop().call_later(self._timeout_s, self._check)
        elif self._request.transport is not None:
            self._request.transport.abort()  # the write ends with an error
