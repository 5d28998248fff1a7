"""A service of the run behind the gateway: calls of clients pass through to it, piece by piece."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import aiohttp
from aiohttp import web
from yarl import URL

from steppe.errors import SteppeError
from steppe.gateway.access import CALLER, NOBODY, TENANT_HEADER, drop_keys
from steppe.gateway.answers import error_answer
from steppe.gateway.replica_client import Headers, end_to_end, open_session
from steppe.gateway.request import request_id

REQUEST_ID = "X-Request-Id"
CONNECT_TIMEOUT_S, METRICS_TIMEOUT_S = 5.0, 1.0
RETRY_AFTER_S = 1

_log = logging.getLogger(__name__)
_TENANT = re.compile(r"[A-Za-z0-9._:@-]{1,128}")

Body = bytes | Callable[[asyncio.Timeout], AsyncIterator[bytes]]
"""A whole body, or what yields one under the time limit of its call, which it may move."""


class ServiceSilentError(SteppeError):
    """A service starts, is gone, or does not answer in time."""


@dataclass(frozen=True, slots=True)
class ServiceAnswer:
    """The answer of a service, whose first bytes have arrived.

    Attributes:
        answer: Its status, its headers and the rest of its body.
        name: Name of the service.
        id: Id of the request.
        first: The first bytes.
        answer_s: Longest time for the next ones, s.
    """

    answer: aiohttp.ClientResponse
    name: str
    id: str
    first: bytes
    answer_s: float

    @property
    def status(self) -> int:
        """Its HTTP status."""
        return self.answer.status

    async def relay(self, request: web.Request) -> web.StreamResponse:
        """Send it on to the client, piece by piece."""
        headers: Headers = end_to_end(self.answer.headers)
        headers[REQUEST_ID] = self.id
        response = web.StreamResponse(status=self.status, headers=headers)
        if self.answer.content_length is not None:
            response.content_length = self.answer.content_length
        await response.prepare(request)
        chunk = self.first
        while chunk:
            await response.write(chunk)
            try:
                async with asyncio.timeout(self.answer_s):
                    chunk = await self.answer.content.readany()
            except (aiohttp.ClientError, OSError) as error:
                _log.warning("the %s service broke off its answer: %r", self.name, error)
                if request.transport is not None:
                    request.transport.abort()  # the client sees that something is missing
                return response
        await response.write_eof()
        return response


class RunService:
    """A service of the run that listens on HTTP.

    Attributes:
        name: Its name in messages.
        url: Where it listens; empty while it starts.
    """

    def __init__(self, name: str, headers: tuple[tuple[str, str], ...] = ()) -> None:
        """Keep it.

        Args:
            name: Its name in messages.
            headers: Headers that every call to it needs: the secret of the run.
        """
        self.name, self.url = name, ""
        self._headers = headers
        self._session: aiohttp.ClientSession | None = None

    @property
    def session(self) -> aiohttp.ClientSession:
        """The HTTP client of the service."""
        if self._session is None:
            self._session = open_session(CONNECT_TIMEOUT_S, self._headers)
        return self._session

    async def stop(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def metrics(self) -> bytes:
        """Return its metrics for Prometheus; nothing while it does not answer."""
        if not self.url:
            return b""
        try:
            async with asyncio.timeout(METRICS_TIMEOUT_S):
                async with self.session.get(self.url + "/metrics") as answer:
                    return await answer.read() if answer.status == 200 else b""
        except (aiohttp.ClientError, OSError, TimeoutError):
            return b""

    @contextlib.asynccontextmanager
    async def send(
        self, request: web.Request, tenant: str, body: Body, answer_s: float
    ) -> AsyncIterator[ServiceAnswer]:
        """Send a call of a client in the name of a tenant; without the keys of the client.

        Args:
            request: The call.
            tenant: The tenant.
            body: Its body.
            answer_s: Longest time in which the service may take no more of the call, and send
                nothing of its answer, s.

        Raises:
            ServiceSilentError: It starts, is gone, or is too slow.
        """
        if not self.url:
            raise ServiceSilentError(f"the {self.name} service is starting")
        headers = end_to_end(request.headers)
        drop_keys(headers)
        id_ = request_id(request.headers.get(REQUEST_ID, ""))
        headers[TENANT_HEADER], headers[REQUEST_ID] = tenant, id_
        url = URL(self.url + request.raw_path, encoded=True)
        async with contextlib.AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(answer_s) as wait:
                    data = (body or None) if isinstance(body, bytes) else body(wait)
                    call = self.session.request(
                        request.method, url, headers=headers, data=data, allow_redirects=False
                    )
                    answer = await stack.enter_async_context(call)
                    first = await answer.content.readany()  # without it, there is no answer
            except (aiohttp.ClientError, OSError) as error:  # TimeoutError is one
                problem = f"the {self.name} service does not answer: {type(error).__name__}"
                raise ServiceSilentError(problem) from error
            yield ServiceAnswer(answer, self.name, id_, first, answer_s)


def service_tenant(request: web.Request) -> str:
    """Return the tenant in whose name a service is called.

    Raises:
        web.HTTPBadRequest: Its name, which any client can invent without keys, is not valid; or
            the client asked for an absolute URL.
    """
    if not request.raw_path.startswith("/"):
        raise web.HTTPBadRequest(text="asked for a path, found an absolute URL")
    tenant: str = request.get(CALLER, NOBODY).tenant.name
    if not _TENANT.fullmatch(tenant):
        asked = f"{TENANT_HEADER}: asked for at most 128 of A-Z a-z 0-9 ._:@-"
        raise web.HTTPBadRequest(text=f"{asked}, found {tenant!r:.150}")
    return tenant


def unavailable(message: str, code: str) -> web.Response:
    """Return a 503 with the time after which the service may answer."""
    answer = error_answer(503, message, type_="overloaded", code=code)
    answer.headers["Retry-After"] = str(RETRY_AFTER_S)
    return answer
