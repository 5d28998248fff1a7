"""Delivers one response to its client, across all replicas that compute parts of it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import replace

from aiohttp import web

from steppe.errors import ReplicaError
from steppe.gateway.answer_so_far import AnswerSoFar, Rejoin
from steppe.gateway.cancel_scope import CancelScope
from steppe.gateway.client_stream import ClientStream, StreamTimes
from steppe.gateway.continuable import (
    PATHS,
    asking_for_ids,
    asking_for_usage,
    continuation,
)
from steppe.gateway.gate_errors import RefusedError
from steppe.gateway.openai_error import error_event, translate_body
from steppe.gateway.replica_client import (
    EVENT_STREAM,
    Headers,
    ProxyRequest,
    ReplicaLostError,
    ReplicaResponse,
    StreamedResponse,
    WholeResponse,
)
from steppe.gateway.replica_slot import ReplicaSlot
from steppe.gateway.request import RequestContext
from steppe.gateway.request_body import with_model
from steppe.gateway.stream import StreamScanner, Usage, before_failure, find_client_error, summarize

REQUEST_ID = "X-Request-Id"
_USAGE_EVENT = re.compile(rb'data:[^\n]*"choices":\s?\[\][^\n]*"usage":\s?\{[^\n]*\n\n')
"""The event with the usage at the end of a stream."""
_COMMENT = re.compile(rb"^:[^\n]*\n\n?", re.MULTILINE)


class Delivery:
    """The response to one request.

    Attributes:
        context: The request; the result is recorded there.
        client: The stream to its client.
        was_here: Whether a replica of this site had it last.
        tried_sites: Other sites that had it, or refused it; it does not go there again.
    """

    def __init__(
        self,
        request: web.Request,
        context: RequestContext,
        proxied: ProxyRequest,
        times: StreamTimes | None = None,
        why_nothing_comes: Callable[[], str] = lambda: "waiting",
    ) -> None:
        """Begin to deliver.

        Args:
            request: The client's request.
            context: The same, as it is tracked.
            proxied: The same, as it goes to replicas.
            times: Time limits of a stream.
            why_nothing_comes: Returns the text of a comment to a stream that waits.
        """
        self.context = context
        self._request, self._proxied = request, proxied
        self._so_far = AnswerSoFar(context.plain) if context.plain is not None else None
        self._scanner = StreamScanner(self._note_first_text)
        self._rejoin: Rejoin | None = None
        self._has_gone_on = self._was_lost = False
        self.tried_sites: set[str] = set()
        self.was_here = self._is_away = False
        self._scope: CancelScope | None = None
        self._hides_usage = False
        self.client = ClientStream(
            request,
            times or StreamTimes(),
            comment=why_nothing_comes if context.wants_stream and times else None,
            on_held=self._give_up if context.wants_stream else lambda: None,
            headers={"Content-Type": f"{EVENT_STREAM}; charset=utf-8", REQUEST_ID: context.id},
            tail=context.tail,
            may_open=None if context.hold is None else context.hold.known,
        )

    @property
    def can_go_on(self) -> bool:
        """Whether another replica can take the request: always before the client has a part."""
        if not self.client.has_begun:
            return True
        return self._so_far is not None and self._so_far.is_known and bool(self._so_far.prompt)

    @property
    def progress(self) -> int:
        """Output tokens that are known so far."""
        return 0 if self._so_far is None else self._so_far.output_tokens

    @property
    def usage(self) -> Usage:
        """The tokens that are known so far."""
        if self.context.usage is not None:
            return self.context.usage
        if self._so_far is not None:
            return self._so_far.usage
        return Usage(0, None, self.context.output_tokens or 0)

    @property
    def headers(self) -> Headers:
        """The headers of the client's request, without its keys."""
        return self._proxied.headers

    def sent_to(self, slot: ReplicaSlot) -> ProxyRequest:
        """Note that a replica gets the request; return what to send to it."""
        slot.can_move = lambda: self.can_go_on
        self.was_here, self._is_away, self._hides_usage = True, False, False
        proxied = self._next(slot.scope)
        proxied.headers[REQUEST_ID] = self.context.engine_id
        return proxied

    def sent_to_site(self, headers: Headers, scope: CancelScope) -> ProxyRequest:
        """Note that another site gets the request; return what to send to it.

        A stream asks for its usage, for the books of both sites. Its client gets it only if it has
        asked for it.

        Args:
            headers: All headers of the call.
            scope: Ends the call.
        """
        self.was_here, self._is_away, proxied = False, True, self._next(scope)
        is_stream = self.context.wants_stream and self._request.path in PATHS
        body = asking_for_usage(proxied.body) if is_stream else proxied.body
        self._hides_usage = body is not proxied.body
        return replace(proxied, headers=headers, body=body)

    def _next(self, scope: CancelScope) -> ProxyRequest:
        """Return what to send next: all that is still missing of the answer."""
        self._scope, self._rejoin, self._has_gone_on = scope, None, False
        so_far, proxied = self._so_far, self._proxied
        if self.context.alias:
            proxied = with_model(proxied, self.context.model)
        if so_far is None:
            return proxied
        if not so_far.prompt:
            return replace(proxied, body=asking_for_ids(proxied.body))
        self._rejoin = Rejoin(so_far)
        body = continuation(proxied.body, so_far.prompt, so_far.output)
        return replace(proxied, body=body)

    async def relay(self, response: ReplicaResponse) -> web.StreamResponse:
        """Send a replica's response to the client, and record its summary.

        Raises:
            ReplicaLostError: The replica is lost; the request goes on elsewhere, or not at all.
            RefusedError: The gateway stops, or the stream was held for too long.
            ConnectionResetError: The client has disconnected.
        """
        response = _refused(response)
        response.headers[REQUEST_ID] = self.context.id
        match response:
            case WholeResponse() if self.client.is_open:
                return await self._end_with(response)
            case WholeResponse():
                return self._send_whole(response)
            case StreamedResponse():
                return await self._stream(response)

    async def break_off(self, error: ReplicaError | RefusedError) -> web.StreamResponse:
        """End a stream that has begun with an error event and without `[DONE]`."""
        sent = self.client.response
        assert sent is not None, "the stream is open"
        self.context.status = sent.status
        await self.client.write(self._scanner.break_off(_event_of(error)))
        self.context.end_stream(self._scanner)
        self._fill_usage()
        if isinstance(error, RefusedError):
            self.context.cancel(sent.status)
        else:
            await self.client.end()
        return sent

    def disconnect(self) -> None:
        """Record that the client has disconnected."""
        self.context.disconnect()
        self._fill_usage()

    def _send_whole(self, response: WholeResponse) -> web.Response:
        summary = summarize(response.body)
        self.context.status = response.status
        self.context.usage = summary.usage
        self.context.finish = _finish_of(response.status, summary.finish)
        body, headers = response.body, response.headers
        if response.status >= 400 and "Content-Encoding" not in headers:
            body = translate_body(response.status, body)
            headers["Content-Type"] = "application/json"
        return web.Response(status=response.status, headers=headers, body=body)

    async def _end_with(self, response: WholeResponse) -> web.StreamResponse:
        """End a stream whose headers are sent with the error that a replica answered."""
        sent = self.client.response
        assert sent is not None, "the stream is open"
        self.context.scanner, self.context.status = self._scanner, sent.status
        body = translate_body(response.status, response.body)
        await self.client.write(self._scanner.break_off(b"event: error\ndata: " + body + b"\n\n"))
        self.context.end_stream(self._scanner)
        self.context.finish = _finish_of(response.status, None)
        await self.client.end()
        return sent

    async def _stream(self, response: StreamedResponse) -> web.StreamResponse:
        self.context.scanner = self._scanner
        sent = await self.client.open(response.status, response.headers)
        self.context.status = sent.status
        await self._copy(response)
        self.context.end_stream(self._scanner)
        self._fill_usage()
        await self.client.end()
        return sent

    async def _copy(self, response: StreamedResponse) -> None:
        """Pass the events of a replica on; return once the answer is complete."""
        chunk = response.first
        try:
            while chunk:
                lines = self._scanner.feed(chunk, time.monotonic())
                if lines:
                    await self._pass_on(lines)
                chunk = await response.rest.read()
            await self._pass_on(self._scanner.end(time.monotonic()))
            if self._so_far is not None and self.can_go_on and not self._scanner.is_done:
                raise ReplicaLostError("the replica ended its response before [DONE]")
        except (ReplicaLostError, RefusedError):
            if self._scanner.is_done:  # complete; only the end of the connection is missing
                return
            if self._so_far is None or not self.can_go_on:
                raise
            self._was_lost = True
            self._scanner.go_on()
            if self._scanner.finish is None:
                raise
            # All text has passed, so there is nothing that another replica could compute.
            await self.client.write(self._scanner.feed(self._so_far.closing(), time.monotonic()))

    async def _pass_on(self, lines: bytes) -> None:
        if self._is_away:
            lines = self._without_comments(lines)
        if self._so_far is None or not lines:
            await self._write(lines)
            return
        before = before_failure(lines) if self._scanner.is_broken else None
        if before is None or not (before or self.client.has_begun):
            before = lines
        events = before if self._rejoin is None else self._rejoin.feed(before)
        if events:
            await self._write(self._so_far.feed(events))
            self._note_continued()
        if len(before) == len(lines):
            return
        if not self.can_go_on:
            await self._write(lines[len(before) :])
            return
        self._scanner.go_on()
        raise ReplicaLostError("the engine failed in the middle of a response")

    def _without_comments(self, lines: bytes) -> bytes:
        """Return what another site sends but its comments: they are no part of the answer.

        The client gets those of this site while it waits.

        Raises:
            ReplicaLostError: The site gives up, and the client has got nothing from there.
        """
        if self._scanner.is_broken and not self.client.has_begun:
            self._scanner.go_on()
            raise ReplicaLostError("the other site gave up before the first event")
        has_comments = lines.startswith(b":") or b"\n:" in lines
        return _COMMENT.sub(b"", lines) if has_comments else lines

    def _note_continued(self) -> None:
        """Count a stream that goes on, with its first new event."""
        if self._rejoin is not None and not self._has_gone_on:
            self._has_gone_on = True
            self.context.continued += 1
            self.context.on_first_text()

    def _note_first_text(self) -> None:
        self.context.on_first_text()  # it is another one at each replica

    async def _write(self, lines: bytes) -> None:
        if self._hides_usage and b'"usage"' in lines:
            lines = _USAGE_EVENT.sub(b"", lines)
        if lines:
            await self.client.write(lines)

    def _fill_usage(self) -> None:
        """Record the tokens of a stream that was lost: its engines know of their parts alone.

        Those of another site are in no counter of this one.
        """
        is_unknown = self._was_lost or self.context.site
        if is_unknown and self.context.usage is None and self._so_far is not None:
            self.context.usage = self._so_far.usage

    def _give_up(self) -> None:
        """End a stream that was held for as long as allowed."""
        if self._scope is not None:
            message = "nothing came for as long as a stream may be held"
            self._scope.cancel(RefusedError(message, "held_too_long"))


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


def _event_of(error: ReplicaError | RefusedError) -> bytes:
    match error:
        case RefusedError():
            return error_event(str(error), type_="overloaded", code=error.code)
        case _:
            return error_event(str(error), type_="server_error", code="replica_lost")


def _finish_of(status: int, finish: str | None) -> str:
    if status >= 500:
        return "error"
    if status >= 400:
        return "invalid"
    return finish or "stop"
