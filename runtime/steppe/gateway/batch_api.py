"""The Batch API's door: `/v1/files` and `/v1/batches` go to the batch service of the run.

Access control has found the tenant by then. Uploads and results pass through piece by piece, so
that a large file takes no memory here.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import aiohttp
from aiohttp import web
from yarl import URL

from steppe.errors import SteppeError
from steppe.gateway.access import CALLER, NOBODY, TENANT_HEADER, AccessControl, drop_keys
from steppe.gateway.answers import error_answer
from steppe.gateway.bodies import Bodies
from steppe.gateway.replica_client import Headers, end_to_end, open_session
from steppe.gateway.request import request_id
from steppe.tenants.limiter import NO_TOKENS

PATHS = ("/v1/files", "/v1/batches", "/steppe/v1/batches")
REQUEST_ID = "X-Request-Id"
FORM_BYTES = 64 << 10
"""What a form may be larger than its file: its other fields, bytes."""
CONNECT_TIMEOUT_S, METRICS_TIMEOUT_S = 5.0, 1.0
RETRY_AFTER_S = 1

_log = logging.getLogger(__name__)
_TENANT = re.compile(r"[A-Za-z0-9._:@-]{1,128}")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """What a client may upload, and how long the service may take.

    Attributes:
        file_bytes: Largest file, bytes.
        uploads: Most uploads at one time.
        idle_s: Longest time in which an upload may bring nothing, s.
        answer_s: Longest time in which the service may take no more of a call, and send nothing of
            its answer, s.
    """

    file_bytes: int = 200 << 20
    uploads: int = 8
    idle_s: float = 30.0
    answer_s: float = 60.0


class BatchApi:
    """Forwards calls of the Batch API.

    Attributes:
        url: Where the service listens; empty while it starts.
    """

    def __init__(
        self,
        limits: UploadLimits | None,
        access: AccessControl,
        bodies: Bodies,
        service_headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        """Create it.

        Args:
            limits: What a client may upload; None without a Batch API.
            access: Charges calls to tenants.
            bodies: Reads small bodies.
            service_headers: Headers that every call to the service needs: the secret of the run.
        """
        self._limits, self._access, self._bodies = limits, access, bodies
        self._headers = service_headers
        self._session: aiohttp.ClientSession | None = None
        self._uploads = 0
        self.url = ""

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Add the routes."""
        for path in PATHS:
            router.add_route("*", path, self.forward)
            router.add_route("*", path + "/{tail:.*}", self.forward)

    async def stop(self) -> None:
        """Close the connections to the service."""
        if self._session is not None:
            await self._session.close()

    async def metrics(self) -> bytes:
        """Return the metrics of the service for Prometheus; nothing while it does not answer."""
        if not self.url:
            return b""
        try:
            async with asyncio.timeout(METRICS_TIMEOUT_S):
                async with self._opened.get(self.url + "/metrics") as answer:
                    return await answer.read() if answer.status == 200 else b""
        except (aiohttp.ClientError, OSError, TimeoutError):
            return b""

    async def forward(self, request: web.Request) -> web.StreamResponse:
        """Answer a call with what the service answers."""
        if not request.raw_path.startswith("/"):
            raise web.HTTPBadRequest(text="asked for a path, found an absolute URL")
        if self._limits is None:
            what = f"{request.method} {request.path}: asked for the Batch API"
            found = "found no section batch in the configuration of this run"
            return _invalid(404, f"{what}, {found}", code="batch_not_configured")
        tenant = request.get(CALLER, NOBODY).tenant.name
        if not _TENANT.fullmatch(tenant):
            asked = f"{TENANT_HEADER}: asked for at most 128 of A-Z a-z 0-9 ._:@-"
            raise web.HTTPBadRequest(text=f"{asked}, found {tenant!r:.150}")
        if not self.url:
            return _unavailable("the batch service is starting")
        if request.method != "POST":
            return await self._send(request, tenant, b"", self._limits)
        charge = await self._access.admit(request, NO_TOKENS)
        try:
            if request.path.rstrip("/") == PATHS[0]:
                return await self._upload(request, tenant, self._limits)
            body = await self._bodies.read(request)
            return await self._send(request, tenant, body, self._limits)
        finally:
            self._access.finish(charge)

    async def _upload(
        self, request: web.Request, tenant: str, limits: UploadLimits
    ) -> web.StreamResponse:
        if self._uploads >= limits.uploads:
            return _unavailable(f"asked for at most {limits.uploads} uploads at one time")
        upload = _Upload(request, limits)
        if (request.content_length or 0) > upload.most_bytes:
            return upload.too_large(request.content_length or 0)
        self._uploads += 1
        try:
            return await self._send(request, tenant, upload, limits)
        finally:
            self._uploads -= 1

    async def _send(
        self, request: web.Request, tenant: str, body: bytes | _Upload, limits: UploadLimits
    ) -> web.StreamResponse:
        """Send a call to the service; an upload that broke off has its own answer."""
        headers = end_to_end(request.headers)
        drop_keys(headers)
        id_ = request_id(request.headers.get(REQUEST_ID, ""))
        headers[TENANT_HEADER], headers[REQUEST_ID] = tenant, id_
        url = URL(self.url + request.raw_path, encoded=True)
        try:
            async with contextlib.AsyncExitStack() as stack:
                async with asyncio.timeout(limits.answer_s) as wait:
                    data = body.chunks(wait) if isinstance(body, _Upload) else body or None
                    call = self._opened.request(
                        request.method, url, headers=headers, data=data, allow_redirects=False
                    )
                    answer = await stack.enter_async_context(call)
                    first = await answer.content.readany()  # without it, the answer is a 503
                return await _relay(request, answer, id_, first, limits.answer_s)
        except (aiohttp.ClientError, OSError) as error:  # TimeoutError is one
            problem = f"the batch service does not answer: {type(error).__name__}"
            refusal = body.refusal if isinstance(body, _Upload) else None
            return refusal or _unavailable(problem)

    @property
    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = open_session(CONNECT_TIMEOUT_S, self._headers)
        return self._session


