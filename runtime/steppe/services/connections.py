"""Limits of the connections of clients: how many, and how long one may take.

aiohttp's server has a limit for the time between two requests only. So each of its connections is
wrapped here: a client that sends half a request, or reads nothing, is cut off. With TLS they count
from their first packet on, and one that does not end its handshake in time is cut off, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from steppe.services.api_error import ApiError


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """How much a client may hold at the gateway.

    Attributes:
        header_s: Longest time from the first byte of a request to the end of its headers, s; and
            longest time of a TLS handshake.
        body_s: Longest time for the body of a request to arrive, s.
        idle_s: Longest time between two requests of a connection, s.
        connections: Most connections of all clients.
        connections_per_client: Most connections of one address.
        bodies_bytes: Most bytes of all bodies at the gateway at one time.
    """

    header_s: float = 10.0
    body_s: float = 60.0
    idle_s: float = 75.0
    connections: int = 10_000
    connections_per_client: int = 2_000
    bodies_bytes: int = 256 << 20


HTTP_LIMITS = HttpLimits()


class ConnectionGuard:
    """Counts the connections, and cuts off those that hold the gateway up.

    Attributes:
        is_stopping: Whether every connection is to close after its next answer.
    """

    def __init__(
        self,
        limits: HttpLimits,
        write_timeout_s: float,
        is_proxy: Callable[[str], bool] = lambda _: False,
        on_cut_off: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Begin without connections.

        Args:
            limits: The limits.
            write_timeout_s: Longest time that a client may read nothing, s.
            is_proxy: Whether an address is a trusted proxy, which may have all connections.
            on_cut_off: Gets the reason when a connection is refused or cut off, for the metrics.
        """
        self.limits, self.write_timeout_s = limits, write_timeout_s
        self._is_proxy, self.on_cut_off = is_proxy, on_cut_off
        self.is_stopping = False
        self._of_client: Counter[str] = Counter()
        self._open: dict[asyncio.BaseTransport, _Connection] = {}
        self._handshakes: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        """Number of open connections."""
        return len(self._open)

    def wrap(
        self, protocol: asyncio.Protocol, tls: ssl.SSLContext | None = None
    ) -> asyncio.Protocol:
        """Return the protocol of a new connection, around that of the server.

        Args:
            protocol: That of the server.
            tls: The connection begins with a handshake of TLS; None: it does not.
        """
        return _Connection(self, protocol, tls)

    def shake_hands(self, connection: _Connection, tls: ssl.SSLContext) -> None:
        """Begin the handshake of a connection."""
        task = asyncio.create_task(connection.secure(tls))
        self._handshakes.add(task)
        task.add_done_callback(self._handshakes.discard)

    def end_handshakes(self) -> None:
        """Close the connections that are in their handshake."""
        for task in self._handshakes:
            task.cancel()

    def install(self, application: web.Application) -> None:
        """Watch every request of an application, outside all other middlewares."""
        application.middlewares.insert(0, self._middleware())
        application.on_response_prepare.append(self._close_when_stopping)

    async def _close_when_stopping(self, _: web.Request, response: web.StreamResponse) -> None:
        """Let a client that keeps its connection open another one, elsewhere."""
        if self.is_stopping:
            response.force_close()
            response.headers["Connection"] = "close"

    def _middleware(self) -> Middleware:
        @web.middleware
        async def watch(request: web.Request, handler: Handler) -> web.StreamResponse:
            connection = self._open.get(request.transport) if request.transport else None
            if connection is None:
                return await handler(request)
            connection.begin_request()
            try:
                return await handler(request)
            finally:
                connection.end_request()

        return watch

    def admit(self, connection: _Connection, client: str) -> str | None:
        """Count a connection; return why it is refused, if it is."""
        if len(self._open) >= self.limits.connections:
            return "connections"
        is_full = self._of_client[client] >= self.limits.connections_per_client
        if is_full and not self._is_proxy(client):
            return "connections_per_client"
        self._of_client[client] += 1
        self._open[connection.transport] = connection
        return None

    def replace(self, transport: asyncio.BaseTransport, secured: asyncio.BaseTransport) -> None:
        """Count the TLS of a connection in its place."""
        self._open[secured] = self._open.pop(transport)

    def forget(self, transport: asyncio.BaseTransport, client: str) -> None:
        """Stop counting a connection."""
        if self._open.pop(transport, None) is not None:
            self._of_client[client] -= 1
            if not self._of_client[client]:
                del self._of_client[client]


