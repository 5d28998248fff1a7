"""The HTTP client of replicas; passes requests and responses on byte for byte."""

from __future__ import annotations

import contextlib
import io
import socket
import ssl
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from functools import partial

import aiohttp
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from steppe.errors import ReplicaError
from steppe.gateway.cancel_scope import CancelScope
from steppe.gateway.routing import Route

EVENT_STREAM = "text/event-stream"

# RFC 9110, 7.6.1: headers of one hop. Lengths are set again, with the same value.
_HOP_BY_HOP = frozenset(
    {
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_NO_DEFAULT_HEADERS = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")
# vLLM closes idle connections after 5 s; close them earlier, so that no request meets a closed one.
_KEEPALIVE_S = 2.0
_SILENT_HOST_S = 20
"""A host that answers no TCP keep-alive probe for this long is lost, s."""
_PROBES = 4
"""So many probes in a row without an answer are such a silence."""

Headers = CIMultiDict[str]


@dataclass(frozen=True, slots=True)
class ServerTls:
    """How a server that is no replica of this run is reached.

    Attributes:
        context: Checks its certificate, and has that of this site.
        name: The name that its certificate must have.
        most_bytes: Its answer is given up beyond so many bytes.
    """

    context: ssl.SSLContext
    name: str
    most_bytes: int


class ReplicaLostError(ReplicaError):
    """The connection to a replica broke before its response was complete."""


class ReplicaUnreachableError(ReplicaError):
    """A replica took no connection, so it never received the request."""


@dataclass(frozen=True, slots=True)
class ProxyRequest:
    """A client's request, as it is sent to a replica.

    Attributes:
        method: HTTP method.
        target: Path and query, exactly as the client wrote them.
        headers: End-to-end headers.
        body: Whole body.
    """

    method: str
    target: str
    headers: Headers
    body: bytes


@dataclass(frozen=True, slots=True)
class WholeResponse:
    """A response that was read to its end."""

    status: int
    headers: Headers
    body: bytes


class BodyReader:
    """Reads the body of a response as it arrives."""

    def __init__(
        self,
        response: aiohttp.ClientResponse,
        replica: str,
        scope: CancelScope,
        most_bytes: int | None = None,
    ) -> None:
        self._content = response.content
        self._replica = replica
        self._scope = scope
        self._most_bytes, self._bytes = most_bytes, 0

    async def read(self) -> bytes:
        """Return the next bytes as soon as there are any; none at the end.

        Raises:
            ReplicaLostError: The connection broke before the end, or the body is too long.
            SteppeError: The scope was cancelled.
        """
        try:
            chunk = await self._content.readany()
        except (aiohttp.ClientError, OSError) as error:
            lost = ReplicaLostError(f"{self._replica} broke off its response: {error!r}")
            raise self._scope.error or lost from error
        self._bytes += len(chunk)
        if self._most_bytes is not None and self._bytes > self._most_bytes:
            asked = f"asked for at most {self._most_bytes} bytes of a response"
            raise ReplicaLostError(f"{self._replica}: {asked}, found more")
        return chunk

    async def read_all(self) -> bytes:
        """Return all the bytes up to the end; raises as `read` does."""
        chunks = []
        while chunk := await self.read():
            chunks.append(chunk)
        return b"".join(chunks)


@dataclass(frozen=True, slots=True)
class StreamedResponse:
    """A server-sent event stream whose first bytes have arrived.

    Attributes:
        status: HTTP status.
        headers: End-to-end headers.
        first: The first bytes.
        rest: Reads the bytes after them.
    """

    status: int
    headers: Headers
    first: bytes
    rest: BodyReader


ReplicaResponse = WholeResponse | StreamedResponse


def end_to_end(headers: CIMultiDictProxy[str]) -> Headers:
    """Return the end-to-end headers (RFC 9110, 7.6.1)."""
    named = _named_by_connection(headers.getall("Connection", ()))
    return CIMultiDict(
        (name, value)
        for name, value in headers.items()
        if name.lower() not in _HOP_BY_HOP and name.lower() not in named
    )


def open_session(
    connect_timeout_s: float,
    headers: Iterable[tuple[str, str]] = (),
    *,
    keepalive_s: float = _KEEPALIVE_S,
    silent_s: int = _SILENT_HOST_S,
) -> aiohttp.ClientSession:
    """Return a client that decodes no body and has no total time limit.

    It adds no headers but the given ones, which no header of a request may replace.

    Only connecting, with TLS where there is any, has a time limit, because generation may take
    long. TCP keep-alive finds a host that is lost.

    Args:
        connect_timeout_s: Longest time to connect, s.
        headers: Headers of every request.
        keepalive_s: How long an idle connection is kept, s.
        silent_s: A host that acknowledges nothing for so long is lost, s.
    """
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            limit=0,
            keepalive_timeout=keepalive_s,
            socket_factory=partial(_probing_socket, silent_s=silent_s),
        ),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(
            total=None, connect=2 * connect_timeout_s, sock_connect=connect_timeout_s
        ),
        auto_decompress=False,
        headers=CIMultiDict(headers),
        skip_auto_headers=_NO_DEFAULT_HEADERS,
    )