class _LimitError(SteppeError):
    """An upload reached a limit, so the call to the service is broken off."""


class _Upload:
    """A body that passes through, within limits.

    Attributes:
        most_bytes: Largest body, bytes.
        refusal: The answer if it was broken off; None before.
    """

    def __init__(self, request: web.Request, limits: UploadLimits) -> None:
        self._request, self._limits = request, limits
        self.most_bytes = limits.file_bytes + FORM_BYTES
        self.refusal: web.Response | None = None

    async def chunks(self, wait: asyncio.Timeout) -> AsyncIterator[bytes]:
        """Yield the body as it arrives.

        Args:
            wait: The limit of the call; it stands still while the client is waited for, and begins
                anew with each chunk.

        Raises:
            _LimitError: At a limit; `refusal` is set.
        """
        read = 0
        while chunk := await self._next_chunk(wait):
            read += len(chunk)
            if read > self.most_bytes:
                self.refusal = self.too_large(read)
                raise _LimitError("the file is too large")
            yield chunk

    async def _next_chunk(self, wait: asyncio.Timeout) -> bytes:
        _reschedule(wait, None)
        try:
            async with asyncio.timeout(self._limits.idle_s):
                return await self._request.content.readany()
        except TimeoutError as error:
            message = f"asked for the rest of the file within {self._limits.idle_s:g} s"
            self.refusal = _invalid(408, message, code="request_timeout")
            raise _LimitError(message) from error
        finally:
            _reschedule(wait, asyncio.get_running_loop().time() + self._limits.answer_s)

    def too_large(self, found: int) -> web.Response:
        """Return the answer to a body of this size, bytes."""
        asked = f"asked for a file of at most {self._limits.file_bytes} bytes"
        message = f"file: {asked}, found at least {found - FORM_BYTES}"
        return _invalid(413, message, code="file_too_large", param="file")


def _reschedule(wait: asyncio.Timeout, when_s: float | None) -> None:
    """Move a limit that still counts; the service may have answered before the end of an upload."""
    with contextlib.suppress(RuntimeError):
        wait.reschedule(when_s)


async def _relay(
    request: web.Request, answer: aiohttp.ClientResponse, id_: str, chunk: bytes, answer_s: float
) -> web.StreamResponse:
    """Send the answer of the service on, piece by piece, from its first chunk."""
    headers: Headers = end_to_end(answer.headers)
    headers[REQUEST_ID] = id_
    response = web.StreamResponse(status=answer.status, headers=headers)
    if answer.content_length is not None:
        response.content_length = answer.content_length
    await response.prepare(request)
    while chunk:
        await response.write(chunk)
        try:
            async with asyncio.timeout(answer_s):
                chunk = await answer.content.readany()
        except (aiohttp.ClientError, OSError) as error:
            _log.warning("the batch service broke off its answer: %r", error)
            if request.transport is not None:
                request.transport.abort()  # the client sees that something is missing
            return response
    await response.write_eof()
    return response


def _invalid(status: int, message: str, *, code: str, param: str | None = None) -> web.Response:
    return error_answer(status, message, type_="invalid_request_error", code=code, param=param)


def _unavailable(message: str) -> web.Response:
    answer = error_answer(503, message, type_="overloaded", code="batch_unavailable")
    answer.headers["Retry-After"] = str(RETRY_AFTER_S)
    return answer
