"""Tracks requests from arrival to end, and counts them."""

from __future__ import annotations

import re
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from steppe.control.admission import DEFERRABLE, PRIORITIES, Ticket
from steppe.gateway.stream import StreamScanner, Usage

FAILED = frozenset({"error", "abort"})
REFUSED = frozenset({"rejected", "shed"})

ID_REUSE_S = 90.0
"""An id that a replica had is not used again for this long after its end, s: its last steps may be
reported late, and are charged by then."""

_VALID_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_RATE_WINDOW_S = 10.0


@dataclass(frozen=True, slots=True)
class ClientHeaders:
    """The headers of a request that the gateway uses.

    Attributes:
        tenant: `x-steppe-tenant`, or `default`.
        priority: `x-steppe-priority`, one of `PRIORITIES`, or `standard`.
        request_id: `x-request-id`, or an empty text.
    """

    tenant: str
    priority: str
    request_id: str


@dataclass(frozen=True, slots=True)
class FinishedRequest:
    """The result of one request.

    Attributes:
        id: Its id, unique among outstanding and recent requests; vLLM's own is `chatcmpl-<id>` or
            `cmpl-<id>`.
        tenant: The tenant.
        priority: One of `PRIORITIES`.
        arrival_s: When its headers arrived, s since the gateway started (monotonic).
        arrival_epoch_s: The same, s since the Unix epoch.
        ttft_s: Arrival to the first streamed event with generated text (or, without text, with a
            finish reason), waiting included; None if the response was not a stream.
        e2e_s: Arrival to the last byte, s.
        prompt_tokens: From the replica's `usage`; None without one. The next two also.
        cached_tokens: Prompt tokens found in the prefix cache.
        output_tokens: Tokens generated.
        finish: The replica's finish reason, `other` if it is unknown; `cancelled`: the client
            disconnected, or the gateway stopped; `invalid`: a 4xx response; `abort`: aborted by
            the engine; `error`: the replica failed; `rejected`: refused on arrival; `shed`:
            refused after waiting.
        status: HTTP status sent; 499 if the client disconnected.
        replica: The last replica that had it; None if none did.
        streamed: Whether the client asked for an event stream.
    """

    id: str
    tenant: str
    priority: str
    arrival_s: float
    arrival_epoch_s: float
    ttft_s: float | None
    e2e_s: float
    prompt_tokens: int | None
    cached_tokens: int | None
    output_tokens: int | None
    finish: str
    status: int
    replica: str | None
    streamed: bool


@dataclass(frozen=True, slots=True)
class GatewayStatus:
    """The gateway's counts for the controller.

    Attributes:
        waiting: Requests that wait for a slot at a replica.
        outstanding: Requests of each replica, draining ones included.
        arrived: Requests so far; `arrived - finished` are waiting or outstanding.
        finished: Requests that ended so far, in any way.
        failed: Finished requests that a replica failed (`error`, `abort`).
        refused: Finished requests with a 503 (`rejected`, `shed`).
        answered: Finished requests that a replica had.
        deferrable_arrived: Requests so far of class `deferrable`.
        deferrable_waiting: Waiting requests of class `deferrable`.
    """

    waiting: int
    outstanding: dict[str, int]
    arrived: int
    finished: int
    failed: int
    refused: int
    answered: int
    deferrable_arrived: int = 0
    deferrable_waiting: int = 0


@dataclass(slots=True)
class RequestContext:
    """One open request; times are `time.monotonic`, s.

    Attributes:
        id: Its id.
        headers: The headers that the gateway uses.
        ticket: Its position in the queue.
        arrival_s: When its headers arrived, s.
        wants_stream: Whether the client asked for an event stream.
        replica: The last replica that had it; None before the first.
        status: HTTP status to record.
        finish: How it ended, as in `FinishedRequest`.
        usage: The replica's `usage`, if any.
        scanner: The scanner of its event stream, if any.
        on_first_text: Called when the first generated text has passed.
        failed_at: Replicas that answered it with a 5xx.
        failed_s: Time spent at replicas that failed, s; it does not count as waiting.
    """

    id: str
    headers: ClientHeaders
    ticket: Ticket
    arrival_s: float
    wants_stream: bool = False
    replica: str | None = None
    status: int = 500
    finish: str = "error"
    usage: Usage | None = None
    scanner: StreamScanner | None = None
    on_first_text: Callable[[], None] = lambda: None
    failed_at: set[str] = field(default_factory=set)
    failed_s: float = 0.0

    def end_stream(self, scanner: StreamScanner) -> None:
        """Record the usage and the outcome of a stream."""
        self.usage = scanner.usage
        self.finish = scanner.outcome

    def disconnect(self) -> None:
        """Record that the client disconnected; no effect after `[DONE]`."""
        self.cancel(499)

    def cancel(self, status: int) -> None:
        """Record that the response ends here, no replica's fault; no effect after `[DONE]`."""
        if self.scanner is not None:
            self.end_stream(self.scanner)
            if self.scanner.is_done:
                return
        self.finish = "cancelled"
        self.status = status