@contextlib.asynccontextmanager
async def send_request(
    session: aiohttp.ClientSession,
    route: Route,
    request: ProxyRequest,
    scope: CancelScope,
    tls: ServerTls | None = None,
) -> AsyncIterator[ReplicaResponse]:
    """Send a request to a replica; leaving the block early closes the connection at once.

    Args:
        session: From `open_session`.
        route: The route to the replica.
        request: The request.
        scope: Cancelling it ends the wait for the response and for each part of it.
        tls: How a server that is no replica is reached; None for a replica.

    Raises:
        ReplicaUnreachableError: No connection could be made.
        ReplicaLostError: The connection broke before a whole response was complete, or before the
            first byte of a stream.
        SteppeError: The scope was cancelled.
    """
    response = await scope.run(partial(_send, session, route, request, tls))
    scope.on_cancel(response.close)
    try:
        headers = end_to_end(response.headers)
        _rewrite_redirect(headers, route)
        most_bytes = None if tls is None else tls.most_bytes
        body = BodyReader(response, route.replica, scope, most_bytes)
        if response.content_type == EVENT_STREAM:
            yield StreamedResponse(response.status, headers, await body.read(), body)
        else:
            yield WholeResponse(response.status, headers, await body.read_all())
    finally:
        response.close()  # no effect on a response that was read to its end


def _rewrite_redirect(headers: Headers, route: Route) -> None:
    """Make a redirect to the replica itself one to the gateway.

    FastAPI redirects a path with an extra slash to the right path at its own address.
    """
    target = headers.get("Location", "").removeprefix(route.url)
    if target.startswith("/"):
        headers["Location"] = target


def _probing_socket(address: aiohttp.AddrInfoType, silent_s: int) -> socket.socket:
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    every_s = max(1, silent_s // _PROBES)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, every_s)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, every_s)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _PROBES)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, silent_s * 1000)
    return made


async def _send(
    session: aiohttp.ClientSession, route: Route, request: ProxyRequest, tls: ServerTls | None
) -> aiohttp.ClientResponse:
    try:
        return await session.request(
            request.method,
            URL(route.url + request.target, encoded=True),
            headers=request.headers,
            data=io.BytesIO(request.body) if request.body else None,
            allow_redirects=False,
            ssl=True if tls is None else tls.context,
            server_hostname=None if tls is None else tls.name,
        )
    except (aiohttp.ClientConnectorError, aiohttp.ServerTimeoutError) as error:
        raise ReplicaUnreachableError(f"{route.replica} at {route.url}: {error}") from error
    except (aiohttp.ClientError, OSError) as error:
        raise ReplicaLostError(f"{route.replica} at {route.url}: {error!r}") from error


def _named_by_connection(values: Iterable[str]) -> frozenset[str]:
    return frozenset(name.strip().lower() for value in values for name in value.split(","))
