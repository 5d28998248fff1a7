"""How long did requests take, and how many kept their SLO?

TTFT, TPOT and goodput are defined as in vLLM's `bench serve`: TTFT runs from arrival to the first
token; TPOT = (E2E - TTFT) / (output tokens - 1), so it excludes the first token (AIPerf calls that
ITL; GuideLLM's TPOT includes the first token); goodput is the requests per second that complete
within every SLO. SLO attainment is AIPerf's `good_request_fraction` with the denominator that
`within_slo` defines.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from typing import TypedDict

import numpy as np

from steppe.config.tenants import SITE_TENANT
from steppe.control.admission import DEFERRABLE, PRIORITIES
from steppe.report.records import RequestRecord, Slo


class Percentiles(TypedDict):
    """Percentiles of a time, s; None where no request has that time."""

    p50: float | None
    p95: float | None
    p99: float | None


class Latency(TypedDict):
    """Latency of the completed requests, s."""

    ttft_s: Percentiles
    tpot_s: Percentiles
    e2e_s: Percentiles


class DeferrableLatency(TypedDict):
    """Requests of class `deferrable`, which no SLO judges.

    Keys: `requests` and those of them `completed`; `output_tokens` of all of them; `e2e_s` of the
    completed (s).
    """

    requests: int
    completed: int
    output_tokens: int
    e2e_s: Percentiles


def tpot_s(ttft_s: float, e2e_s: float, output_tokens: int) -> float | None:
    """Return the time per output token after the first, s; None below two tokens."""
    if output_tokens < 2:
        return None
    return (e2e_s - ttft_s) / (output_tokens - 1)


def percentiles(values_s: Iterable[float | None]) -> Percentiles:
    """Return the percentiles of the known values, interpolated linearly, s."""
    known_s = np.fromiter((value for value in values_s if value is not None), np.float64)
    if not known_s.size:
        return Percentiles(p50=None, p95=None, p99=None)
    p50, p95, p99 = (float(value) for value in np.percentile(known_s, (50, 95, 99)))
    return Percentiles(p50=p50, p95=p95, p99=p99)


def within_slo(request: RequestRecord, slo: Slo) -> bool | None:
    """Return whether a request kept its SLO; None where it is not judged.

    SLO attainment = requests that kept it / requests that are judged; goodput = requests that kept
    it / duration. The rule, by how a request ended:

    - completed and streamed: TTFT <= `slo.ttft_s` and TPOT <= `slo.tpot_s`; a single token has no
      TPOT;
    - completed and not streamed, so that its first token has no time of its own:
      E2E <= `slo.ttft_s` + output tokens * `slo.tpot_s`;
    - failed, rejected or shed: missed;
    - cancelled by its client: missed if it was too late by then, otherwise not judged, for it could
      still have been in time;
    - answered with a client error (4xx), or of class `deferrable`: not judged. Deferrable requests
      wait for power by design and have a line of their own;
    - a call of another site that was rejected or shed: not judged here, for that site serves it.

    A time that is not known keeps no SLO. Where models have SLOs of their own, that of the model
    counts, or of the alias, that the request asked for.
    """
    slo = slo.of(request)
    if request.priority == PRIORITIES[DEFERRABLE]:
        return None
    match request.outcome:
        case "completed":
            return _is_in_time(request, slo)
        case "cancelled":
            return False if _is_too_late(request, slo) else None
        case "invalid":
            return None
        case "rejected" | "shed" if request.tenant.startswith(SITE_TENANT):
            return None
        case "failed" | "rejected" | "shed":
            return False


def _is_in_time(request: RequestRecord, slo: Slo) -> bool:
    if _is_too_late(request, slo):
        return False
    if not request.streamed:
        return request.e2e_s is not None
    if request.ttft_s is None or request.tpot_s is None:
        return request.ttft_s is not None and request.output_tokens < 2
    return request.tpot_s <= slo.tpot_s


def _is_too_late(request: RequestRecord, slo: Slo) -> bool:
    """Return whether the first token, or without a stream the whole answer, was late."""
    if request.ttft_s is not None:
        return request.ttft_s > slo.ttft_s
    most_s = slo.ttft_s + (0 if request.streamed else request.output_tokens * slo.tpot_s)
    return request.e2e_s is not None and request.e2e_s > most_s


class Service:
    """How requests were served. Keeps only their times, because a long run has many requests."""

    def __init__(self, slo: Slo) -> None:
        """Begin without requests; `slo` is what they are judged by."""
        self._slo = slo
        self._ttft_s, self._tpot_s, self._e2e_s = array("d"), array("d"), array("d")
        self._good = self._judged = 0
        self._deferrable = self._deferrable_tokens = 0
        self._deferrable_e2e_s = array("d")

    def add(self, request: RequestRecord) -> None:
        """Take a request that has ended."""
        is_completed = request.outcome == "completed"
        if is_completed:
            _keep(self._ttft_s, request.ttft_s)
            _keep(self._tpot_s, request.tpot_s)
            _keep(self._e2e_s, request.e2e_s)
        within = within_slo(request, self._slo)
        self._good += within is True
        self._judged += within is not None
        if request.priority == PRIORITIES[DEFERRABLE]:
            self._deferrable += 1
            self._deferrable_tokens += request.output_tokens
            if is_completed:
                _keep(self._deferrable_e2e_s, request.e2e_s)

    @property
    def latency(self) -> Latency:
        """TTFT, TPOT and E2E percentiles over the completed requests."""
        return Latency(
            ttft_s=percentiles(self._ttft_s),
            tpot_s=percentiles(self._tpot_s),
            e2e_s=percentiles(self._e2e_s),
        )

    @property
    def deferrable(self) -> DeferrableLatency:
        """What became of the deferrable requests."""
        return DeferrableLatency(
            requests=self._deferrable,
            completed=len(self._deferrable_e2e_s),
            output_tokens=self._deferrable_tokens,
            e2e_s=percentiles(self._deferrable_e2e_s),
        )

    @property
    def slo_attainment(self) -> float | None:
        """Share of the judged requests that kept their SLO; None without any. See `within_slo`."""
        return self._good / self._judged if self._judged else None

    def request_goodput(self, duration_s: float) -> float:
        """Return requests per second that kept their SLO; 0 for a run without length."""
        return self._good / duration_s if duration_s > 0 else 0.0


def _keep(times_s: array[float], time_s: float | None) -> None:
    if time_s is not None:
        times_s.append(time_s)
