from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from steppe.load.delay_proxy import DelayedRoute, DelayProxy

RTT_S = 0.2
WHOLE = bytes(range(256)) * 4096


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(4096):
        writer.write(data)
        await writer.drain()
    writer.close()


@asynccontextmanager
async def proxied(rtt_s: float) -> AsyncIterator[DelayProxy]:
    """An echo server behind a proxy."""
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    proxy = DelayProxy(DelayedRoute(0, server.sockets[0].getsockname()[1], rtt_s))
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.stop()
        server.close()


def test_a_byte_comes_back_after_a_round_trip_and_no_earlier() -> None:
    async def ping() -> list[float]:
        async with proxied(RTT_S) as proxy:
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            took_s = []
            for _ in range(3):
                sent_s = time.monotonic()
                writer.write(b"x")
                assert await reader.readexactly(1) == b"x"
                took_s.append(time.monotonic() - sent_s)
            writer.close()
            return took_s

    took_s = asyncio.run(ping())
    assert min(took_s) >= RTT_S * 0.99
    assert min(took_s) < RTT_S + 1.0  # a loaded machine adds to it


def test_a_megabyte_comes_back_whole_in_order_and_with_its_end() -> None:
    async def send() -> bytes:
        async with proxied(0.02) as proxy:
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)

            async def write() -> None:
                writer.write(WHOLE)
                await writer.drain()
                writer.write_eof()

            _, found = await asyncio.gather(write(), reader.read())
            writer.close()
            assert proxy.bytes_passed == 2 * len(WHOLE)
            return found

    assert asyncio.run(send()) == WHOLE


def test_a_connection_ends_if_no_server_listens() -> None:
    async def ask() -> bytes:
        proxy = DelayProxy(DelayedRoute(0, 1, 0.01))
        await proxy.start()
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        found = await reader.read()
        writer.close()
        await proxy.stop()
        return found

    assert asyncio.run(ask()) == b""


def test_stop_cuts_open_connections() -> None:
    async def ask() -> bytes:
        async with proxied(0.01) as proxy:
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            writer.write(b"x")
            await reader.readexactly(1)
            await proxy.stop()
            found = await reader.read()
            writer.close()
            return found

    assert asyncio.run(ask()) == b""
