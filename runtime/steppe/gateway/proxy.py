"""Ask a replica and hear its answer, byte for byte; knows nothing of queues or records."""

from __future__ import annotations

import contextlib
import io
import socket
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

# RFC 9110, 7.6.1: these end at each hop. Lengths are set anew, with the same value.
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
_NOT_OURS_TO_ADD = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")
# vLLM closes idle connections after 5 s; leave first, or a request may meet a closed one.
_KEEPALIVE_S = 2.0
# A host that answers no TCP probe for so long has vanished: nothing else tells while it is silent.
_SILENT_HOST_S = 20
_PROBE_EVERY_S = 5

Headers = CIMultiDict[str]


class ReplicaLostError(ReplicaError):
    """A replica took a request and its connection broke before the answer was complete."""


class ReplicaUnreachableError(ReplicaError):
    """A replica took no connection, so it never saw the request."""


@dataclass(frozen=True, slots=True)
class ProxyRequest:
    """A client's request, as a replica will see it.

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
class WholeAnswer:
    """An answer that was read to its end."""

    status: int
    headers: Headers
    body: bytes


class ByteSource:
    """The body of an answer, as it comes."""

    def __init__(self, response: aiohttp.ClientResponse, replica: str, cord: CancelScope) -> None:
        self._content = response.content
        self._replica = replica
        self._cord = cord

    async def read(self) -> bytes:
        """Return the next bytes as soon as there are any; none at the end.

        Raises:
            ReplicaLostError: The connection broke before the end.
            SteppeError: The cord was pulled.
        """
        try:
            return await self._content.readany()
        except (aiohttp.ClientError, OSError) as error:
            lost = ReplicaLostError(f"{self._replica} broke off its answer: {error!r}")
            raise self._cord.why or lost from error

    async def read_all(self) -> bytes:
        """Return all the bytes up to the end; raises as `read` does."""
        chunks = []
        while chunk := await self.read():
            chunks.append(chunk)
        return b"".join(chunks)


@dataclass(frozen=True, slots=True)
class StreamedAnswer:
    """A server-sent event stream whose first bytes have come.

    Attributes:
        status: HTTP status.
        headers: End-to-end headers.
        first: The first bytes.
        rest: Where the bytes after them come from.
    """

    status: int
    headers: Headers
    first: bytes
    rest: ByteSource


Answer = WholeAnswer | StreamedAnswer


def end_to_end(headers: CIMultiDictProxy[str]) -> Headers:
    """Return the headers that are meant for the other end (RFC 9110, 7.6.1)."""
    named = _named_by_connection(headers.getall("Connection", ()))
    return CIMultiDict(
        (name, value)
        for name, value in headers.items()
        if name.lower() not in _HOP_BY_HOP and name.lower() not in named
    )


def open_session(connect_timeout_s: float) -> aiohttp.ClientSession:
    """Return a client that adds nothing to a request, decodes nothing and never gives up.

    Generation may take as long as it takes; only connecting has a time limit, and a host that
    vanishes is noticed.
    """
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            limit=0, keepalive_timeout=_KEEPALIVE_S, socket_factory=_probing_socket
        ),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=connect_timeout_s),
        auto_decompress=False,
        skip_auto_headers=_NOT_OURS_TO_ADD,
    )


@contextlib.asynccontextmanager
async def ask(
    session: aiohttp.ClientSession, route: Route, question: ProxyRequest, cord: CancelScope
) -> AsyncIterator[Answer]:
    """Send a question to a replica; leaving the block early closes the connection at once.

    Args:
        session: From `open_session`.
        route: The way to the replica.
        question: What to send.
        cord: Whoever pulls it ends the wait for the answer and for each part of it.

    Raises:
        ReplicaUnreachableError: No connection could be made.
        ReplicaLostError: The connection broke before the answer was complete, or, when it is a
            stream, before its first byte.
        SteppeError: The cord was pulled.
    """
    response = await cord.hold(partial(_send, session, route, question))
    cord.tie(response.close)
    try:
        headers = end_to_end(response.headers)
        _lead_back(headers, route)
        source = ByteSource(response, route.replica, cord)
        if response.content_type == EVENT_STREAM:
            yield StreamedAnswer(response.status, headers, await source.read(), source)
        else:
            yield WholeAnswer(response.status, headers, await source.read_all())
    finally:
        response.close()  # changes nothing once the answer was read to its end


def _lead_back(headers: Headers, route: Route) -> None:
    """Have a redirect within a replica lead to the gateway, and not around it.

    FastAPI answers a path with a slash too many by the right one, at its own address.
    """
    target = headers.get("Location", "").removeprefix(route.url)
    if target.startswith("/"):
        headers["Location"] = target


def _probing_socket(address: aiohttp.AddrInfoType) -> socket.socket:
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _PROBE_EVERY_S)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _PROBE_EVERY_S)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _SILENT_HOST_S // _PROBE_EVERY_S)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _SILENT_HOST_S * 1000)
    return made


async def _send(
    session: aiohttp.ClientSession, route: Route, question: ProxyRequest
) -> aiohttp.ClientResponse:
    try:
        return await session.request(
            question.method,
            URL(route.url + question.target, encoded=True),
            headers=question.headers,
            data=io.BytesIO(question.body) if question.body else None,
            allow_redirects=False,
        )
    except (aiohttp.ClientConnectorError, aiohttp.ServerTimeoutError) as error:
        raise ReplicaUnreachableError(f"{route.replica} at {route.url}: {error}") from error
    except (aiohttp.ClientError, OSError) as error:
        raise ReplicaLostError(f"{route.replica} at {route.url}: {error!r}") from error


def _named_by_connection(values: Iterable[str]) -> frozenset[str]:
    return frozenset(name.strip().lower() for value in values for name in value.split(","))
