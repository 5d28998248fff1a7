"""Results of a load test, under the names of vLLM's `bench serve`."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from http import HTTPStatus

import numpy as np
from numpy.typing import NDArray

from steppe.load.arrivals import Arrival
from steppe.load.stream import Cancelled, Completed, Failed, Outcome, RequestRefused
from steppe.report.latency import tpot_s
from steppe.report.records import Slo

Floats = NDArray[np.float64]
_MS_PER_S = 1000.0


@dataclass(frozen=True, slots=True)
class RequestResult:
    """One request, as its client saw it; times in s since the load began.

    Attributes:
        index: Its index among the arrivals.
        arrival: The arrival.
        due_s: When it should have been sent. Latency counts from here, so that it includes delays
            of the client and waits after a 503.
        sent_s: When it was first sent.
        retries: Number of retries after a 503.
        outcome: How it ended.
    """

    index: int
    arrival: Arrival
    due_s: float
    sent_s: float
    retries: int
    outcome: Outcome

    @property
    def ttft_s(self) -> float | None:
        """Due time to first token, s."""
        return self.outcome.first_s - self.due_s if isinstance(self.outcome, Completed) else None

    @property
    def e2e_s(self) -> float | None:
        """Due time to last token, s."""
        return self.outcome.last_s - self.due_s if isinstance(self.outcome, Completed) else None

    @property
    def tpot_s(self) -> float | None:
        """Time per output token after the first, s; None below two tokens."""
        if not isinstance(self.outcome, Completed):
            return None
        return tpot_s(self.outcome.first_s, self.outcome.last_s, self.outcome.output_tokens)

    @property
    def finish(self) -> str:
        """The finish reason, or `failed`, `rejected` (429), `shed` (503), `cancelled`."""
        match self.outcome:
            case Completed(finish=finish):
                return finish
            case RequestRefused(status=HTTPStatus.TOO_MANY_REQUESTS):
                return "rejected"
            case RequestRefused():
                return "shed"
            case Failed():
                return "failed"
            case Cancelled():
                return "cancelled"

    def is_good(self, slo: Slo) -> bool:
        """Return whether it completed within the SLO; a single token has no TPOT."""
        if self.ttft_s is None:
            return False
        return self.ttft_s <= slo.ttft_s and (self.tpot_s is None or self.tpot_s <= slo.tpot_s)

    def is_counted(self, slo: Slo) -> bool:
        """Return whether it counts for SLO attainment, by the rule of `report.latency`.

        A request that we cancelled counts only if its first token was late by then; one with a 4xx
        never.
        """
        match self.outcome:
            case Cancelled(end_s=end_s, first_s=first_s):
                return (end_s if first_s is None else first_s) - self.due_s > slo.ttft_s
            case Failed(is_client_error=True):
                return False
            case _:
                return True

    def row(self) -> dict[str, object]:
        """Return the request as one flat record."""
        done = self.outcome if isinstance(self.outcome, Completed) else None
        return {
            "index": self.index,
            "tenant": self.arrival.tenant,
            "arrival_s": self.due_s,
            "sent_s": self.sent_s,
            "asked_prompt_tokens": self.arrival.prompt_tokens,
            "asked_cached_tokens": self.arrival.cached_tokens,
            "asked_output_tokens": self.arrival.output_tokens,
            "prompt_tokens": done.prompt_tokens if done else None,
            "output_tokens": done.output_tokens if done else None,
            "ttft_s": self.ttft_s,
            "tpot_s": self.tpot_s,
            "e2e_s": self.e2e_s,
            "retries": self.retries,
            "finish": self.finish,
            "error": self.outcome.message if isinstance(self.outcome, Failed) else None,
        }


@dataclass(frozen=True, slots=True)
class LoadResult:
    """A whole load test.

    Attributes:
        model: The requested model.
        began_epoch_s: When the load began, s since 1970; due times count from it.
        duration_s: Time from the begin to the end of the last request, s.
        max_running: Most requests outstanding at once.
        requests: Every request that was sent, in the order of the arrivals.
        not_sent: Planned requests that were not sent before the end.
        overdue: The part of `not_sent` that was due by then.
    """

    model: str
    began_epoch_s: float
    duration_s: float
    max_running: int
    requests: tuple[RequestResult, ...]
    not_sent: int = 0
    overdue: int = 0

    @property
    def all_completed(self) -> bool:
        """Whether every planned request was sent and got its whole answer."""
        answered = all(isinstance(request.outcome, Completed) for request in self.requests)
        return answered and not self.not_sent

    @property
    def errors(self) -> dict[str, int]:
        """Number of failures by message, most frequent first."""
        failures = (r.outcome.message for r in self.requests if isinstance(r.outcome, Failed))
        return dict(Counter(failures).most_common())

    def summary(self, slo: Slo) -> dict[str, object]:
        """Return totals, rates and latencies, with the keys and units of vLLM's `bench serve`.

        Beyond those: `rejected` (429), `shed` (503, not retried), `cancelled` (by the client),
        `not_sent` (planned, but the load ended first), `retries` (after 503s), `slo_attainment`
        (good requests over all that were due, except 4xx, and those cancelled before their first
        token was late) and `p99_send_lag_ms`, the client's own delay.
        """
        span_s = max(self.duration_s, 1e-9)
        finishes = Counter(request.finish for request in self.requests)
        answers = [r.outcome for r in self.requests if isinstance(r.outcome, Completed)]
        good = sum(request.is_good(slo) for request in self.requests)
        counted = sum(request.is_counted(slo) for request in self.requests) + self.overdue
        total_input = sum(answer.prompt_tokens for answer in answers)
        total_output = sum(answer.output_tokens for answer in answers)
        lag_s = _known([request.sent_s - request.due_s for request in self.requests])
        return {
            "duration": self.duration_s,
            "completed": len(answers),
            **{name: finishes[name] for name in ("failed", "rejected", "shed", "cancelled")},
            "not_sent": self.not_sent,
            "retries": sum(request.retries for request in self.requests),
            "total_input_tokens": total_input,
            "total_output_tokens": total_output,
            "request_throughput": len(answers) / span_s,
            "request_goodput": good / span_s,
            "slo_attainment": good / counted if counted else None,
            "output_throughput": total_output / span_s,
            "total_token_throughput": (total_input + total_output) / span_s,
            "max_concurrent_requests": self.max_running,
            **self._latencies(answers),
            "p99_send_lag_ms": float(np.percentile(lag_s, 99)) * _MS_PER_S if lag_s.size else None,
            "errors": self.errors,
        }

    def _latencies(self, answers: list[Completed]) -> dict[str, float | None]:
        gaps_s = [np.asarray(answer.gaps_s) for answer in answers]
        return {
            **_statistics("ttft", _known([request.ttft_s for request in self.requests])),
            **_statistics("tpot", _known([request.tpot_s for request in self.requests])),
            **_statistics("itl", np.concatenate(gaps_s) if gaps_s else np.empty(0, np.float32)),
            **_statistics("e2el", _known([request.e2e_s for request in self.requests])),
        }


def _known(values: list[float | None] | list[float]) -> Floats:
    return np.array([value for value in values if value is not None], dtype=np.float64)


def _statistics(name: str, values_s: NDArray[np.floating]) -> dict[str, float | None]:
    """Return mean, median, spread and percentiles in ms; None without a value."""
    keys = [f"{kind}_{name}_ms" for kind in ("mean", "median", "std", "p95", "p99")]
    if not values_s.size:
        return dict.fromkeys(keys)
    mean_s, deviation_s = values_s.mean(dtype=np.float64), values_s.std(dtype=np.float64)
    found = (mean_s, np.median(values_s), deviation_s)
    tails = np.percentile(values_s, (95, 99))
    return {
        key: float(value) * _MS_PER_S for key, value in zip(keys, (*found, *tails), strict=True)
    }
