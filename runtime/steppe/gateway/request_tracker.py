"""Tracks requests from arrival to end, and counts them."""

from __future__ import annotations

import uuid
from collections import deque
from dataclasses import dataclass, field, replace

from steppe.control.admission import DEFERRABLE, PRIORITIES, Ticket
from steppe.control.measurements import LatencyCounts
from steppe.gateway.prompt_size import UNKNOWN_SIZE, PromptSize, PromptTotals
from steppe.gateway.request import (
    FAILED,
    REFUSED,
    ClientHeaders,
    FinishedRequest,
    RequestContext,
    request_id,
)
from steppe.gateway.slo_counts import SloCounts

ID_REUSE_S = 90.0
"""An id that a replica had is not used again for this long after its end, s: its last steps may be
reported late, and are charged by then."""

_RATE_WINDOW_S = 10.0


@dataclass(frozen=True, slots=True)
class GatewayStatus:
    """The gateway's counts for the controller.

    Attributes:
        waiting: Requests that wait for a slot at a replica; one with several sequences, as with
            `n`, counts with each of them.
        outstanding: Requests of each replica, draining ones included, counted in the same way.
        arrived: Requests so far; `arrived - finished` are waiting or outstanding, each once.
        finished: Requests that ended so far, in any way.
        failed: Finished requests that a replica failed (`error`, `abort`).
        refused: Finished requests with a 503 (`rejected`, `shed`).
        answered: Finished requests that a replica had.
        deferrable_arrived: Requests so far of class `deferrable`.
        deferrable_waiting: Waiting requests of class `deferrable`.
        prompt_tokens: Prompt tokens of all requests so far, see `PromptTotals`: it may fall.
        cached_tokens: Those of them that the prefix cache held.
        latency: Requests against the SLO.
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
    prompt_tokens: int = 0
    cached_tokens: int = 0
    latency: LatencyCounts = field(default_factory=LatencyCounts)


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

    def __init__(
        self, started_s: float, started_epoch_s: float, ttft_s: float, tpot_s: float
    ) -> None:
        """Start counting.

        Args:
            started_s: The present time, s on the monotonic clock.
            started_epoch_s: The present time, s since the Unix epoch.
            ttft_s: Longest time to the first token of the SLO, s.
            tpot_s: Longest mean time per output token of the SLO, s.
        """
        self.ends = RateWindow(started_s)
        self._started_s = started_s
        self._started_epoch_s, self._ttft_s = started_epoch_s, ttft_s
        self._prompts, self._slo_counts = PromptTotals(), SloCounts(ttft_s, tpot_s)
        self._arrived = self._finished = self._failed = self._refused = self._answered = 0
        self._deferrable_arrived = 0
        self._open: dict[str, RequestContext] = {}
        self._ended_s: dict[str, float] = {}  # of ids not to use again yet, oldest first
        self._unfetched: list[FinishedRequest] = []

    def open(
        self,
        headers: ClientHeaders,
        now_s: float,
        *,
        wants_stream: bool = False,
        prompt: PromptSize = UNKNOWN_SIZE,
        places: int = 1,
    ) -> RequestContext:
        """Start tracking a request; it keeps the id of its headers if that is valid and unused."""
        self._arrived += 1
        id_ = request_id(headers.request_id)
        if id_ in self._open or self._is_recent(id_, now_s):
            id_ = uuid.uuid4().hex
        rank = PRIORITIES.index(headers.priority)
        self._deferrable_arrived += rank == DEFERRABLE
        ticket = Ticket.of(rank, self._arrived, now_s, self._ttft_s)
        counted = self._prompts.arrive(prompt)
        context = RequestContext(
            id_, headers, ticket, now_s, wants_stream, prompt, counted, places=places
        )
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
        self._count(context, finished)
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
        self, now_s: float, waiting: int, deferrable_waiting: int, outstanding: dict[str, int]
    ) -> GatewayStatus:
        """Return the counts for the controller."""
        overdue = 0
        for context in self._open.values():
            self._slo_counts.note_first(context)
            overdue += self._slo_counts.is_overdue(context, now_s)
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
            prompt_tokens=self._prompts.prompt_tokens,
            cached_tokens=self._prompts.cached_tokens,
            latency=self._slo_counts.totals(overdue),
        )

    def _count(self, context: RequestContext, finished: FinishedRequest) -> None:
        """Count the prompt and the latency of a request that has ended."""
        self._slo_counts.end(context, finished)
        if context.usage is not None:
            self._prompts.end(context.prompt, context.counted, context.usage)
        elif finished.finish == "invalid":
            self._prompts.drop(context.counted)

    def _is_recent(self, id_: str, now_s: float) -> bool:
        """Return whether an id ended less than `ID_REUSE_S` ago."""
        while self._ended_s and next(iter(self._ended_s.values())) <= now_s - ID_REUSE_S:
            del self._ended_s[next(iter(self._ended_s))]
        return id_ in self._ended_s

    def _finish(self, context: RequestContext, now_s: float) -> FinishedRequest:
        usage, first_s = context.usage, context.first_text_s
        arrival_s = context.arrival_s - self._started_s
        return FinishedRequest(
            id=context.id,
            engine_id=context.engine_id,
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
            streamed=context.wants_stream or context.scanner is not None,
        )
