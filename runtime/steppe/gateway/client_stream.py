"""The event stream to a client: a time limit for each write, and comments while nothing comes."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import TracebackType

from aiohttp import web

from steppe.errors import SteppeError
from steppe.gateway.held_tail import HeldTail

WRITE_TIMEOUT_S = 60.0
"""A client that reads nothing for this long is disconnected, s."""
KEEP_ALIVE_S = 15.0
"""A stream without an event for this long gets a comment, s."""
HOLD_S = 3600.0
"""A stream without an event for this long is given up, s."""


@dataclass(frozen=True, slots=True)
class StreamTimes:
    """Time limits of a stream, s.

    Attributes:
        write_s: A client that reads nothing for this long is disconnected.
        keep_alive_s: A stream without an event for this long gets a comment, and again after each
            such time.
        hold_s: A stream without an event for this long is given up.
    """

    write_s: float = WRITE_TIMEOUT_S
    keep_alive_s: float = KEEP_ALIVE_S
    hold_s: float = HOLD_S


class ClientStream:
    """Writes a stream to its client; disconnects one that reads nothing, keeps one that waits.

    A stream has thousands of writes, nearly all of which end at once. So one timer checks them,
    and finds a client that reads nothing after at most twice its timeout.

    Attributes:
        response: The response; None before `open`.
        has_begun: Whether anything but comments was written.
    """

    def __init__(
        self,
        request: web.Request,
        times: StreamTimes,
        *,
        comment: Callable[[], str] | None = None,
        on_held: Callable[[], None] = lambda: None,
        headers: Mapping[str, str] | None = None,
        response: web.StreamResponse | None = None,
        tail: HeldTail | None = None,
        may_open: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Make a stream that is not open; the timer runs inside the `with` block.

        Args:
            request: The client's request.
            times: Time limits.
            comment: Returns why nothing comes, for the comments; None: there are none.
            on_held: Called once no event was written for `times.hold_s`.
            headers: Headers of a response that begins with a comment.
            response: A response whose headers were sent already.
            tail: Takes the end of the stream, which another stream sends later; None sends it.
            may_open: Returns once the headers may be sent, or raises a SteppeError; None at once.
        """
        self._tail, self._may_open = tail, may_open
        self._request, self._times = request, times
        self._comment, self._on_held = comment, on_held
        self._headers = headers or {}
        self.response = response
        self.has_begun = False
        self._opening = asyncio.Lock()
        self._write_began_s: float | None = None
        self._event_s = self._sent_s = time.monotonic()
        self._beat: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> ClientStream:
        """Start the timer."""
        self._event_s = self._sent_s = time.monotonic()
        self._set_timer()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
        if self._beat is not None:
            self._beat.cancel()

    @property
    def is_open(self) -> bool:
        """Whether the client has the headers of the response."""
        return self.response is not None

    @property
    def waits_since_s(self) -> float | None:
        """When the last event was written, by the monotonic clock, s; None while one is written."""
        return self._event_s if self._write_began_s is None else None

    async def open(self, status: int, headers: Mapping[str, str]) -> web.StreamResponse:
        """Send the headers, unless they were sent before; return the response.

        Raises:
            SteppeError: They may not be sent.
        """
        async with self._opening:
            if self.response is None:
                if self._may_open is not None:
                    await self._may_open()
                response = web.StreamResponse(status=status, headers=headers)
                await response.prepare(self._request)
                self.response = response
        return self.response

    async def write(self, data: bytes) -> None:
        """Send events; wait while the client is far behind.

        Raises:
            ConnectionResetError: The client has disconnected.
        """
        assert self.response is not None, "the stream is open"
        self.has_begun = True
        if self._tail is not None:
            data = self._tail.take(data)
        self._write_began_s = time.monotonic()
        await self.response.write(data)
        self._write_began_s = None
        self._event_s = self._sent_s = time.monotonic()

    async def end(self) -> None:
        """Send the end of the stream unless it is held back; waits and raises as `write` does."""
        assert self.response is not None, "the stream is open"
        if self._tail is not None:
            return
        self._write_began_s = time.monotonic()
        await self.response.write_eof()
        self._write_began_s = None

    def _set_timer(self) -> None:
        now_s, times = time.monotonic(), self._times
        due_s = now_s + times.write_s
        if self._comment is not None:
            due_s = min(due_s, max(now_s, self._sent_s) + times.keep_alive_s)
        if math.isfinite(times.hold_s) and self._event_s + times.hold_s > now_s:
            due_s = min(due_s, self._event_s + times.hold_s)
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(due_s - now_s, self._check)

    def _check(self) -> None:
        now_s, began_s = time.monotonic(), self._write_began_s
        if began_s is not None:
            if now_s >= began_s + self._times.write_s and self._request.transport is not None:
                self._request.transport.abort()  # the write ends with an error
                return
        elif now_s >= self._event_s + self._times.hold_s:
            self._on_held()
        elif self._comment is not None and now_s >= self._sent_s + self._times.keep_alive_s:
            self._sent_s = now_s
            self._beat = asyncio.create_task(self._send_comment(self._comment()))
        self._set_timer()

    async def _send_comment(self, why: str) -> None:
        with contextlib.suppress(ConnectionResetError, SteppeError):  # the stream itself meets them
            response = await self.open(200, self._headers)
            await response.write(f": {why}\n\n".encode())
