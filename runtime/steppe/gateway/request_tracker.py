"""What became of each request, and how many there are."""

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

ID_RESTS_S = 90.0
"""An id that a replica has had is given again so long after its end, s: its last steps may be told
of later, and by then they are settled."""

_SANE_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_RATE_WINDOW_S = 10.0


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, and how urgently.

    Attributes:
        tenant: Header `x-steppe-tenant`, or `default`.
        priority: Header `x-steppe-priority`, one of `PRIORITIES`, or `standard`.
        wanted_id: Header `x-request-id`, if there was one.
    """

    tenant: str
    priority: str
    wanted_id: str


@dataclass(frozen=True, slots=True)
class FinishedRequest:
    """What became of one request.

    Attributes:
        id: Its id, unique among the outstanding and those that ended of late; vLLM's own is
            `chatcmpl-<id>` or `cmpl-<id>`.
        tenant: Who asked.
        priority: One of `PRIORITIES`.
        arrival_s: When its headers had come, s since the gateway started (monotonic).
        arrival_epoch_s: The same, s since the Unix epoch.
        ttft_s: From arrival to the first streamed event with generated text (if none has text: with
            a finish reason), waiting included; nothing when it was not streamed.
        e2e_s: From arrival to the last byte, s.
        prompt_tokens: From the replica's `usage`; nothing when none passed. So the next two.
        cached_tokens: Those of the prompt tokens that came from the prefix cache.
        output_tokens: Tokens generated.
        finish: `stop`, `length`, `tool_calls`... as the replica said, `other` where its word is not
            known; `cancelled`: the client hung up, or the gateway stopped; `invalid`: answered with
            a 4xx; `abort`: the engine gave it up; `error`: the replica failed; `rejected`: refused
            on arrival; `shed`: refused after waiting.
        status: HTTP status sent; 499 when the client hung up.
        replica: Who answered last.
        streamed: Whether the answer was an event stream.
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
    """What a controller wants to know each tick.

    Attributes:
        waiting: Requests that wait for a place at a replica.
        outstanding: Requests that each replica has, those still draining included.
        arrived: Requests so far; `arrived - finished` are waiting or outstanding.
        finished: Requests that ended so far, in whatever way.
        failed: Those of them that a replica failed (`error`, `abort`).
        refused: Those of them that got a 503 (`rejected`, `shed`).
        answered: Those of the finished that a replica had.
        deferrable_arrived: Those of the requests so far that are of class `deferrable`.
        deferrable_waiting: Those of the waiting that are.
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
    """One request while it lives; times are `time.monotonic`, s.

    `began` is to be called when the first generated text has passed; `failed_at` are the replicas
    that answered with a 5xx; `in_vain_s` is the time at replicas that failed, in which it did not
    wait.
    """

    id: str
    caller: Caller
    ticket: Ticket
    arrival_s: float
    replica: str | None = None
    status: int = 500
    finish: str = "error"
    usage: Usage | None = None
    scanner: StreamScanner | None = None
    began: Callable[[], None] = lambda: None
    failed_at: set[str] = field(default_factory=set)
    in_vain_s: float = 0.0

    def end_stream(self, scanner: StreamScanner) -> None:
        """Note how a stream ended by what passed of it."""
        self.usage = scanner.usage
        self.finish = scanner.outcome

    def hang_up(self) -> None:
        """Note that the client has gone; after `[DONE]` that changes nothing."""
        self.cut_off(499)

    def cut_off(self, status: int) -> None:
        """Note that the answer ends here, no replica's fault; nothing changes after `[DONE]`."""
        if self.scanner is not None:
            self.end_stream(self.scanner)
            if self.scanner.is_done:
                return
        self.finish = "cancelled"
        self.status = status


