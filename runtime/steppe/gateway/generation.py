"""One request's way: wait for a place, ask a replica, pass the answer on, try another if it dies.

Another replica is tried only before the first byte went to the client. After it, a stream that
breaks, or that our stop ends, ends with an error event and no `[DONE]`.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial

import aiohttp
from aiohttp import web

from steppe.errors import ReplicaError
from steppe.gateway.gate import AdmissionGate, RefusedError, ReplicaSlot
from steppe.gateway.listener import Listener
from steppe.gateway.openai_error import error_event, in_openai_shape
from steppe.gateway.proxy import (
    Answer,
    ProxyRequest,
    ReplicaLostError,
    ReplicaUnreachableError,
    StreamedAnswer,
    WholeAnswer,
    ask,
)
from steppe.gateway.request_tracker import RequestContext
from steppe.gateway.stream import StreamScanner, find_error_status, read_answer

REQUEST_ID = "X-Request-Id"
SUSPICIOUS_FAILURES = 2
"""So many replicas that failed a request may have been killed by it: it gets no other."""


class ReplicaFailedError(ReplicaError):
    """A replica answered with a 5xx status, or with a stream that begins with such an error."""


class RequestForwarder:
    """Serves requests that take a place at a replica."""

    def __init__(
        self,
        gate: AdmissionGate,
        session: aiohttp.ClientSession,
        max_wait_s: float,
        retry_delays_s: tuple[float, ...],
    ) -> None:
        """Retry a request that a replica failed after each of `retry_delays_s`, then give up."""
        self._gate = gate
        self._session = session
        self._max_wait_s = max_wait_s
        self._retry_delays_s = retry_delays_s

    async def serve(
        self, request: web.Request, exchange: RequestContext, question: ProxyRequest
    ) -> web.StreamResponse:
        """Answer a request, and note in `exchange` how it went.

        Raises:
            RefusedError: There is no place for it, or the gateway is stopping.
            ReplicaLostError: Each try ended with a broken connection.
        """
        for delay_s in self._retry_delays_s:
            try:
                return await self._try(request, exchange, question, is_last=False)
            except (ReplicaFailedError, ReplicaLostError):
                await asyncio.sleep(delay_s)
        return await self._try(request, exchange, question, is_last=True)

    async def _try(
        self,
        request: web.Request,
        exchange: RequestContext,
        question: ProxyRequest,
        *,
        is_last: bool,
    ) -> web.StreamResponse:
        """Ask until a replica takes the request; one that takes no connection costs no try."""
        while True:
            place = await self._enter(exchange)
            route = place.route
            exchange.replica = route.replica
            exchange.began = partial(self._gate.begin, place)
            asked_s = time.monotonic()
            try:
                async with ask(self._session, route, question, place.cord) as answer:
                    if not is_last:
                        _refuse_failure(exchange, answer)
                    return await pass_on(request, exchange, answer)
            except ReplicaUnreachableError:
                self._gate.table.suspect(route)
            except ReplicaError as error:
                exchange.in_vain_s += time.monotonic() - asked_s
                if not isinstance(error, ReplicaFailedError):
                    self._gate.table.suspect(route)
                raise
            finally:
                self._gate.leave(place)

    async def _enter(self, exchange: RequestContext) -> ReplicaSlot:
        deadline_s = exchange.arrival_s + exchange.in_vain_s + self._max_wait_s
        is_again = exchange.replica is not None
        return await self._gate.enter(exchange.ticket, deadline_s, again=is_again)


async def pass_on(
    request: web.Request, exchange: RequestContext, answer: Answer
) -> web.StreamResponse:
    """Send a replica's answer to the client, and note in `exchange` what it told."""
    exchange.status = answer.status
    answer.headers[REQUEST_ID] = exchange.id
    match answer:
        case WholeAnswer():
            told = read_answer(answer.body)
            exchange.usage = told.usage
            exchange.finish = _finish_of(answer.status, told.finish)
            return _whole(answer)
        case StreamedAnswer():
            return await _stream(request, exchange, answer)


def _whole(answer: WholeAnswer) -> web.Response:
    body, headers = answer.body, answer.headers
    if answer.status >= 400 and "Content-Encoding" not in headers:
        body = in_openai_shape(answer.status, body)
        headers["Content-Type"] = "application/json"
    return web.Response(status=answer.status, headers=headers, body=body)


async def _stream(
    request: web.Request, exchange: RequestContext, answer: StreamedAnswer
) -> web.StreamResponse:
    response = web.StreamResponse(status=answer.status, headers=answer.headers)
    scanner = exchange.scanner = StreamScanner(exchange.began)
    try:
        await response.prepare(request)
        with Listener(request, response) as listener:
            await _copy(answer, scanner, listener)
            exchange.end_stream(scanner)
            await listener.end()
    except RefusedError:  # the gateway is stopping
        exchange.cut_off(answer.status)
    except ConnectionResetError:  # ours to the client: those to the replica are ReplicaLostError
        exchange.hang_up()
    return response


async def _copy(answer: StreamedAnswer, scanner: StreamScanner, listener: Listener) -> None:
    chunk = answer.first
    try:
        while chunk:
            lines = scanner.feed(chunk, time.monotonic())
            if lines:
                await listener.write(lines)
            chunk = await answer.rest.read()
        await listener.write(scanner.end(time.monotonic()))
    except (ReplicaLostError, RefusedError) as error:
        if scanner.is_done:  # the client has its answer; only the end of the connection was out
            return
        await listener.write(scanner.break_off(_event_of(error)))
        if isinstance(error, RefusedError):
            raise


def _event_of(error: ReplicaLostError | RefusedError) -> bytes:
    match error:
        case ReplicaLostError():
            return error_event(str(error), type_="server_error", code="replica_lost")
        case RefusedError():
            return error_event(str(error), type_="overloaded", code=error.code)


def _refuse_failure(exchange: RequestContext, answer: Answer) -> None:
    """Raise ReplicaFailedError for a 5xx, unless the request itself may be what kills replicas."""
    status = _status_of(answer)
    if status < 500:
        return
    assert exchange.replica is not None, "a replica answered"
    exchange.failed_at.add(exchange.replica)
    if len(exchange.failed_at) < SUSPICIOUS_FAILURES:
        raise ReplicaFailedError(f"{exchange.replica} answered {status}")


def _status_of(answer: Answer) -> int:
    """Return the status that an answer has, or would have had if it were no stream."""
    match answer:
        case StreamedAnswer():
            return find_error_status(answer.first) or answer.status
        case _:
            return answer.status


def _finish_of(status: int, told: str | None) -> str:
    if status >= 500:
        return "error"
    if status >= 400:
        return "invalid"
    return told or "stop"
