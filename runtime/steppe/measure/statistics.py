"""Confidence intervals of ratios over a few windows.

Energy per token is a ratio of sums, so we resample whole windows (joules and tokens together) and
take the ratio of the sums each time: the percentile bootstrap (Efron 1979). With few windows its
intervals are too narrow, because the resampled spread has n - 1 degrees of freedom. We stretch
them about the estimate by `sqrt(n / (n - 1)) t / z`, with quantiles of Student's t and of the
normal distribution. Hesterberg (The American Statistician 69, 2015, section 3.3) widens the level
by the same factor; we widen the interval, since a bootstrap of three windows has no higher levels.

A resample without a token has an infinite ratio. Where such resamples fill a tail, the interval has
no end on that side.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

CONFIDENCE = 0.95
RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its confidence interval, all in one unit.

    Attributes:
        value: The estimate.
        low: Lower end.
        high: Upper end.
    """

    value: float
    low: float
    high: float

    @property
    def is_bounded(self) -> bool:
        """Whether there were enough windows for both ends."""
        return math.isfinite(self.low) and math.isfinite(self.high)

    @property
    def relative_half_width(self) -> float:
        """Half the width over the estimate."""
        return (self.high - self.low) / 2 / abs(self.value) if self.value else math.inf

    def holds(self, truth: float) -> bool:
        """Whether the interval covers a value."""
        return self.low <= truth <= self.high

    def overlaps(self, other: Interval) -> bool:
        """Whether the intervals have a value in common."""
        return self.low <= other.high and other.low <= self.high

    def widened(self, by: float) -> Interval:
        """Return the interval with a bound of a systematic error added on both sides."""
        return Interval(self.value, self.low - by, self.high + by)

    def above_zero(self) -> Interval:
        """Return the interval of a quantity that is never below 0, clipped there.

        The stretch and a meter's error bound can carry the lower end below 0.
        """
        return Interval(self.value, max(0.0, self.low), self.high)

    def inverse(self) -> Interval:
        """Return the interval of 1 / value, for positive quantities."""
        if not self.value > 0:
            return Interval(math.nan, -math.inf, math.inf)
        high = 1 / self.low if self.low > 0 else math.inf
        return Interval(1 / self.value, 1 / self.high, high)


def ratio_interval(
    numerators: Sequence[float],
    denominators: Sequence[float],
    rng: np.random.Generator,
    confidence: float = CONFIDENCE,
) -> Interval:
    """Return the ratio of two sums over windows, with its interval.

    Args:
        numerators: One number a window, such as J.
        denominators: One number a window, such as tokens; their sum is positive.
        rng: Random numbers of the bootstrap.
        confidence: Share of repeated experiments whose interval covers the truth.

    Raises:
        ValueError: There is no window, or the denominators do not add up to more than 0.
    """
    above, below = np.asarray(numerators, float), np.asarray(denominators, float)
    if len(above) != len(below) or not below.sum() > 0:
        raise ValueError(
            f"asked for a ratio of two equally long rows, found {len(above)} and {len(below)} "
            f"numbers, the lower adding up to {below.sum() if len(below) else 0:g}"
        )
    value = float(above.sum() / below.sum())
    if len(above) < 2:
        return Interval(value, -math.inf, math.inf)
    return _stretched(value, _resampled(above, below, rng), len(above), confidence)


def log_ratio_interval(
    first: tuple[Sequence[float], Sequence[float]],
    second: tuple[Sequence[float], Sequence[float]],
    rng: np.random.Generator,
    confidence: float = CONFIDENCE,
) -> Interval:
    """Return the logarithm of (second ratio / first ratio); windows of both are independent.

    Args:
        first: Numerators and denominators of the first run's windows.
        second: Those of the second run's.
        rng: Random numbers of the bootstrap.
        confidence: As in `ratio_interval`.

    Raises:
        ValueError: A run has no window, or a sum is not positive.
    """
    fewest, value = min(len(first[0]), len(second[0])), 0.0
    logs = np.zeros(RESAMPLES)
    for sign, (numerators, denominators) in ((-1.0, first), (1.0, second)):
        above, below = np.asarray(numerators, float), np.asarray(denominators, float)
        if not len(above) or not above.sum() > 0 or not below.sum() > 0:
            raise ValueError("asked for a ratio of ratios, found a sum that is not positive")
        with np.errstate(divide="ignore", invalid="ignore"):
            logs += sign * np.log(_resampled(above, below, rng))
        value += sign * math.log(above.sum() / below.sum())
    if fewest < 2:
        return Interval(value, -math.inf, math.inf)
    return _stretched(value, logs, fewest, confidence)


def _resampled(above: Floats, below: Floats, rng: np.random.Generator) -> Floats:
    """Return the ratio of each resample: infinite without a token, no number without both."""
    picks = rng.integers(len(above), size=(RESAMPLES, len(above)))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(above[picks].sum(axis=1) / below[picks].sum(axis=1))


def _stretched(value: float, resampled: Floats, count: int, confidence: float) -> Interval:
    from scipy.stats import norm, t

    tail = (1 - confidence) / 2
    stretch = math.sqrt(count / (count - 1)) * t.isf(tail, count - 1) / norm.isf(tail)
    known = resampled[~np.isnan(resampled)]
    low, high = np.quantile(known, (tail, 1 - tail), method="nearest")  # infinity has no midpoint
    return Interval(
        value, float(value + stretch * (low - value)), float(value + stretch * (high - value))
    )
