"""How many requests miss the SLO, counted as soon as that is known.

The rules are those of `report.latency.within_slo`, split into its two times, so that control can
react before a request has ended:

- a stream counts with its TTFT when its first token has passed, and with its TPOT when it ends;
- an answer without a stream counts with both when it ends, by E2E against TTFT + tokens x TPOT,
  because it does not show which of the two was missed;
- requests of class `deferrable`, and those with a client error (4xx), do not count.

A stream without a `usage` has as many tokens as it had events from the first text on; an engine
that lags may put several tokens into one event, so its TPOT is then an upper bound.
"""

from __future__ import annotations

from steppe.control.measurements import LatencyCounts
from steppe.gateway.request import FAILED, REFUSED, FinishedRequest, RequestContext

_NOT_SERVED = FAILED | REFUSED | {"cancelled", "invalid"}


class SloCounts:
    """Running totals of requests against the SLO."""

    __slots__ = ("_ended", "_first_tokens", "_late", "_slow", "_tpot_s", "_ttft_s")

    def __init__(self, ttft_s: float, tpot_s: float) -> None:
        """Begin without requests.

        Args:
            ttft_s: Longest time to the first token of the SLO, s.
            tpot_s: Longest mean time per output token after the first, s.
        """
        self._ttft_s, self._tpot_s = ttft_s, tpot_s
        self._first_tokens = self._late = self._ended = self._slow = 0

    def set_times(self, ttft_s: float, tpot_s: float) -> None:
        """Judge by other times from now on, s."""
        self._ttft_s, self._tpot_s = ttft_s, tpot_s

    def note_first(self, context: RequestContext) -> None:
        """Count the first token of a stream, once."""
        first_s = context.first_text_s
        if first_s is None or context.is_first_counted or context.headers.is_deferrable:
            return
        context.is_first_counted = True
        self._first_tokens += 1
        self._late += first_s - context.arrival_s > self._ttft_s

    def is_overdue(self, context: RequestContext, now_s: float) -> bool:
        """Return whether an open request has waited for its first token longer than the SLO.

        That of an answer without a stream is not seen; it is overdue only while no replica has it.
        """
        if context.headers.is_deferrable or now_s - context.arrival_s <= self._ttft_s:
            return False
        return context.first_text_s is None and (context.wants_stream or not context.is_at_replica)

    def end(self, context: RequestContext, finished: FinishedRequest) -> None:
        """Count a request that has ended."""
        self.note_first(context)
        if context.headers.is_deferrable or finished.finish in _NOT_SERVED:
            return
        scanner = context.scanner
        if scanner is None:
            self._end_whole(finished)
            return
        tokens = scanner.text_events if finished.output_tokens is None else finished.output_tokens
        if finished.ttft_s is not None and tokens >= 2:
            self._ended += 1
            self._slow += (finished.e2e_s - finished.ttft_s) / (tokens - 1) > self._tpot_s

    def totals(self, overdue: int) -> LatencyCounts:
        """Return the counts, with the number of overdue requests now."""
        return LatencyCounts(self._first_tokens, self._late, self._ended, self._slow, overdue)

    def _end_whole(self, finished: FinishedRequest) -> None:
        tokens = finished.output_tokens or 0
        is_missed = finished.e2e_s > self._ttft_s + tokens * self._tpot_s
        self._first_tokens += 1
        self._late += is_missed
        if tokens >= 2:
            self._ended += 1
            self._slow += is_missed
