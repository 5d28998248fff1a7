"""Tokens per joule of one load test, under the names that vLLM's bench and AIPerf use.

Names of latency and throughput are those of `vllm bench serve`; names of energy are those of
AIPerf 0.13 (its `nvidia_` metrics, read in its source), with one difference: joules everywhere,
where AIPerf shows millijoules for a token.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from steppe.measure.comparison import Ratios, joules_per_token, tokens_per_second
from steppe.measure.statistics import Interval, ratio_interval

Summary = Mapping[str, Any]

FORMULAS = {
    "ttft": "time from when a request was due to its first chunk with tokens, ms",
    "tpot": "(E2E - TTFT) / (output tokens - 1) of a request, ms; AIPerf calls it "
    "inter_token_latency",
    "itl": "each gap between two chunks with tokens, over all requests, ms; AIPerf calls it "
    "inter_chunk_latency",
    "e2el": "time from when a request was due to its last chunk with tokens, ms",
    "request_throughput": "completed requests / duration, requests/s",
    "output_throughput": "output tokens of completed requests (from `usage`) / duration, tokens/s",
    "request_goodput": "completed requests within every SLO / duration, requests/s",
    "slo_attainment": "requests within every SLO / all requests that were due, but for those "
    "cancelled before their first token was late; AIPerf: good_request_fraction",
    "total_gpu_energy": "energy counters at the end - at the start of the load, summed over the "
    "GPUs, J; idle watts are part of it",
    "average_gpu_power": "total_gpu_energy / duration, W",
    "output_tokens_per_joule": "output tokens / total_gpu_energy, tokens/J",
    "energy_per_output_token": "total_gpu_energy / output tokens, J (AIPerf shows mJ)",
    "energy_per_total_token": "total_gpu_energy / (prompt + output tokens), J (AIPerf shows mJ)",
    "energy_per_request": "total_gpu_energy / completed requests, J",
    "energy_per_user": "total_gpu_energy / concurrency, J; closed loop only",
    "energy_delay_product": "energy_per_request x mean E2E latency, J s",
    "performance_per_watt": "request_throughput / average_gpu_power, requests/s/W",
    "output_tps_per_watt": "output_throughput / average_gpu_power, tokens/s/W",
    "goodput_per_watt": "request_goodput / average_gpu_power, requests/s/W",
    "energy_per_output_token_interval": "95 % bootstrap interval over time slices of the load, "
    "widened by the meter's error bound, J",
}
"""Every key of a result that is not a plain count, and how it is computed."""


@dataclass(frozen=True, slots=True)
class Slice:
    """A piece of the load's time.

    Attributes:
        duration_s: Length, s.
        energy_j: Energy of the GPUs, J.
        output_tokens: Output tokens that arrived in it; a completed request's tokens are spread
            over its time from the first to the last.
    """

    duration_s: float
    energy_j: float
    output_tokens: float


@dataclass(frozen=True, slots=True)
class LoadEnergy:
    """Energy of the GPUs over a load test.

    Attributes:
        energy_j: From its start to its end, J.
        error_j: Bound of the meter's error, J.
        slices: The same, piece by piece.
    """

    energy_j: float
    error_j: float
    slices: tuple[Slice, ...]

    @property
    def per_output_token(self) -> Interval | None:
        """J an output token with its interval over the slices; None without tokens."""
        tokens = [piece.output_tokens for piece in self.slices]
        if not sum(tokens) > 0:
            return None
        energy_j = [piece.energy_j for piece in self.slices]
        interval = ratio_interval(energy_j, tokens, np.random.default_rng(0))
        return interval.widened(self.error_j / sum(tokens)).above_zero()

    @property
    def energy_ratios(self) -> Ratios:
        """Joules over tokens of whole slices; those without tokens are part, with their joules."""
        return joules_per_token(
            [piece.energy_j for piece in self.slices],
            [piece.output_tokens for piece in self.slices],
            self.error_j,
        )

    @property
    def rate_ratios(self) -> Ratios:
        """Tokens over seconds of whole slices."""
        return tokens_per_second(
            [piece.output_tokens for piece in self.slices],
            [piece.duration_s for piece in self.slices],
        )


def energy_keys(
    summary: Summary, energy: LoadEnergy | None, concurrency: int | None
) -> dict[str, float | list[float] | None]:
    """Return the energy metrics of a load test; all None where nothing was metered.

    Args:
        summary: `LoadResult.summary`.
        energy: Energy of the GPUs; None where nothing was metered.
        concurrency: Users of a closed loop; None for an open one.
    """
    joules = None if energy is None else energy.energy_j
    power_w = _over(joules, summary["duration"])
    outputs = summary["total_output_tokens"]
    return {
        "total_gpu_energy": joules,
        "total_gpu_energy_error": _finite(None if energy is None else energy.error_j),
        "average_gpu_power": power_w,
        "output_tokens_per_joule": _over(outputs, joules),
        "energy_per_output_token": _over(joules, outputs),
        "energy_per_output_token_interval": _ends(energy),
        "energy_per_total_token": _over(joules, outputs + summary["total_input_tokens"]),
        "energy_per_request": _over(joules, summary["completed"]),
        "energy_per_user": _over(joules, concurrency),
        "energy_delay_product": _energy_delay(joules, summary),
        "performance_per_watt": _over(summary["request_throughput"], power_w),
        "output_tps_per_watt": _over(summary["output_throughput"], power_w),
        "goodput_per_watt": _over(summary["request_goodput"], power_w),
    }


def _finite(bound_j: float | None) -> float | None:
    """Return a bound, J; None where there is none, because JSON has no infinity."""
    return bound_j if bound_j is not None and math.isfinite(bound_j) else None


def _ends(energy: LoadEnergy | None) -> list[float] | None:
    interval = None if energy is None else energy.per_output_token
    return [interval.low, interval.high] if interval is not None and interval.is_bounded else None


def _energy_delay(joules: float | None, summary: Summary) -> float | None:
    per_request_j, latency_ms = _over(joules, summary["completed"]), summary["mean_e2el_ms"]
    return None if per_request_j is None or latency_ms is None else per_request_j * latency_ms / 1e3


def slices_of(
    energy_at: Sequence[tuple[float, float]], tokens: Sequence[tuple[float, float, int]]
) -> tuple[Slice, ...]:
    """Cut a load into slices.

    Args:
        energy_at: Time since the load began, s, and energy since then, J, at each cut, rising.
        tokens: First and last token time of each completed request, s since the load began, and
            its output tokens.
    """
    first_s = np.array([begin for begin, _, _ in tokens])
    last_s = np.array([end for _, end, _ in tokens])
    counts = np.array([count for _, _, count in tokens], dtype=float)
    span_s = np.maximum(last_s - first_s, 1e-9)
    cuts = []
    for at_s, energy_j in energy_at:
        share = np.clip((at_s - first_s) / span_s, 0.0, 1.0) if len(counts) else np.zeros(0)
        cuts.append((at_s, energy_j, float((share * counts).sum())))
    return tuple(Slice(b[0] - a[0], b[1] - a[1], b[2] - a[2]) for a, b in pairwise(cuts))


def _over(above: float | None, below: float | None) -> float | None:
    return None if above is None or not below else above / below
