"""Forwards one request: wait for a slot, send it to a replica, relay the response, retry.

A request is retried only before its first byte went to the client. After that, a stream that
breaks, or that the stop of the gateway ends, ends with an error event and no `[DONE]`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial

import aiohttp
from aiohttp import web

from steppe.errors import ReplicaError
from steppe.gateway.client_stream import WRITE_TIMEOUT_S, ClientStream
from steppe.gateway.gate import AdmissionGate, RefusedError, ReplicaSlot
from steppe.gateway.openai_error import error_event, translate_body
from steppe.gateway.replica_client import (
    ProxyRequest,
    ReplicaLostError,
    ReplicaResponse,
    ReplicaUnreachableError,
    StreamedResponse,
    WholeResponse,
    send_request,
)
from steppe.gateway.request import RequestContext
from steppe.gateway.stream import (
    StreamScanner,
    find_client_error,
    find_error_status,
    summarize,
)

REQUEST_ID = "X-Request-Id"
MAX_FAILED_REPLICAS = 2
"""A request that this many replicas failed may be the cause, so it is not retried elsewhere."""


class ReplicaFailedError(ReplicaError):
    """A replica answered with a 5xx status, or with a stream that begins with such an error."""


class RequestForwarder:
    """Forwards requests that need a slot at a replica."""

    def __init__(
        self,
        gate: AdmissionGate,
        session: aiohttp.ClientSession,
        max_wait_s: float,
        retry_delays_s: tuple[float, ...],
        *,
        write_timeout_s: float = WRITE_TIMEOUT_S,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Create a forwarder.

        Args:
            gate: Assigns the slots.
            session: The HTTP client of replicas.
            max_wait_s: Longest wait of a request for a slot, s.
            retry_delays_s: Pauses before each retry of a request that a replica failed, s.
            write_timeout_s: A client that reads nothing for this long is disconnected, s.
            now_s: Reads the monotonic clock, s.
        """
        self._gate = gate
        self._session = session
        self._max_wait_s = max_wait_s
        self._retry_delays_s = retry_delays_s
        self._write_timeout_s = write_timeout_s
        self._now_s = now_s

    async def forward(
        self, request: web.Request, context: RequestContext, proxied: ProxyRequest
    ) -> web.StreamResponse:
        """Respond to a request, and record the result in `context`.

        Raises:
            RefusedError: There is no slot for it, or the gateway is stopping.
            ReplicaLostError: The connection broke in each try.
        """
        for delay_s in self._retry_delays_s:
            try:
                return await self._try(request, context, proxied, is_last=False)
            except (ReplicaFailedError, ReplicaLostError):
                await asyncio.sleep(delay_s)
        return await self._try(request, context, proxied, is_last=True)

    async def _try(
        self, request: web.Request, context: RequestContext, proxied: ProxyRequest, *, is_last: bool
    ) -> web.StreamResponse:
        """Send the request once; a replica that takes no connection does not count as a try."""
        while True:
            slot = await self._enter(context)
            route = slot.route
            context.replica, context.is_at_replica = route.replica, True
            context.on_first_text = partial(self._gate.begin, slot)
            sent_s = self._now_s()
            try:
                async with send_request(self._session, route, proxied, slot.scope) as response:
                    if not is_last:
                        _raise_failure(context, response)
                    return await relay(request, context, response, self._write_timeout_s)
            except ReplicaUnreachableError:
                self._gate.table.suspect(route)
            except ReplicaError as error:
                context.failed_s += self._now_s() - sent_s
                if not isinstance(error, ReplicaFailedError):
                    self._gate.table.suspect(route)
                raise
            finally:
                context.is_at_replica = False
                self._gate.leave(slot)

    async def _enter(self, context: RequestContext) -> ReplicaSlot:
        deadline_s = context.arrival_s + context.failed_s + self._max_wait_s
        is_retry = context.replica is not None
        return await self._gate.enter(
            context.ticket,
            deadline_s,
            context.places,
            streams=context.wants_stream,
            is_retry=is_retry,
        )


