"""Does the synthetic load look like the Azure conversation trace?

Fits the constants of `steppe.load.traffics` to the trace, prints them, then compares what
the committed constants generate with the trace. Run it as

    python bench/fit_azure_load.py ../shared/data/requests/AzureLLMInferenceTrace_conv.csv

Lengths: expectation maximisation of an 8-component Gaussian mixture over the logarithms of
(prompt, output), best likelihood of 6 starts.
Arrivals: least squares on the index of dispersion of counts (variance over mean of the number
of arrivals in windows of w seconds) with, for a gamma renewal process of shape k in a rate
that wanders with relative variance v and memory m,

    IDC(w) = 1 / k + rate v w (g(w) - g(span)),  g(w) = 2 m / w^2 (w - m (1 - exp(-w / m)))

(Cox and Lewis, The Statistical Analysis of Series of Events, 1966, chapter 7); g(span) is what
a trace of that length hides, as the rate wanders about its long-run mean, not the trace's own.
"""

from __future__ import annotations

import json
import platform
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats
from scipy.cluster.vq import kmeans2

from steppe.load.arrivals import Arrival, LengthLimits
from steppe.load.rates import Burstiness
from steppe.load.synthetic import SyntheticLoad
from steppe.load.traces import read_trace
from steppe.load.traffics import AZURE_BURSTINESS, AZURE_LENGTHS
from steppe.measure.provenance import source_commit
from targets import at_most

Floats = NDArray[np.float64]

COMPONENTS = 8
STARTS = 6
ROUNDS = 120
LEAST_SPREAD = 0.02  # keeps a component from collapsing onto one length that repeats
WINDOWS_S = (1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 240.0)
SEEDS = range(20)


@dataclass(frozen=True, slots=True)
class Mixture:
    """A Gaussian mixture over logarithms, and its mean log-likelihood."""

    likelihood: float
    weights: Floats
    means: Floats
    covariances: Floats


def log_lengths(arrivals: tuple[Arrival, ...]) -> Floats:
    """Return ln(prompt, output), shape (n, 2)."""
    return np.log([(a.prompt_tokens, a.output_tokens) for a in arrivals])


def fit_lengths(points: Floats, seed: int) -> Mixture:
    """Fit a mixture by expectation maximisation, from one k-means start."""
    spread = points.std(axis=0)
    means, label = kmeans2(points / spread, COMPONENTS, seed=seed, minit="++")
    means = means * spread
    floor = np.eye(2) * LEAST_SPREAD**2
    weights = np.bincount(label, minlength=COMPONENTS) / len(points)
    covariances = np.stack([np.cov(points[label == k].T) + floor for k in range(COMPONENTS)])
    likelihood = 0.0
    for _ in range(ROUNDS):
        density = np.stack(
            [
                stats.multivariate_normal.logpdf(points, means[k], covariances[k])
                + np.log(weights[k])
                for k in range(COMPONENTS)
            ],
            axis=1,
        )
        total = np.logaddexp.reduce(density, axis=1)
        likelihood = float(total.mean())
        share = np.exp(density - total[:, None])
        mass = share.sum(axis=0)
        weights, means = mass / len(points), share.T @ points / mass[:, None]
        off = points[:, None, :] - means
        covariances = np.einsum("nk,nki,nkj->kij", share, off, off) / mass[:, None, None] + floor
    return Mixture(likelihood, weights, means, covariances)


def print_lengths(mixture: Mixture) -> None:
    """Print the mixture as the table that `traffics.py` holds."""
    for k in np.argsort(-mixture.weights):
        spread = np.sqrt(np.diag(mixture.covariances[k]))
        correlation = mixture.covariances[k][0, 1] / spread.prod()
        row = (mixture.weights[k], *mixture.means[k], *spread, correlation)
        print("    LengthComponent(" + ", ".join(f"{value:.3f}" for value in row) + "),")


def dispersion(times_s: Floats, window_s: float) -> float:
    """Return variance over mean of the number of arrivals in windows of this length."""
    counts = np.histogram(times_s, np.arange(0.0, times_s[-1] + 1e-9, window_s))[0]
    return float(counts.var() / counts.mean())


def gap_variation(times_s: Floats) -> float:
    """Return the coefficient of variation of the gaps between arrivals."""
    gaps = np.diff(times_s)
    return float(gaps.std() / gaps.mean())


