"""Reads the bodies of requests, within one limit for the memory of all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from steppe.errors import SteppeError
from steppe.gateway.answers import error_answer

RESERVED: web.RequestKey[int] = web.RequestKey("reserved", int)
"""Bytes that the body of a request takes at the gateway."""
RETRY_AFTER_S = 1


class BodiesFullError(SteppeError):
    """All bodies together would take more memory than they may."""


class Bodies:
    """The bodies of all requests that are open."""

    def __init__(
        self,
        largest_bytes: int = 64 << 20,
        all_bytes: int = 256 << 20,
        timeout_s: float = 60.0,
        on_full: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Begin without bodies.

        Args:
            largest_bytes: Largest body of a request, bytes.
            all_bytes: Most bytes of all bodies at one time.
            timeout_s: Longest time for a body to arrive, s.
            on_full: Gets the reason when a request is refused, for the metrics.
        """
        self._largest_bytes, self._all_bytes = largest_bytes, all_bytes
        self._timeout_s, self._on_full = timeout_s, on_full
        self._reserved = 0

    @property
    def reserved(self) -> int:
        """Bytes of all bodies now."""
        return self._reserved

    async def read(self, request: web.Request) -> bytes:
        """Return the whole body.

        Raises:
            web.HTTPRequestEntityTooLarge: It is too large, by its `Content-Length` or as it comes.
            web.HTTPRequestTimeout: It does not arrive in time.
            BodiesFullError: There is no memory for it now.
        """
        length = request.content_length or 0
        self._reserve(request, length)
        found = bytearray()
        try:
            async with asyncio.timeout(self._timeout_s):
                while chunk := await request.content.readany():
                    found += chunk
                    self._reserve(request, max(length, len(found)))
        except TimeoutError as error:
            text = f"asked for the whole body within {self._timeout_s:g} s"
            raise web.HTTPRequestTimeout(reason=text) from error
        return bytes(found)

    def install(self, application: web.Application) -> None:
        """Free the memory of each body when its request ends."""
        application.middlewares.insert(0, self._middleware())

    def _middleware(self) -> Middleware:
        @web.middleware
        async def free(request: web.Request, handler: Handler) -> web.StreamResponse:
            try:
                return await handler(request)
            except BodiesFullError as error:
                self._on_full("memory_full")
                answer = error_answer(503, str(error), type_="overloaded", code="memory_full")
                answer.headers["Retry-After"] = str(RETRY_AFTER_S)
                return answer
            finally:
                self._reserved -= request.get(RESERVED, 0)

        return free

    def _reserve(self, request: web.Request, size: int) -> None:
        """Reserve memory for a body of this size so far."""
        if size > self._largest_bytes:
            raise web.HTTPRequestEntityTooLarge(self._largest_bytes, size)
        more = size - request.get(RESERVED, 0)
        if self._reserved + more > self._all_bytes:
            raise BodiesFullError("the bodies of open requests take all the memory that they may")
        self._reserved += more
        request[RESERVED] = size