class RateWindow:
    """How often something happened over the last 10 s."""

    def __init__(self, started_s: float) -> None:
        self._started_s = started_s
        self._times_s: deque[float] = deque()

    def add(self, now_s: float) -> None:
        """Note that it happened."""
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
    """Counts requests and keeps what became of them until it is fetched.

    Attributes:
        ends: Rate of ends of what replicas had: each gives its place to one who waits.
    """

    def __init__(self, started_s: float, started_epoch_s: float, ttft_s: float) -> None:
        """Start counting.

        Args:
            started_s: Now, s on the monotonic clock.
            started_epoch_s: Now, s since the Unix epoch.
            ttft_s: The SLO's longest time to the first token, s.
        """
        self.ends = RateWindow(started_s)
        self._started_s = started_s
        self._started_epoch_s, self._ttft_s = started_epoch_s, ttft_s
        self._arrived = self._finished = self._failed = self._refused = self._answered = 0
        self._deferrable_arrived = 0
        self._open: dict[str, RequestContext] = {}
        self._ended_s: dict[str, float] = {}  # of ids that rest, in this order
        self._fresh: list[FinishedRequest] = []

    def open(self, caller: Caller, now_s: float) -> RequestContext:
        """Take in a request; it keeps the id it wants if that is sane and free."""
        self._arrived += 1
        id_ = request_id(caller.wanted_id)
        if id_ in self._open or self._rests(id_, now_s):
            id_ = uuid.uuid4().hex
        rank = PRIORITIES.index(caller.priority)
        self._deferrable_arrived += rank == DEFERRABLE
        ticket = Ticket.of(rank, self._arrived, now_s, self._ttft_s)
        exchange = RequestContext(id=id_, caller=caller, ticket=ticket, arrival_s=now_s)
        self._open[id_] = exchange
        return exchange

    def close(self, exchange: RequestContext, now_s: float) -> FinishedRequest:
        """Note the end of a request."""
        self._open.pop(exchange.id, None)
        if exchange.replica is not None:
            self._ended_s[exchange.id] = now_s
        ended = self._record(exchange, now_s)
        is_refused, is_answered = ended.finish in REFUSED, ended.replica is not None
        self._finished += 1
        self._failed += ended.finish in FAILED
        self._refused += is_refused
        self._answered += is_answered
        if is_answered and not is_refused:
            self.ends.add(now_s)
        self._fresh.append(ended)
        return ended

    def drain(self) -> list[FinishedRequest]:
        """Return what ended since the last call."""
        fresh, self._fresh = self._fresh, []
        return fresh

    def cut_short(self, now_s: float) -> list[FinishedRequest]:
        """Return what has no end yet as cancelled, for who writes no further; it goes on here."""
        return [
            self._record(replace(exchange, finish="cancelled", status=499), now_s)
            for exchange in self._open.values()
        ]

    def status(
        self, waiting: int, deferrable_waiting: int, outstanding: dict[str, int]
    ) -> GatewayStatus:
        """Return what a controller wants to know."""
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

    def _rests(self, id_: str, now_s: float) -> bool:
        """Tell whether an id ended too short a time ago to be given again."""
        while self._ended_s and next(iter(self._ended_s.values())) <= now_s - ID_RESTS_S:
            del self._ended_s[next(iter(self._ended_s))]
        return id_ in self._ended_s

    def _record(self, exchange: RequestContext, now_s: float) -> FinishedRequest:
        usage, scanner = exchange.usage, exchange.scanner
        e2e_s = now_s - exchange.arrival_s
        first_s = None if scanner is None else scanner.first_text_s
        ttft_s = None if first_s is None else first_s - exchange.arrival_s
        arrival_s = exchange.arrival_s - self._started_s
        return FinishedRequest(
            id=exchange.id,
            tenant=exchange.caller.tenant,
            priority=exchange.caller.priority,
            arrival_s=arrival_s,
            arrival_epoch_s=self._started_epoch_s + arrival_s,
            ttft_s=ttft_s,
            e2e_s=e2e_s,
            prompt_tokens=None if usage is None else usage.prompt_tokens,
            cached_tokens=None if usage is None else usage.cached_tokens,
            output_tokens=None if usage is None else usage.output_tokens,
            finish=exchange.finish,
            status=exchange.status,
            replica=exchange.replica,
            streamed=scanner is not None,
        )


def request_id(wanted: str) -> str:
    """Return the wanted id if it is sane (letters, digits, `._:-`, at most 128), else a new one."""
    return wanted if _SANE_ID.fullmatch(wanted) else uuid.uuid4().hex
