"""A client that writes bytes to a gateway, right or wrong."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from types import TracebackType

from tests.gateway.site import Site

WITHIN_S = 20.0


@dataclass
class Raw:
    """One connection to a gateway."""

    site: Site
    reader: asyncio.StreamReader | None = None
    writer: asyncio.StreamWriter | None = None

    async def __aenter__(self) -> Raw:
        host, port = self.site.url.removeprefix("http://").split(":")
        self.reader, self.writer = await asyncio.open_connection(host, int(port))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self.writer is not None
        self.writer.transport.abort()

    def send(self, data: bytes) -> None:
        assert self.writer is not None
        self.writer.write(data)

    def end(self) -> None:
        assert self.writer is not None
        self.writer.write_eof()

    async def rest(self) -> bytes:
        """Return everything up to the end of the connection, however it ends."""
        assert self.reader is not None
        found = b""
        async with asyncio.timeout(WITHIN_S):
            try:
                while more := await self.reader.read(65536):
                    found += more
            except ConnectionResetError:
                pass
        return found

    async def answer(self) -> tuple[int, bytes]:
        """Return status and head of the next answer, and read its body."""
        assert self.reader is not None
        async with asyncio.timeout(WITHIN_S):
            head = await self.reader.readuntil(b"\r\n\r\n")
            lines = dict(
                line.lower().split(b": ", 1) for line in head.split(b"\r\n") if b": " in line
            )
            await self.reader.readexactly(int(lines.get(b"content-length", b"0")))
        return int(head.split()[1]), head
