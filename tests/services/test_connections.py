"""Connections of TLS count, and are cut off, from before their handshake on."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from tests.fixtures.beating_sites import tls_of

from steppe.services.connections import ConnectionGuard, GuardedSite, HttpLimits
from steppe.sites.trust.certificates import Credential, new_authority
from steppe.sites.trust.tls import SiteTls

HOST, SERVER, CLIENT = "127.0.0.1", "shanghai", "hohhot"
LONGEST_S = 30.0


@dataclass
class Guarded:
    """A server with TLS whose connections are guarded."""

    guard: ConnectionGuard
    place: GuardedSite
    port: int
    client: SiteTls
    cut_off: list[str]
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    async def connect(self) -> asyncio.StreamReader:
        """Open a connection that says nothing."""
        reader, writer = await asyncio.open_connection(HOST, self.port)
        self.writers.append(writer)
        return reader

    def leave(self) -> None:
        """End the silent connections."""
        for writer in self.writers:
            writer.transport.abort()

    async def get(self, body: bytes = b"") -> str:
        """Return the answer to a request of a client with TLS."""
        url = f"https://{HOST}:{self.port}/"
        async with (
            aiohttp.ClientSession() as session,
            session.post(url, data=body, ssl=self.client.client, server_hostname=SERVER) as answer,
        ):
            return await answer.text()


Open = Callable[[HttpLimits], Awaitable[Guarded]]


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(LONGEST_S):
        while not is_so():
            await asyncio.sleep(0.005)


async def end_of(silent: asyncio.StreamReader) -> None:
    """Wait until the server has closed a connection, without a word."""
    async with asyncio.timeout(LONGEST_S):
        with contextlib.suppress(ConnectionResetError):
            assert await silent.read() == b""


async def answer(request: web.Request) -> web.Response:
    transport = request.transport
    assert transport is not None
    certificate = transport.get_extra_info("peercert")
    return web.Response(text=f"{request.scheme} {bool(certificate)} {len(await request.read())}")


@pytest.fixture(scope="module")
def authority() -> Credential:
    return new_authority("steppe test", time.time())


@pytest.fixture
async def open_server(tmp_path: Path, authority: Credential) -> AsyncIterator[Open]:
    async with AsyncExitStack() as stack:

        async def open_one(limits: HttpLimits) -> Guarded:
            cut_off: list[str] = []
            guard = ConnectionGuard(limits, 60.0, on_cut_off=cut_off.append)
            application = web.Application()
            application.router.add_post("/", answer)
            guard.install(application)
            runner = web.AppRunner(application, shutdown_timeout=0.1)
            await runner.setup()
            tls = tls_of(tmp_path, SERVER, authority)
            place = GuardedSite(runner, (HOST, 0), guard, ssl_context=tls.server)
            await place.start()
            client, port = tls_of(tmp_path, CLIENT, authority), runner.addresses[0][1]
            found = Guarded(guard, place, port, client, cut_off)
            stack.push_async_callback(runner.cleanup)
            stack.callback(found.leave)
            return found

        yield open_one


async def test_a_client_with_a_certificate_is_served(open_server: Open) -> None:
    server = await open_server(HttpLimits())
    assert await server.get(b"x" * 1_000_000) == "https True 1000000"
    assert await server.get() == "https True 0"
    await until(lambda: len(server.guard) == 0)
    assert server.cut_off == []


async def test_many_clients_at_once_are_served(open_server: Open) -> None:
    server = await open_server(HttpLimits())
    found = await asyncio.gather(*(server.get(b"x" * n) for n in range(20)))
    assert found == [f"https True {n}" for n in range(20)]


async def test_a_client_that_does_not_begin_its_handshake_is_cut_off(open_server: Open) -> None:
    server = await open_server(HttpLimits(header_s=0.1))
    silent = await server.connect()
    await end_of(silent)
    assert (server.cut_off, len(server.guard)) == (["handshake"], 0)


async def test_a_client_without_tls_is_cut_off(open_server: Open) -> None:
    server = await open_server(HttpLimits())
    url = f"http://{HOST}:{server.port}/"
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientError):
            await session.post(url)
    await until(lambda: len(server.guard) == 0)
    assert server.cut_off == ["handshake"]


async def test_a_client_that_leaves_in_its_handshake_is_forgotten(open_server: Open) -> None:
    server = await open_server(HttpLimits())
    await server.connect()
    await until(lambda: len(server.guard) == 1)
    server.writers[0].close()
    await until(lambda: len(server.guard) == 0)


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (HttpLimits(connections_per_client=2), "connections_per_client"),
        (HttpLimits(connections=2), "connections"),
    ],
)
async def test_connections_count_before_their_handshake(
    open_server: Open, limits: HttpLimits, reason: str
) -> None:
    server = await open_server(limits)
    for _ in range(2):
        await server.connect()
    await until(lambda: len(server.guard) == 2)
    with pytest.raises(aiohttp.ClientError):
        await server.get()
    assert server.cut_off == [reason]
    server.writers[0].transport.abort()
    await until(lambda: len(server.guard) == 1)
    assert await server.get() == "https True 0"


async def test_a_server_that_stops_closes_what_is_in_its_handshake(open_server: Open) -> None:
    server = await open_server(HttpLimits())
    silent = await server.connect()
    await until(lambda: len(server.guard) == 1)
    await server.place.stop()
    await end_of(silent)
    await until(lambda: len(server.guard) == 0)