class _Connection(asyncio.Protocol):
    """One connection; passes everything on to the server's protocol."""

    transport: asyncio.Transport

    def __init__(
        self, guard: ConnectionGuard, inner: asyncio.Protocol, tls: ssl.SSLContext | None
    ) -> None:
        self._guard, self._inner, self._tls = guard, inner, tls
        self._client, self._in_request = "", False
        self._has_begun = self._is_over = False  # for the server's protocol
        self._early: list[bytes] = []
        self._header_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self._client = str(peer[0]) if peer else ""
        reason = self._guard.admit(self, self._client)
        if reason is not None:
            self._guard.on_cut_off(reason)
            self._refuse()
            return
        self._set_user_timeout()
        if self._tls is None:
            self._begin()
            return
        self.transport.pause_reading()  # until the handshake reads
        self._guard.shake_hands(self, self._tls)

    async def secure(self, tls: ssl.SSLContext) -> None:
        """Do the handshake; the server's protocol gets the connection after it."""
        plain, limit_s = self.transport, self._guard.limits.header_s
        secured: asyncio.Transport | None = None
        try:
            with contextlib.suppress(OSError):  # a client without TLS, or one that has left
                secured = await asyncio.get_running_loop().start_tls(
                    plain, self, tls, server_side=True, ssl_handshake_timeout=limit_s
                )
        finally:
            if secured is None:
                self._is_over = True
                self._guard.on_cut_off("handshake")
                self._guard.forget(plain, self._client)
                plain.abort()
        if secured is not None and not self._is_over:
            self._guard.replace(plain, secured)
            self.transport = secured
            self._begin()

    def _begin(self) -> None:
        """Give the connection to the server's protocol, with what has come so far."""
        self._has_begun = True
        self._inner.connection_made(self.transport)
        early, self._early = self._early, []
        for data in early:
            self.data_received(data)

    def data_received(self, data: bytes) -> None:
        if self._is_over:
            return
        if not self._has_begun:  # it came with the end of the handshake
            self._early.append(data)
            return
        if not self._in_request and self._header_timer is None:
            loop = asyncio.get_running_loop()
            self._header_timer = loop.call_later(self._guard.limits.header_s, self._cut_off)
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        return self._inner.eof_received() if self._has_begun and not self._is_over else None

    def pause_writing(self) -> None:
        loop = asyncio.get_running_loop()
        self._write_timer = loop.call_later(self._guard.write_timeout_s, self._abort)
        if self._has_begun:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
        if self._has_begun:
            self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_header_timer()
        if self._write_timer is not None:
            self._write_timer.cancel()
        self._guard.forget(self.transport, self._client)
        self._is_over = True
        if self._has_begun:
            self._inner.connection_lost(exc)

    def begin_request(self) -> None:
        """Note that the headers of a request are complete."""
        self._in_request = True
        self._stop_header_timer()

    def end_request(self) -> None:
        """Note that a request is answered."""
        self._in_request = False

    def _stop_header_timer(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _cut_off(self) -> None:
        self._guard.on_cut_off("headers")
        message = f"asked for headers within {self._guard.limits.header_s:g} s"
        self._answer(ApiError(408, "request_timeout", message))

    def _abort(self) -> None:
        self._guard.on_cut_off("slow_reader")
        self.transport.abort()

    def _refuse(self) -> None:
        """Answer that there are too many; before a handshake of TLS only close."""
        if self._tls is None:
            self._answer(ApiError(503, "too_many_connections", "too many connections"))
        else:
            self._is_over = True
            self.transport.abort()

    def _answer(self, error: ApiError) -> None:
        """Send an error without the server, and close."""
        self._is_over = True
        body = error.body()
        phrase = {408: "Request Timeout", 503: "Service Unavailable"}[error.status]
        head = (
            f"HTTP/1.1 {error.status} {phrase}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\nRetry-After: 1\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()

    def _set_user_timeout(self) -> None:
        """Let the kernel drop a closed connection whose client never reads the rest."""
        found = self.transport.get_extra_info("socket")
        if found is not None and found.family in (socket.AF_INET, socket.AF_INET6):
            timeout_ms = int(1000 * self._guard.write_timeout_s)
            found.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, timeout_ms)


class GuardedSite(web.BaseSite):
    """Listens on a TCP port, with a guard around every connection."""

    def __init__(
        self,
        runner: web.AppRunner,
        place: tuple[str, int],
        guard: ConnectionGuard,
        *,
        ssl_context: ssl.SSLContext | None = None,
        shares_port: bool = False,
    ) -> None:
        """Create a site that does not listen yet.

        Args:
            runner: The server.
            place: Host and port.
            guard: The guard.
            ssl_context: For TLS; None without it.
            shares_port: Whether other processes of this user may listen there, too: the kernel
                spreads the connections over them.
        """
        super().__init__(runner, backlog=1024)
        self._tls = ssl_context
        self._place, self._guard, self._shares_port = place, guard, shares_port

    @property
    def name(self) -> str:
        """Where it listens."""
        host, port = self._place
        return f"{host}:{port}"

    async def start(self) -> None:
        """Listen."""
        await super().start()
        server, (host, port) = self._runner.server, self._place
        assert server is not None, "the runner is set up"
        self._server = await asyncio.get_running_loop().create_server(
            lambda: self._guard.wrap(server(), self._tls),
            host,
            port,
            backlog=self._backlog,
            reuse_port=self._shares_port or None,
        )

    async def stop(self) -> None:
        """Take no new connection; those in their handshake are closed."""
        await super().stop()
        self._guard.end_handshakes()
