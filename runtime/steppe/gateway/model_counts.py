"""Counts the requests for one model."""

from __future__ import annotations

from dataclasses import replace

from steppe.control.admission import DEFERRABLE, PRIORITIES
from steppe.gateway.prompt_size import PromptCount, PromptSize, PromptTotals
from steppe.gateway.rate_window import RateWindow
from steppe.gateway.recent_times import WINDOW_S, RecentTimes
from steppe.gateway.request import FAILED, REFUSED, FinishedRequest, RequestContext
from steppe.gateway.served_model import GatewayModel
from steppe.gateway.slo_counts import SloCounts
from steppe.gateway.status import ModelStatus

_PRIOR_OUTPUT_TOKENS, _OUTPUT_MEMORY = 200.0, 0.99
"""Mean output tokens of a sequence before any has ended, and the weight that the mean keeps as one
more ends."""
_BROKEN = FAILED | REFUSED | {"invalid", "cancelled"}
"""Ends of an answer that did not come whole."""


class ModelCounts:
    """Running totals of the requests for one model.

    Requests that another site serves are in `recent` only: nothing here is needed for them.

    Attributes:
        model: The model.
        ends: Rate of ends of requests that a replica had; each frees a slot.
        slo: How many requests miss its SLO.
        recent: How fast its requests were lately, and what they asked for.
    """

    def __init__(self, model: GatewayModel, started_s: float, recent_s: float = WINDOW_S) -> None:
        """Begin without requests.

        Args:
            model: The model.
            started_s: The present time, s on the monotonic clock.
            recent_s: How long a request is recent after its end, s.
        """
        self.model = model
        self.ends = RateWindow(started_s)
        self.slo = SloCounts(model.ttft_s, model.tpot_s)
        self.recent = RecentTimes(started_s, recent_s)
        self._prompts = PromptTotals()
        self._arrived = self._finished = self._failed = self._refused = self._answered = 0
        self._deferrable_arrived = self._deferrable_finished = 0
        self._deferrable_answered = self._deferrable_tokens = 0
        self._mean_output = _PRIOR_OUTPUT_TOKENS

    def set_slo(self, ttft_s: float, tpot_s: float) -> None:
        """Judge requests by other times from now on, s."""
        self.model = replace(self.model, ttft_s=ttft_s, tpot_s=tpot_s)
        self.slo.set_times(ttft_s, tpot_s)

    def arrive(self, priority: str, prompt: PromptSize) -> PromptCount:
        """Count a request that has arrived; return what its prompt counts for until it ends."""
        self._arrived += 1
        self._deferrable_arrived += priority == PRIORITIES[DEFERRABLE]
        return self._prompts.arrive(prompt)

    @property
    def firm_open(self) -> int:
        """Open requests that are not of class `deferrable`."""
        deferrable = self._deferrable_arrived - self._deferrable_finished
        return self._arrived - self._finished - deferrable

    def leave(self, priority: str, counted: PromptCount) -> None:
        """Count a request that has arrived and goes to another model before it is served."""
        self._finished += 1
        self._deferrable_finished += priority == PRIORITIES[DEFERRABLE]
        self._prompts.drop(counted)

    def prompt_tokens(self, prompt: PromptSize) -> int:
        """Return the tokens of a prompt, estimated for a text."""
        return self._prompts.tokens(prompt)

    def output_tokens(self, most: int | None, sequences: int = 1) -> int:
        """Return the output tokens that a request is expected to take, at least 1.

        Args:
            most: The most that it asks for; None without a maximum.
            sequences: Sequences that it generates.
        """
        mean = round(self._mean_output * sequences)
        return max(1, mean if most is None else min(most, mean))

    def end(self, context: RequestContext, finished: FinishedRequest, now_s: float) -> None:
        """Count a request that has ended; the tokens of a stream without a usage by its events."""
        if finished.output_tokens is None and finished.finish not in _BROKEN:
            finished = replace(finished, output_tokens=context.output_tokens)
        if finished.output_tokens:
            more = finished.output_tokens / context.places - self._mean_output
            self._mean_output += (1 - _OUTPUT_MEMORY) * more
        is_deferrable = finished.priority == PRIORITIES[DEFERRABLE]
        self.recent.add(
            finished, is_deferrable=is_deferrable, now_s=now_s, was_here=context.is_here
        )
        if context.is_here:
            self._end(context, finished, now_s)

    def _end(self, context: RequestContext, finished: FinishedRequest, now_s: float) -> None:
        is_refused, is_answered = finished.finish in REFUSED, finished.replica is not None
        self._finished += 1
        if is_answered and finished.priority == PRIORITIES[DEFERRABLE]:
            self._deferrable_answered += 1
            self._deferrable_tokens += finished.output_tokens or 0
        self._deferrable_finished += finished.priority == PRIORITIES[DEFERRABLE]
        self._failed += finished.finish in FAILED
        self._refused += is_refused
        self._answered += is_answered
        if is_answered and not is_refused:
            self.ends.add(now_s)
        self.slo.end(context, finished)
        if context.usage is not None:
            self._prompts.end(context.prompt, context.counted, context.usage)
        elif finished.finish == "invalid":
            self._prompts.drop(context.counted)

    def status(self, waiting: int, deferrable_waiting: int, overdue: int) -> ModelStatus:
        """Return the counts.

        Args:
            waiting: Requests that wait for a slot, each with its sequences.
            deferrable_waiting: Those of class `deferrable`.
            overdue: Open requests without a first token for longer than the SLO.
        """
        return ModelStatus(
            waiting=waiting,
            deferrable_waiting=deferrable_waiting,
            arrived=self._arrived,
            finished=self._finished,
            failed=self._failed,
            refused=self._refused,
            answered=self._answered,
            deferrable_arrived=self._deferrable_arrived,
            deferrable_answered=self._deferrable_answered,
            deferrable_tokens=self._deferrable_tokens,
            deferrable_running=max(
                0, self._deferrable_arrived - self._deferrable_finished - deferrable_waiting
            ),
            prompt_tokens=self._prompts.prompt_tokens,
            cached_tokens=self._prompts.cached_tokens,
            latency=self.slo.totals(overdue),
        )
