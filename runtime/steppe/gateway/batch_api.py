"""The Batch API's door: `/v1/files` and `/v1/batches` go to the batch service of the run.

Access control has found the tenant by then. Uploads and results pass through piece by piece, so
that a large file takes no memory here.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from aiohttp import web

from steppe.errors import SteppeError
from steppe.gateway.access import AccessControl
from steppe.gateway.answers import error_answer
from steppe.gateway.bodies import Bodies
from steppe.gateway.run_service import RunService, ServiceSilentError, service_tenant, unavailable
from steppe.tenants.limiter import NO_TOKENS

PATHS = ("/v1/files", "/v1/batches", "/steppe/v1/batches")
FORM_BYTES = 64 << 10
"""What a form may be larger than its file: its other fields, bytes."""
_AWAY = "batch_unavailable"


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
    """Forwards calls of the Batch API."""

    def __init__(
        self,
        limits: UploadLimits | None,
        access: AccessControl,
        bodies: Bodies,
        service: RunService,
    ) -> None:
        """Create it.

        Args:
            limits: What a client may upload; None without a Batch API.
            access: Charges calls to tenants.
            bodies: Reads small bodies.
            service: The batch service.
        """
        self._limits, self._access, self._bodies = limits, access, bodies
        self._service = service
        self._uploads = 0

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Add the routes."""
        for path in PATHS:
            router.add_route("*", path, self.forward)
            router.add_route("*", path + "/{tail:.*}", self.forward)

    async def forward(self, request: web.Request) -> web.StreamResponse:
        """Answer a call with what the service answers."""
        if self._limits is None:
            what = f"{request.method} {request.path}: asked for the Batch API"
            found = "found no section batch in the configuration of this run"
            return _invalid(404, f"{what}, {found}", code="batch_not_configured")
        tenant = service_tenant(request)
        if not self._service.url:
            return unavailable("the batch service is starting", _AWAY)
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
            return unavailable(f"asked for at most {limits.uploads} uploads at one time", _AWAY)
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
        data = body.chunks if isinstance(body, _Upload) else body
        try:
            async with self._service.send(request, tenant, data, limits.answer_s) as answer:
                return await answer.relay(request)
        except ServiceSilentError as error:
            refusal = body.refusal if isinstance(body, _Upload) else None
            return refusal or unavailable(str(error), _AWAY)


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


def _invalid(status: int, message: str, *, code: str, param: str | None = None) -> web.Response:
    return error_answer(status, message, type_="invalid_request_error", code=code, param=param)