def fit_burstiness(times_s: Floats) -> Burstiness:
    """Fit shape, variance and memory to the trace's index of dispersion."""
    span_s = times_s[-1]
    rate_rps = len(times_s) / span_s
    windows = np.array(WINDOWS_S)
    found = np.array([dispersion(times_s, window_s) for window_s in WINDOWS_S])

    def kept(window_s: Floats, memory_s: float) -> Floats:
        faded = memory_s * (1 - np.exp(-window_s / memory_s))
        return np.asarray(2 * memory_s / window_s**2 * (window_s - faded))

    def miss(logs: Floats) -> Floats:
        shape, variance, memory_s = np.exp(logs)
        held = kept(windows, memory_s) - kept(span_s, memory_s)
        return np.asarray(np.log((1 / shape + rate_rps * variance * windows * held) / found))

    shape, variance, memory_s = np.exp(optimize.least_squares(miss, np.log((1.0, 0.05, 200.0))).x)
    return Burstiness(float(shape), float(variance), float(memory_s))


def compare(trace: tuple[Arrival, ...]) -> dict[str, float]:
    """Return how far the committed constants are from the trace."""
    times_s = np.array([a.at_s for a in trace])
    rate_rps, span_s = len(trace) / times_s[-1], float(times_s[-1])
    true = np.exp(log_lengths(trace))
    drawn = AZURE_LENGTHS.draw(np.random.default_rng(1), 200_000, 1.0, LengthLimits())
    runs = [
        np.array(
            [
                a.at_s
                for a in SyntheticLoad().generate(
                    np.random.default_rng(seed), rate_rps=rate_rps, duration_s=span_s
                )
            ]
        )
        for seed in SEEDS
    ]
    result = {
        "prompt_ks": float(stats.ks_2samp(true[:, 0], drawn[:, 0]).statistic),
        "output_ks": float(stats.ks_2samp(true[:, 1], drawn[:, 1]).statistic),
        "prompt_mean_trace": float(true[:, 0].mean()),
        "prompt_mean_load": float(drawn[:, 0].mean()),
        "output_mean_trace": float(true[:, 1].mean()),
        "output_mean_load": float(drawn[:, 1].mean()),
        "rank_correlation_trace": float(stats.spearmanr(true).statistic),
        "rank_correlation_load": float(stats.spearmanr(drawn).statistic),
        "gap_cv_trace": gap_variation(times_s),
        "gap_cv_load": float(np.mean([gap_variation(run) for run in runs])),
    }
    for window_s in (1.0, 10.0, 60.0):
        result[f"idc_{window_s:g}s_trace"] = dispersion(times_s, window_s)
        each = [dispersion(run, window_s) for run in runs]
        result[f"idc_{window_s:g}s_load"] = float(np.mean(each))
        result[f"idc_{window_s:g}s_load_sd"] = float(np.std(each))
    return result


def document(results: dict[str, float]) -> dict[str, object]:
    """Return the benchmark's JSON document."""

    def apart(name: str) -> float:
        return abs(results[f"{name}_load"] / results[f"{name}_trace"] - 1)

    return {
        "bench": "fit_azure_load",
        "commit": source_commit(),
        "hardware": platform.machine(),
        "versions": {name: version(name) for name in ("numpy", "scipy")},
        "results": {name: round(value, 4) for name, value in results.items()},
        "targets": [
            at_most("prompt_ks", results["prompt_ks"], "1", 0.05),
            at_most("output_ks", results["output_ks"], "1", 0.05),
            at_most("gap_cv relative error", apart("gap_cv"), "1", 0.05),
            at_most("idc_10s relative error", apart("idc_10s"), "1", 0.25),
            at_most("idc_60s relative error", apart("idc_60s"), "1", 0.25),
        ],
    }


def main() -> None:
    """Fit, compare, print a table and one JSON line."""
    if len(sys.argv) != 2:
        raise SystemExit("usage: fit_azure_load.py AzureLLMInferenceTrace_conv.csv")
    trace = read_trace(Path(sys.argv[1]))
    points = log_lengths(trace)
    mixture = max((fit_lengths(points, seed) for seed in range(STARTS)), key=_likelihood)
    print(f"lengths, log-likelihood {mixture.likelihood:.3f}:")
    print_lengths(mixture)
    print("arrivals:", fit_burstiness(np.array([a.at_s for a in trace])))
    print("committed:", AZURE_BURSTINESS)
    results = compare(trace)
    for name, value in results.items():
        print(f"{name:24} {value:10.4f}")
    print(json.dumps(document(results)))


def _likelihood(mixture: Mixture) -> float:
    return mixture.likelihood


if __name__ == "__main__":
    main()
