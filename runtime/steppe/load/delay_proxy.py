"""A TCP proxy that holds all bytes for a while: the distance between two sites, on one machine.

Each direction takes half of a round trip. Only the handshake of TCP is not delayed, so the first
request of a connection is one round trip faster than over a real distance.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass

_CHUNK_BYTES = 1 << 16
_CHUNKS = 256
"""Most chunks on their way in one direction; then the sender has to wait."""
_END = b""


@dataclass(frozen=True, slots=True)
class DelayedRoute:
    """A way to a server.

    Attributes:
        port: Port of this host on which the proxy listens.
        to_port: Port of this host on which the server listens.
        rtt_s: Round trip that the proxy adds, s.
    """

    port: int
    to_port: int
    rtt_s: float


class DelayProxy:
    """Listens for one route."""

    def __init__(self, route: DelayedRoute, host: str = "127.0.0.1") -> None:
        """Keep the route; nothing listens before `start`."""
        self._route, self._host = route, host
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()
        self.bytes_passed = 0
        """Bytes that were passed on, both ways."""

    @property
    def port(self) -> int:
        """The port that it listens on: a free one if the route has port 0."""
        assert self._server is not None, "it has started"
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: The port is taken.
        """
        self._server = await asyncio.start_server(self._serve, self._host, self._route.port)

    async def stop(self) -> None:
        """Listen no more, and cut the open connections."""
        if self._server is not None:
            self._server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None, "a server calls it in a task"
        self._open.add(task)
        far: asyncio.StreamWriter | None = None
        try:
            far_reader, far = await asyncio.open_connection(self._host, self._route.to_port)
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pass_on(reader, far))
                both.create_task(self._pass_on(far_reader, writer))
        except* (OSError, asyncio.CancelledError):
            pass  # the other end is gone: both connections are closed
        finally:
            self._open.discard(task)
            for each in (writer, far):
                if each is not None:
                    each.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass bytes on, half a round trip later, until their end."""
        loop = asyncio.get_running_loop()
        on_the_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_CHUNKS)

        async def deliver() -> None:
            while True:
                due_s, data = await on_the_way.get()
                await asyncio.sleep(due_s - loop.time())
                if data == _END:
                    with contextlib.suppress(OSError):
                        writer.write_eof()
                    return
                writer.write(data)
                await writer.drain()
                self.bytes_passed += len(data)

        async with asyncio.TaskGroup() as both:
            both.create_task(deliver())
            data = b"-"
            while data != _END:
                data = await reader.read(_CHUNK_BYTES)
                await on_the_way.put((loop.time() + self._route.rtt_s / 2, data))
