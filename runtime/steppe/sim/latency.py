"""Requests against the SLO in virtual time, as the live gateway counts them."""

from __future__ import annotations

from collections.abc import Iterable

from steppe.control.admission import DEFERRABLE
from steppe.control.measurements import LatencyCounts
from steppe.sim.request import Request


class SimulatedLatency:
    """Counts first tokens and ends against the SLO; deferrable requests do not count."""

    __slots__ = ("_ended", "_first_tokens", "_late", "_open", "_slow", "_tpot_s", "_ttft_s")

    def __init__(self, ttft_s: float, tpot_s: float) -> None:
        """Begin without requests.

        Args:
            ttft_s: Longest time to the first token of the SLO, s.
            tpot_s: Longest time per output token of the SLO, s.
        """
        self._ttft_s, self._tpot_s = ttft_s, tpot_s
        self._first_tokens = self._late = self._ended = self._slow = 0
        self._open: dict[int, float] = {}

    def arrive(self, number: int, at_s: float, rank: int) -> None:
        """Note a request that waits for its first token from now on."""
        if rank != DEFERRABLE:
            self._open[number] = at_s

    def begin(self, requests: Iterable[Request]) -> None:
        """Count the first tokens of requests."""
        for request in requests:
            at_s = self._open.pop(request.number, None)
            if at_s is not None and request.first_s is not None:
                self._first_tokens += 1
                self._late += request.first_s - at_s > self._ttft_s

    def leave(self, request: Request) -> None:
        """Note that a request ended without a first token."""
        self._open.pop(request.number, None)

    def end(self, now_s: float, requests: Iterable[Request]) -> None:
        """Count requests of two tokens or more that got their last token."""
        for request in requests:
            tokens, first_s = request.arrival.output_tokens, request.first_s
            if request.arrival.rank != DEFERRABLE and tokens > 1 and first_s is not None:
                self._ended += 1
                self._slow += (now_s - first_s) / (tokens - 1) > self._tpot_s

    def counts(self, now_s: float) -> LatencyCounts:
        """Return the totals, and how many requests are overdue now."""
        overdue = 0
        for at_s in self._open.values():  # by arrival: the oldest come first
            if now_s - at_s <= self._ttft_s:
                break
            overdue += 1
        return LatencyCounts(self._first_tokens, self._late, self._ended, self._slow, overdue)
