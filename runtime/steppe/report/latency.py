"""How long did requests take, and how many were good?

The definitions are those of vLLM's `bench serve`: TTFT from arrival to the first token;
TPOT = (E2E - TTFT) / (output tokens - 1), so it excludes the first token (AIPerf calls
that ITL; GuideLLM's TPOT includes the first token); goodput = requests per second that
complete and meet every SLO. SLO attainment is AIPerf's `good_request_fraction`: failed,
rejected and shed requests count in the denominator. So do requests that their client cancelled
when it had waited for the first token longer than the SLO allows; others that were cancelled
count nowhere: neither side can say whether they would have been good. Requests of class
`deferrable`, which may be made to wait for cheap watts, have no SLO for TTFT, only for TPOT.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from typing import TypedDict

import numpy as np

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


def is_good(request: RequestRecord, slo: Slo) -> bool:
    """Return whether a request completed within every SLO.

    A request of one token has no TPOT and meets that SLO, as in vLLM; an unknown time
    meets none. The first token of a deferrable request is never late.
    """
    if request.outcome != "completed" or request.ttft_s is None or _came_late(request, slo):
        return False
    if request.tpot_s is None:
        return request.output_tokens < 2
    return request.tpot_s <= slo.tpot_s


class Service:
    """How requests were served; of each only its times are kept, for a long run has many."""

    def __init__(self, slo: Slo) -> None:
        """Begin without requests; `slo` says which are good."""
        self._slo = slo
        self._ttft_s, self._tpot_s, self._e2e_s = array("d"), array("d"), array("d")
        self._good = self._judged = 0

    def add(self, request: RequestRecord) -> None:
        """Take a request that has ended."""
        if request.outcome == "completed":
            _keep(self._ttft_s, request.ttft_s)
            _keep(self._tpot_s, request.tpot_s)
            _keep(self._e2e_s, request.e2e_s)
        self._good += is_good(request, self._slo)
        self._judged += request.outcome != "cancelled" or _came_late(request, self._slo)

    @property
    def latency(self) -> Latency:
        """TTFT, TPOT and E2E percentiles over the completed requests."""
        return Latency(
            ttft_s=percentiles(self._ttft_s),
            tpot_s=percentiles(self._tpot_s),
            e2e_s=percentiles(self._e2e_s),
        )

    @property
    def slo_attainment(self) -> float | None:
        """Share of good requests among those of which it is known; None without any."""
        return self._good / self._judged if self._judged else None

    def request_goodput(self, duration_s: float) -> float:
        """Return good requests per second; 0 for a run without length."""
        return self._good / duration_s if duration_s > 0 else 0.0


def _keep(times_s: array[float], time_s: float | None) -> None:
    if time_s is not None:
        times_s.append(time_s)


def _came_late(request: RequestRecord, slo: Slo) -> bool:
    """Tell whether a request had waited longer than the SLO allows, whatever came after.

    Work that may be deferred never has, as in the order in which the gateway serves.
    """
    if request.priority == PRIORITIES[DEFERRABLE]:
        return False
    waited_s = request.e2e_s if request.ttft_s is None else request.ttft_s
    return waited_s is not None and waited_s > slo.ttft_s
