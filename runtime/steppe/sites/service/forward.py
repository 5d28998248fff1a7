"""The door for calls that other sites send on: they go to the gateway of this site.

The answer goes back as it comes, byte for byte.
What may pass is listed, in both directions. So no header of a caller reaches the gateway that is
not meant to, and none of the gateway that names a tenant or a limit leaves the site.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from prometheus_client import Metric

from steppe.control.ticket import PRIORITIES
from steppe.errors import UsageError
from steppe.ledger.signing import PublicKey
from steppe.services.api_error import ApiError
from steppe.sites.beats.exchange import EpochS
from steppe.sites.peer import HOP, REFUSED, SITE_TENANT
from steppe.sites.service.call_counts import CallCounts
from steppe.sites.service.calls import JSON, PATHS, CallChecks
from steppe.sites.settlement.sent import AcceptedCall
from steppe.sites.trust.token import HEADER as TOKEN
from steppe.sites.trust.token import Token
from steppe.sites.view import SiteView

REQUEST_ID, TENANT, PRIORITY = "x-request-id", "x-steppe-tenant", "x-steppe-priority"
RETRY_AFTER_S = 1
TO_GATEWAY = ("accept", "traceparent", "tracestate", "x-steppe-energy")
"""Headers of a caller that the gateway gets as they are."""
TO_HOME = (
    "cache-control",
    "content-encoding",
    "content-type",
    "retry-after",
    "x-steppe-energy-joules",
)
"""Headers of the gateway that a caller gets."""
NOT_HERE = frozenset({401, 404, 405})
"""What the gateway answers to a call that it cannot take: to the home site that is a refusal."""
_CONNECT_S, _SILENT_S = 2.0, 3600.0
_UNREAD = frozenset({"body_too_large", "body_too_slow", "site_full"})
"""After these the rest of a body may still come: the connection is closed."""
_SMALL_BYTES = 16 << 10
"""A piece of this size is written at once if nothing waits to be sent."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DoorLimits:
    """How much other sites may hold at the door.

    Attributes:
        open: Most calls at one time.
        open_per_home: Those of one site.
        body_bytes: Largest body, bytes.
        bodies_bytes: Most bytes of all bodies that arrive at one time.
        body_s: Longest time for a body to arrive, s.
        write_s: A caller that takes nothing of its answer for so long is disconnected, s.
    """

    open: int = 2000
    open_per_home: int = 1000
    body_bytes: int = 32 << 20
    bodies_bytes: int = 256 << 20
    body_s: float = 30.0
    write_s: float = 60.0


@dataclass(frozen=True, slots=True)
class LocalGateway:
    """The gateway of this site.

    Attributes:
        url: Its URL, without a path.
        secret_headers: Headers with the secret of the run.
        certificate: Its certificate, PEM; None if it serves plain HTTP.
    """

    url: str
    secret_headers: tuple[tuple[str, str], ...]
    certificate: Path | None = None