class RateWindow:
    """The rate of an event over the last 10 s."""

    def __init__(self, started_s: float) -> None:
        self._started_s = started_s
        self._times_s: deque[float] = deque()

    def add(self, now_s: float) -> None:
        """Record one event."""
        self._times_s.append(now_s)
        self._forget(now_s)

    def per_s(self, now_s: float) -> float:
        """Return the mean rate, 1/s; since the start if that was less than 10 s ago."""
        self._forget(now_s)
        return len(self._times_s) / min(_RATE_WINDOW_S, max(1.0, now_s - self._started_s))

    def _forget(self, now_s: float) -> None:
        while self._times_s and self._times_s[0] < now_s - _RATE_WINDOW_S:
            self._times_s.popleft()


class RequestTracker:
    """Counts requests, and keeps finished ones until they are fetched.

    Attributes:
        ends: Rate of ends of requests that a replica had; each frees a slot.
    """

    def __init__(self, started_s: float, started_epoch_s: float, ttft_s: float) -> None:
        """Start counting.

        Args:
            started_s: The present time, s on the monotonic clock.
            started_epoch_s: The present time, s since the Unix epoch.
            ttft_s: Longest time to the first token of the SLO, s.
        """
        self.ends = RateWindow(started_s)
        self._started_s = started_s
        self._started_epoch_s, self._ttft_s = started_epoch_s, ttft_s
        self._arrived = self._finished = self._failed = self._refused = self._answered = 0
        self._deferrable_arrived = 0
        self._open: dict[str, RequestContext] = {}
        self._ended_s: dict[str, float] = {}  # of ids not to use again yet, oldest first
        self._unfetched: list[FinishedRequest] = []

    def open(
        self, headers: ClientHeaders, now_s: float, *, wants_stream: bool = False
    ) -> RequestContext:
        """Start tracking a request; it keeps the id of its headers if that is valid and unused."""
        self._arrived += 1
        id_ = request_id(headers.request_id)
        if id_ in self._open or self._is_recent(id_, now_s):
            id_ = uuid.uuid4().hex
        rank = PRIORITIES.index(headers.priority)
        self._deferrable_arrived += rank == DEFERRABLE
        ticket = Ticket.of(rank, self._arrived, now_s, self._ttft_s)
        context = RequestContext(id_, headers, ticket, now_s, wants_stream)
        self._open[id_] = context
        return context

    def close(self, context: RequestContext, now_s: float) -> FinishedRequest:
        """Record the end of a request."""
        self._open.pop(context.id, None)
        if context.replica is not None:
            self._ended_s[context.id] = now_s
        finished = self._finish(context, now_s)
        is_refused, is_answered = finished.finish in REFUSED, finished.replica is not None
        self._finished += 1
        self._failed += finished.finish in FAILED
        self._refused += is_refused
        self._answered += is_answered
        if is_answered and not is_refused:
            self.ends.add(now_s)
        self._unfetched.append(finished)
        return finished

    def drain(self) -> list[FinishedRequest]:
        """Return the requests that finished since the last call."""
        finished, self._unfetched = self._unfetched, []
        return finished

    def unfinished(self, now_s: float) -> list[FinishedRequest]:
        """Return the open requests as cancelled, for a record that ends now; they go on."""
        return [
            self._finish(replace(context, finish="cancelled", status=499), now_s)
            for context in self._open.values()
        ]

    def status(
        self, waiting: int, deferrable_waiting: int, outstanding: dict[str, int]
    ) -> GatewayStatus:
        """Return the counts for the controller."""
        return GatewayStatus(
            waiting=waiting,
            outstanding=outstanding,
            arrived=self._arrived,
            finished=self._finished,
            failed=self._failed,
            refused=self._refused,
            answered=self._answered,
            deferrable_arrived=self._deferrable_arrived,
            deferrable_waiting=deferrable_waiting,
        )

    def _is_recent(self, id_: str, now_s: float) -> bool:
        """Return whether an id ended less than `ID_REUSE_S` ago."""
        while self._ended_s and next(iter(self._ended_s.values())) <= now_s - ID_REUSE_S:
            del self._ended_s[next(iter(self._ended_s))]
        return id_ in self._ended_s

    def _finish(self, context: RequestContext, now_s: float) -> FinishedRequest:
        usage, scanner = context.usage, context.scanner
        first_s = None if scanner is None else scanner.first_text_s
        arrival_s = context.arrival_s - self._started_s
        return FinishedRequest(
            id=context.id,
            tenant=context.headers.tenant,
            priority=context.headers.priority,
            arrival_s=arrival_s,
            arrival_epoch_s=self._started_epoch_s + arrival_s,
            ttft_s=None if first_s is None else first_s - context.arrival_s,
            e2e_s=now_s - context.arrival_s,
            prompt_tokens=None if usage is None else usage.prompt_tokens,
            cached_tokens=None if usage is None else usage.cached_tokens,
            output_tokens=None if usage is None else usage.output_tokens,
            finish=context.finish,
            status=context.status,
            replica=context.replica,
            streamed=context.wants_stream or scanner is not None,
        )


def request_id(wanted: str) -> str:
    """Return the id if it is valid (letters, digits, `._:-`, at most 128), else a new one."""
    return wanted if _VALID_ID.fullmatch(wanted) else uuid.uuid4().hex
