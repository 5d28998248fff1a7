"""The demand, estimated from running totals: how much is asked for, and by which requests."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

from steppe.control.state import DeferrableWork
from steppe.roofline.lengths import RequestLengths

RATE_S = 10.0
"""Time over which arrivals are counted, s."""
MEMORY_S, LEAST_ANSWERS = 30.0, 100
"""Least time, s, and least number of answers over which the mean answer is taken."""
PRIOR_TOKENS = 200.0
"""The mean answer before anything is known, about that of the Azure conversation trace."""
LEAST_CHANGE = 0.08
"""Difference of a mean length from the one that plans are made for, share, below which it is
noise: a mean of 100 requests that deviate by 0.7 of their mean deviates by 0.07."""
_MOST_KEPT = 3600


@dataclass(frozen=True, slots=True)
class Traffic:
    """Running totals at one instant.

    Attributes:
        now_s: Time since the run began, s.
        arrived: Requests that have arrived.
        answered: Requests that a replica had, and that have ended.
        output_tokens: Tokens that the replicas have sampled.
        deferrable_arrived: Requests of class `deferrable` that have arrived.
        deferrable_waiting: Those of them that no replica has taken yet.
        prompt_tokens: Prompt tokens of the requests that have arrived; 0 if unknown.
        cached_tokens: Those of them that the prefix cache held.
        running: Requests that replicas have now; no total.
        deferrable_running: Those of them of class `deferrable`.
        deferrable_answered: Requests of class `deferrable` that a replica had, and that have ended.
        deferrable_tokens: Output tokens of these.
    """

    now_s: float
    arrived: int
    answered: int
    output_tokens: int
    deferrable_arrived: int = 0
    deferrable_waiting: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    running: int = 0
    deferrable_running: int = 0
    deferrable_answered: int = 0
    deferrable_tokens: int = 0


@dataclass(frozen=True, slots=True)
class OfferedLoad:
    """The load that clients offer.

    Attributes:
        tps: Output tokens per second.
        deferrable: The part of it that may wait.
        lengths: The mean request; None while no prompt is known.
    """

    tps: float
    deferrable: DeferrableWork
    lengths: RequestLengths | None = None


class DemandEstimator:
    """Estimates the output tokens per second that clients ask for: arrivals times mean answer.

    The mean answer is the sampled tokens over the ended answers. While more requests run than
    before, as at the start of a run, tokens have been sampled whose answers have not ended. Then
    the ratio is too high, by less if each additional running request counts as half an answer. The
    estimate stays where it was, as long as it lies between the two.

    Requests of class `deferrable` have a mean answer of their own: rows of a batch may be far
    longer or shorter than what users ask for. Those that run count as half an answer.
    """

    __slots__ = ("_answer_tokens", "_later_tokens", "_lengths", "_totals")

    def __init__(self) -> None:
        self._answer_tokens = self._later_tokens = PRIOR_TOKENS
        self._totals: deque[Traffic] = deque(maxlen=_MOST_KEPT)
        self._lengths: RequestLengths | None = None

    def update(self, traffic: Traffic) -> OfferedLoad:
        """Add the totals of now, and return the offered load."""
        if self._totals and traffic.arrived < self._totals[-1].arrived:
            self._totals.clear()  # the gateway restarted and counts from 0
        self._totals.append(traffic)
        self._forget(traffic)
        since, tokens = self._recent(traffic), self._mean_answer(traffic)
        later_tokens = self._mean_later_answer(traffic)
        seconds = max(1.0, traffic.now_s - since.now_s)
        later = traffic.deferrable_arrived - since.deferrable_arrived
        firm = traffic.arrived - since.arrived - later
        mean = (firm * tokens + later * later_tokens) / (firm + later) if later else tokens
        self._lengths = _settled(self._lengths, self._mean_request(traffic, mean))
        waiting = traffic.deferrable_waiting
        deferrable = DeferrableWork(
            later / seconds * later_tokens,
            waiting,
            waiting * later_tokens,
            traffic.deferrable_running,
        )
        return OfferedLoad(firm / seconds * tokens + deferrable.tps, deferrable, self._lengths)

    def _forget(self, now: Traffic) -> None:
        """Drop totals that neither the time nor the least number of answers needs."""
        totals = self._totals
        while len(totals) > 1 and totals[1].now_s <= now.now_s - MEMORY_S:
            if now.answered - totals[1].answered < LEAST_ANSWERS:
                return
            totals.popleft()

    def _recent(self, now: Traffic) -> Traffic:
        """Return the totals from which arrivals are counted."""
        old = (one for one in reversed(self._totals) if one.now_s <= now.now_s - RATE_S)
        return next(old, self._totals[0])

    def _mean_later_answer(self, now: Traffic) -> float:
        since = self._totals[0]
        answers = now.deferrable_answered - since.deferrable_answered
        if answers:
            tokens = now.deferrable_tokens - since.deferrable_tokens
            self._later_tokens = tokens / answers
        elif not now.deferrable_answered:
            self._later_tokens = self._answer_tokens
        return self._later_tokens

    def _mean_answer(self, now: Traffic) -> float:
        """Return the mean answer of the requests that are not deferrable."""
        since = self._totals[0]
        later_running = now.deferrable_running - since.deferrable_running
        tokens = now.output_tokens - since.output_tokens
        tokens -= now.deferrable_tokens - since.deferrable_tokens
        tokens = max(0, tokens - round(self._later_tokens * later_running / 2))
        answers = now.answered - since.answered
        answers -= now.deferrable_answered - since.deferrable_answered
        with_half = answers + (now.running - since.running - later_running) / 2
        fewest, most = sorted((answers, with_half))
        if most >= 1:
            longest = tokens / fewest if fewest >= 1 else math.inf
            self._answer_tokens = min(max(self._answer_tokens, tokens / most), longest)
        return self._answer_tokens

    def _mean_request(self, now: Traffic, output_tokens: float) -> RequestLengths | None:
        """Return the mean of the requests that arrived lately; None if no prompt is known."""
        since = self._recent(now)
        if now.arrived - since.arrived < LEAST_ANSWERS:
            since = self._totals[0]
        requests = now.arrived - since.arrived
        prompts = now.prompt_tokens - since.prompt_tokens
        if not requests or not prompts:
            return None
        cached = now.cached_tokens - since.cached_tokens
        computed = max(1.0, (prompts - cached) / requests)
        return RequestLengths(computed, max(1.0, output_tokens), max(0.0, cached / requests))


def _settled(known: RequestLengths | None, found: RequestLengths | None) -> RequestLengths | None:
    """Return the known lengths until the found ones differ clearly, so that plans stay."""
    if found is None or known is None:
        return known or found
    differences = (
        abs(found.prompt_tokens - known.prompt_tokens) / known.prompt_tokens,
        abs(found.output_tokens - known.output_tokens) / known.output_tokens,
        abs(found.cached_tokens - known.cached_tokens) / known.context_tokens,
    )
    return found if max(differences) > LEAST_CHANGE else known