class ForwardDoor:
    """Takes the calls of other sites."""

    def __init__(
        self,
        site: str,
        keys: Mapping[str, Sequence[PublicKey]],
        gateway: LocalGateway,
        read_view: Callable[[], SiteView | None],
        *,
        limits: DoorLimits = DoorLimits(),
        on_taken: Callable[[AcceptedCall], None] = lambda taken: None,
        epoch_s: EpochS = time.time,
    ) -> None:
        """Keep its parts.

        Args:
            site: Name of this site.
            keys: The other sites, and the keys of their tokens.
            gateway: Where calls go.
            read_view: Returns what this site shows of itself; None before it is known.
            limits: How much other sites may hold here.
            on_taken: Notes a call that goes to the gateway; must not wait.
            epoch_s: The clock by which certificates and tokens end, s since the Unix epoch.
        """
        self._gateway, self._limits, self._on_taken = gateway, limits, on_taken
        self._checks = CallChecks(site, keys, read_view, epoch_s)
        self._session: aiohttp.ClientSession | None = None
        self._counts = CallCounts()
        self._bodies_bytes = 0

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Add its routes.

        The server needs `handler_cancellation`: a caller that leaves then ends its call at the
        gateway, too.
        """
        for path in sorted(PATHS):
            router.add_post(path, self._take)

    async def start(self) -> None:
        """Open the client of the gateway.

        Raises:
            UsageError: The certificate of the gateway cannot be read.
        """
        self._session = open_session(self._gateway)

    async def stop(self) -> None:
        """Close all connections to the gateway."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def metrics(self) -> list[Metric]:
        """Return the calls of other sites for Prometheus."""
        return self._counts.metrics()

    async def _take(self, request: web.Request) -> web.StreamResponse:
        home = ""
        try:
            home = self._checks.home_of(request)
            with self._slot(home):
                token = self._checks.token_of(request, home)
                body = await self._read(request)
                self._checks.check_body(request, token, body)
                text = request.headers[TOKEN]
                self._on_taken(AcceptedCall(token.request, home, token.most_uj, text))
                return await self._forward(request, token, body)
        except ApiError as error:
            return self._refusal(home, error)
        except asyncio.CancelledError:
            self._counts.end(home, "left")
            raise

    @contextmanager
    def _slot(self, home: str) -> Iterator[None]:
        """Hold a place for a call.

        Raises:
            ApiError: There is none.
        """
        limits, total, of_home = self._limits, self._counts.open, self._counts.open_of(home)
        if total >= limits.open or of_home >= limits.open_per_home:
            asked = f"asked for at most {limits.open_per_home} open calls of a site"
            found = f"found {of_home} of {home}, {total} of all"
            raise ApiError(503, "site_full", f"{asked} and {limits.open} in all, {found}")
        self._counts.begin(home)
        try:
            yield
        finally:
            self._counts.close(home)

    async def _read(self, request: web.Request) -> bytes:
        """Return the body of a call.

        Raises:
            ApiError: It is too large or too slow.
        """
        limits, parts, size = self._limits, [], 0
        try:
            if (request.content_length or 0) > limits.body_bytes:
                raise _too_large(request.content_length or 0, limits.body_bytes)
            async with asyncio.timeout(limits.body_s):
                async for part in request.content.iter_any():
                    parts.append(part)
                    size += len(part)
                    self._bodies_bytes += len(part)
                    if size > limits.body_bytes:
                        raise _too_large(size, limits.body_bytes)
                    if self._bodies_bytes > limits.bodies_bytes:
                        asked = f"asked for at most {limits.bodies_bytes} bytes of all bodies"
                        raise ApiError(503, "site_full", asked)
        except TimeoutError as error:
            message = f"asked for the body within {limits.body_s:g} s, found {size} bytes"
            raise ApiError(503, "body_too_slow", message) from error
        finally:
            self._bodies_bytes -= size
        return b"".join(parts)

    async def _forward(self, request: web.Request, token: Token, body: bytes) -> web.StreamResponse:
        """Send a call to the gateway, and its answer back.

        Raises:
            ApiError: The gateway is gone, or cannot take it.
        """
        assert self._session is not None, "the door is open"
        try:
            answer = await self._session.post(
                self._gateway.url + request.path,
                data=body,
                headers=self._headers(request, token),
                allow_redirects=False,
            )
        except (aiohttp.ClientError, OSError) as error:
            message = f"the gateway of this site does not answer: {type(error).__name__}"
            raise ApiError(503, "gateway_gone", message) from error
        try:
            if answer.status in NOT_HERE:
                text = (await answer.content.read(1000)).decode(errors="replace")
                found = f"found {answer.status} of the gateway: {text:.200}"
                raise ApiError(
                    503, "not_here", f"asked for a call that this site can take, {found}"
                )
            return await self._pass_back(request, token.home, answer)
        finally:
            answer.close()  # no effect on an answer that was read to its end

    def _headers(self, request: web.Request, token: Token) -> CIMultiDict[str]:
        """Return the headers of a call for the gateway."""
        headers = CIMultiDict(self._gateway.secret_headers)
        for name in TO_GATEWAY:
            if name in request.headers:
                headers[name] = request.headers[name]
        if (priority := request.headers.get(PRIORITY)) in PRIORITIES:
            headers[PRIORITY] = priority
        headers["content-type"] = JSON
        headers[TENANT], headers[REQUEST_ID] = f"{SITE_TENANT}{token.home}", token.request
        headers[HOP] = "1"
        return headers

    async def _pass_back(
        self, request: web.Request, home: str, answer: aiohttp.ClientResponse
    ) -> web.StreamResponse:
        """Send an answer of the gateway to the home site, piece by piece."""
        headers = CIMultiDict(
            (name, answer.headers[name]) for name in TO_HOME if name in answer.headers
        )
        response = web.StreamResponse(status=answer.status, headers=headers)
        if answer.content_length is not None:
            response.content_length = answer.content_length
        end = "broken"
        try:
            await response.prepare(request)
            while piece := await answer.content.readany():
                await self._write(request, response, piece)
            await response.write_eof()
            end = "answered"
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            _log.warning("%s: an answer broke off: %r", home, error)
            if request.transport is not None:
                request.transport.abort()  # the home site sees that something is missing
        self._counts.end(home, end)
        return response

    async def _write(
        self, request: web.Request, response: web.StreamResponse, piece: bytes
    ) -> None:
        """Write a piece; wait while the caller takes nothing, but not for ever."""
        transport = request.transport
        is_free = transport is not None and transport.get_write_buffer_size() == 0
        if is_free and len(piece) <= _SMALL_BYTES:
            await response.write(piece)
            return
        async with asyncio.timeout(self._limits.write_s):
            await response.write(piece)

    def _refusal(self, home: str, error: ApiError) -> web.Response:
        self._counts.end(home, error.code)
        _log.info("call of %s refused: %s", home or "an unknown caller", error)
        answer = error.answer()
        answer.headers[REFUSED] = error.code
        if error.status == 503:
            answer.headers["Retry-After"] = str(RETRY_AFTER_S)
        if not home or error.code in _UNREAD:
            answer.force_close()
        return answer


def _too_large(found: int, most: int) -> ApiError:
    return ApiError(403, "body_too_large", f"asked for at most {most} bytes, found {found}")


def open_session(gateway: LocalGateway) -> aiohttp.ClientSession:
    """Return the client of a gateway: it decodes nothing and adds no headers of its own.

    Raises:
        UsageError: The certificate cannot be read.
    """
    trust: ssl.SSLContext | bool = True
    if gateway.certificate is not None:
        try:
            trust = ssl.create_default_context(cafile=gateway.certificate)
        except OSError as error:
            asked = "asked for a certificate in PEM"
            raise UsageError(f"{gateway.certificate}: {asked}: {error}") from error
        trust.check_hostname = False  # it is that of a name, and calls go to an address
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=trust),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S, sock_read=_SILENT_S),
        auto_decompress=False,
        skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding"),
    )
