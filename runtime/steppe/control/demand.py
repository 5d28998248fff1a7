"""What clients ask for, estimated from running totals."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from steppe.control.state import DeferrableWork

RATE_S = 10.0
"""Arrivals are counted over so long, s."""
MEMORY_S, LEAST_ANSWERS = 60.0, 100
"""The mean answer is taken over so long, s, and over so many answers at least."""
PRIOR_TOKENS, PRIOR_ANSWERS = 200.0, 10
"""Taken for the mean answer before any has ended: about that of the Azure conversation trace. It
counts as so many answers, and less and less until `LEAST_ANSWERS` have ended."""
_MOST_LOOKS = 3600


@dataclass(frozen=True, slots=True)
class Traffic:
    """Running totals at one instant.

    Attributes:
        now_s: When, s since the run began.
        arrived: Requests that have come.
        answered: Requests that a replica had, and that have ended.
        output_tokens: Tokens that the replicas have sampled.
        deferrable_arrived: Requests of class `deferrable` that have come.
        deferrable_waiting: Those of them that no replica has taken yet.
    """

    now_s: float
    arrived: int
    answered: int
    output_tokens: int
    deferrable_arrived: int = 0
    deferrable_waiting: int = 0


@dataclass(frozen=True, slots=True)
class OfferedLoad:
    """What clients ask for.

    Attributes:
        tps: Output tokens per second.
        deferrable: What of it may wait.
    """

    tps: float
    deferrable: DeferrableWork


class Demand:
    """Estimates the output tokens per second that are asked for: arrivals times mean answer.

    The mean answer is the tokens sampled over the answers that ended. Early in a run those that
    have ended are the short ones; but the tokens of those that still run count, too, so the ratio
    is the maximum-likelihood mean of a geometric length of which only part is seen (censored).
    """

    __slots__ = ("_totals",)

    def __init__(self) -> None:
        self._totals: deque[Traffic] = deque(maxlen=_MOST_LOOKS)

    def take(self, traffic: Traffic) -> OfferedLoad:
        """Take the totals of now, and return what is asked for."""
        if self._totals and traffic.arrived < self._totals[-1].arrived:
            self._totals.clear()  # the gateway began anew, and counts from nothing
        self._totals.append(traffic)
        self._forget(traffic)
        since, tokens = self._of_late(traffic), self._mean_answer(traffic)
        seconds = max(1.0, traffic.now_s - since.now_s)
        deferrable_rps = (traffic.deferrable_arrived - since.deferrable_arrived) / seconds
        waiting = traffic.deferrable_waiting
        deferrable = DeferrableWork(deferrable_rps * tokens, waiting, waiting * tokens)
        return OfferedLoad((traffic.arrived - since.arrived) / seconds * tokens, deferrable)

    def _forget(self, now: Traffic) -> None:
        """Drop what neither the memory nor the least number of answers needs."""
        totals = self._totals
        while len(totals) > 1 and totals[1].now_s <= now.now_s - MEMORY_S:
            if now.answered - totals[1].answered < LEAST_ANSWERS:
                return
            totals.popleft()

    def _of_late(self, now: Traffic) -> Traffic:
        """Return the totals since which arrivals are counted."""
        old = (one for one in reversed(self._totals) if one.now_s <= now.now_s - RATE_S)
        return next(old, self._totals[0])

    def _mean_answer(self, now: Traffic) -> float:
        since = self._totals[0]
        answers = now.answered - since.answered
        prior = PRIOR_ANSWERS * max(0.0, 1 - answers / LEAST_ANSWERS)
        tokens = now.output_tokens - since.output_tokens
        return (prior * PRIOR_TOKENS + tokens) / (prior + answers)