async def relay(
    request: web.Request,
    context: RequestContext,
    response: ReplicaResponse,
    write_timeout_s: float = WRITE_TIMEOUT_S,
) -> web.StreamResponse:
    """Send a replica's response to the client, and record its summary in `context`."""
    response = _refused(response)
    context.status = response.status
    response.headers[REQUEST_ID] = context.id
    match response:
        case WholeResponse():
            summary = summarize(response.body)
            context.usage = summary.usage
            context.finish = _finish_of(response.status, summary.finish)
            return _whole(response)
        case StreamedResponse():
            return await _stream(request, context, response, write_timeout_s)


def _refused(response: ReplicaResponse) -> ReplicaResponse:
    """Return the 4xx response that a stream of one error event stands for; others unchanged."""
    if not isinstance(response, StreamedResponse):
        return response
    found = find_client_error(response.first)
    if found is None:
        return response
    status, body = found
    headers = response.headers.copy()
    for name in ("Content-Type", "Content-Length", "Cache-Control"):
        headers.popall(name, None)
    return WholeResponse(status, headers, body)


def _whole(response: WholeResponse) -> web.Response:
    body, headers = response.body, response.headers
    if response.status >= 400 and "Content-Encoding" not in headers:
        body = translate_body(response.status, body)
        headers["Content-Type"] = "application/json"
    return web.Response(status=response.status, headers=headers, body=body)


async def _stream(
    request: web.Request,
    context: RequestContext,
    response: StreamedResponse,
    write_timeout_s: float,
) -> web.StreamResponse:
    sent = web.StreamResponse(status=response.status, headers=response.headers)
    scanner = context.scanner = StreamScanner(context.on_first_text)
    try:
        await sent.prepare(request)
        with ClientStream(request, sent, write_timeout_s, context.tail) as client:
            await _copy(response, scanner, client)
            context.end_stream(scanner)
            await client.end()
    except RefusedError:  # the gateway is stopping
        context.cancel(response.status)
    except ConnectionResetError:  # of the client; that of a replica is a ReplicaLostError
        context.disconnect()
    return sent


async def _copy(response: StreamedResponse, scanner: StreamScanner, client: ClientStream) -> None:
    chunk = response.first
    try:
        while chunk:
            lines = scanner.feed(chunk, time.monotonic())
            if lines:
                await client.write(lines)
            chunk = await response.rest.read()
        await client.write(scanner.end(time.monotonic()))
    except (ReplicaLostError, RefusedError) as error:
        if scanner.is_done:  # the response is complete; only the end of the connection is missing
            return
        await client.write(scanner.break_off(_event_of(error)))
        if isinstance(error, RefusedError):
            raise


def _event_of(error: ReplicaLostError | RefusedError) -> bytes:
    match error:
        case ReplicaLostError():
            return error_event(str(error), type_="server_error", code="replica_lost")
        case RefusedError():
            return error_event(str(error), type_="overloaded", code=error.code)


def _raise_failure(context: RequestContext, response: ReplicaResponse) -> None:
    """Raise ReplicaFailedError for a 5xx, unless the request may be what fails replicas."""
    status = _status_of(response)
    if status < 500:
        return
    assert context.replica is not None, "a replica responded"
    context.failed_at.add(context.replica)
    if len(context.failed_at) < MAX_FAILED_REPLICAS:
        raise ReplicaFailedError(f"{context.replica} answered {status}")


def _status_of(response: ReplicaResponse) -> int:
    """Return the status of a response, or that of the error event its stream begins with."""
    match response:
        case StreamedResponse():
            return find_error_status(response.first) or response.status
        case _:
            return response.status


def _finish_of(status: int, finish: str | None) -> str:
    if status >= 500:
        return "error"
    if status >= 400:
        return "invalid"
    return finish or "stop"
