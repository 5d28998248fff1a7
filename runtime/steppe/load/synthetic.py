"""A synthetic load: lengths and burstiness fitted to a public trace, at any rate.

The trace is the conversation trace of "Splitwise" (Patel et al., ISCA 2024): Azure LLM
inference 2023, 19,366 requests in 58 min (Azure/AzurePublicDataset, CC-BY 4.0).
`bench/fit_azure_load.py` derives the constants below from it and prints how well they fit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from steppe.load.arrivals import UNLIMITED, Arrival, LengthLimits, refuse_too_many
from steppe.load.lengths import LengthComponent, LengthMixture

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Burstiness:
    """The burstiness of arrivals.

    Requests form a gamma renewal process with a varying rate: the logarithm of the rate is an
    Ornstein-Uhlenbeck process. Poisson arrivals are `Burstiness(1.0, 0.0, 1.0)`.

    Attributes:
        gap_shape: Shape of the gamma-distributed gaps; below 1 is burstier than Poisson.
        rate_variance: Variance of the rate over the square of its mean.
        rate_memory_s: Correlation time of the rate, s: its autocorrelation falls to 1/e.
    """

    gap_shape: float
    rate_variance: float
    rate_memory_s: float

    def rate_path(self, rng: np.random.Generator, steps: int, step_s: float) -> Floats:
        """Draw the rate, over its long-run mean, at `steps` moments `step_s` apart."""
        spread = math.sqrt(math.log1p(self.rate_variance))
        keep = math.exp(-step_s / self.rate_memory_s)
        kicks = rng.standard_normal(steps) * spread
        kicks[1:] *= math.sqrt(1 - keep**2)
        path = np.empty(steps)
        level = 0.0
        for index, kick in enumerate(kicks):
            level = keep * level + kick
            path[index] = level
        return np.exp(path - spread**2 / 2)


@dataclass(frozen=True, slots=True)
class DailyEnvelope:
    """A rate that rises and falls once a period; constant by default.

    Attributes:
        depth: Amplitude of the rate about its mean, share of the mean, 0 to below 1.
        peak_s: When the rate is highest, s.
        period_s: Length of the period, s.
    """

    depth: float = 0.0
    peak_s: float = 14 * 3600.0
    period_s: float = 24 * 3600.0

    def __post_init__(self) -> None:
        if not 0 <= self.depth < 1 or not self.period_s > 0:
            raise ValueError(f"asked for a depth in [0, 1) and a period above 0, found {self}")

    def at(self, times_s: Floats) -> Floats:
        """Return the rate over its mean at these times."""
        phase = 2 * np.pi * (times_s - self.peak_s) / self.period_s
        return 1 + self.depth * np.cos(phase)


AZURE_LENGTHS = LengthMixture(
    components=(
        LengthComponent(0.281, 6.974, 6.007, 0.070, 0.055, -0.013),
        LengthComponent(0.245, 5.990, 4.538, 0.047, 0.255, 0.359),
        LengthComponent(0.169, 7.388, 4.434, 0.558, 0.417, 0.072),
        LengthComponent(0.098, 5.294, 4.958, 0.092, 0.426, -0.281),
        LengthComponent(0.083, 7.080, 5.823, 0.113, 0.581, -0.805),
        LengthComponent(0.076, 8.316, 4.035, 0.021, 0.497, 0.012),
        LengthComponent(0.026, 3.855, 4.990, 1.166, 0.367, 0.329),
        LengthComponent(0.020, 5.331, 2.746, 0.504, 0.202, 0.392),
    ),
    longest=LengthLimits(prompt_tokens=14_050, output_tokens=1_000),
)
AZURE_BURSTINESS = Burstiness(gap_shape=0.885, rate_variance=0.058, rate_memory_s=268.0)
AZURE_RATE_RPS = 5.53
"""Mean arrival rate of the trace, requests/s."""

_STEP_S = 1.0


@dataclass(frozen=True, slots=True)
class SyntheticLoad:
    """Arrivals with the statistics of the trace, at any rate and length scale.

    Attributes:
        lengths: Prompt and output lengths.
        burstiness: Burstiness of the arrivals.
        envelope: Daily rise and fall of the rate; none by default. The trace covers one hour, so
            the depth is the user's choice and not part of the fit.
    """

    lengths: LengthMixture = AZURE_LENGTHS
    burstiness: Burstiness = AZURE_BURSTINESS
    envelope: DailyEnvelope = DailyEnvelope()

    def generate(
        self,
        rng: np.random.Generator,
        *,
        rate_rps: float,
        duration_s: float,
        length_scale: float = 1.0,
        limits: LengthLimits = UNLIMITED,
    ) -> tuple[Arrival, ...]:
        """Draw the arrivals of one run.

        The mean of the varying rate is exactly `rate_rps`; the number of requests is random.

        Args:
            rng: Random number generator; the same state gives the same arrivals.
            rate_rps: Mean arrival rate, requests/s.
            duration_s: Length of the run, s; every arrival is due before it.
            length_scale: Factor on prompt and output lengths.
            limits: What the scaled lengths are clipped to.

        Raises:
            ValueError: A rate, duration or scale is not positive.
            UsageError: There would be more arrivals than memory holds.
        """
        if not rate_rps > 0 or not duration_s > 0:
            raise ValueError(
                f"asked for a rate and a duration above 0, found {rate_rps:g}/s, {duration_s:g} s"
            )
        refuse_too_many(rate_rps, duration_s)
        times_s = self._times(rng, rate_rps, duration_s)
        lengths = self.lengths.draw(rng, len(times_s), length_scale, limits)
        return tuple(
            Arrival(at_s, prompt_tokens, output_tokens)
            for at_s, (prompt_tokens, output_tokens) in zip(
                times_s.tolist(), lengths.tolist(), strict=True
            )
        )

    def _times(self, rng: np.random.Generator, rate_rps: float, duration_s: float) -> Floats:
        """Return arrival times: unit-mean gaps, warped by the integral of the rate."""
        steps = max(2, math.ceil(duration_s / _STEP_S) + 1)
        grid_s = np.linspace(0.0, duration_s, steps)
        rate = self.burstiness.rate_path(rng, steps, float(grid_s[1])) * self.envelope.at(grid_s)
        expected = np.concatenate(([0.0], np.cumsum((rate[1:] + rate[:-1]) / 2)))
        expected *= rate_rps * duration_s / expected[-1]
        marks = self._marks(rng, float(expected[-1]))
        return np.interp(marks, expected, grid_s)

    def _marks(self, rng: np.random.Generator, until: float) -> Floats:
        """Return a gamma renewal process of unit rate up to `until`."""
        shape = self.burstiness.gap_shape
        marks = np.zeros(1)
        while marks[-1] < until:
            more = 64 + int(until - marks[-1])
            gaps = rng.gamma(shape, 1 / shape, size=more)
            marks = np.concatenate((marks, marks[-1] + np.cumsum(gaps)))
        return marks[1 : np.searchsorted(marks, until)]
