"""Do two results differ? Paired statistics over the points that both measured.

Two sweeps share points: same phase, limits and lengths. Pair i gives the logarithm of a ratio,
`y_i`, so that a change of 10 % counts the same at every point. With k pairs their mean has the 95 %
interval

    mean(y) ± t(0.975, k - 1) sqrt(max(S², mean(v)) / k)
    S² = sum (y_i - mean(y))² / (k - 1)
    v_i = sum over both results of n / (n - 1) sum_j (a_j - r b_j)² / (sum_j a_j)²

where `v_i` is the variance of `y_i` within the point: it follows from the numerators `a_j` and
denominators `b_j` of its n windows, with r the ratio of their sums (the linearised variance of a
ratio, Cochran, Sampling Techniques, 1977, chapter 6). This is the random-effects interval of
Hartung and Knapp (Statistics in Medicine 20, 2001) for pairs of equal weight. S² already contains
the noise within the points; if by chance it lies below that noise, the noise takes its place, as
Knapp and Hartung advise (Statistics in Medicine 22, 2003). So points that agree by chance prove
nothing while their own windows differ. Besides, Wilcoxon's signed-rank test (Biometrics Bulletin 1,
1945) states how often chance alone gives signs and ranks as one-sided as these. With several
results against one baseline its p values are corrected by Holm's method (1979).

Two loads are one point each: the ratio of their totals, with a bootstrap interval over the slices
of both. Slices are not paired: in its fifth slice a fast server does other work than a slow one.

Windows do not show a meter's systematic error, and tokens are whole numbers; so the bounds of these
errors widen every interval. Both results may share one meter, whose errors partly cancel; that
cannot be known from the results.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from steppe.measure.statistics import CONFIDENCE, Interval, log_ratio_interval
from steppe.measure.sweep.result import PointResult

SIGNIFICANT = 0.05
FEWEST = 3
"""Fewest windows of a point, and pairs of points, for an interval."""
FEWEST_FOR_WILCOXON = 6
"""Five pairs cannot give a two-sided p below 0.05: 2 / 2^5 = 0.0625."""


@dataclass(frozen=True, slots=True)
class PairRatio:
    """One point in two results.

    Attributes:
        key: Name of the point.
        baseline: Its value in the baseline.
        value: Its value in the other result.
        ratio: Other over baseline, with its interval over the windows of both.
        windows: Number of windows of the baseline, and of the other.
        variance: Variance of the ratio's logarithm by the windows of both.
        log_error: As in `Comparison`.
    """

    key: str
    baseline: float
    value: float
    ratio: Interval
    windows: tuple[int, int]
    variance: float
    log_error: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two results, compared in one quantity.

    Attributes:
        quantity: Name of the quantity, such as `energy_per_output_token`.
        pairs: The points that both have.
        ratio: Geometric mean of other over baseline, with its interval; of one point its own.
        wilcoxon_p: p of the signed-rank test, corrected; None with fewer than six pairs.
        log_error: Bound of the error of the ratio's logarithm by the meters of both; part of the
            interval.
    """

    quantity: str
    pairs: tuple[PairRatio, ...]
    ratio: Interval
    wilcoxon_p: float | None
    log_error: float = 0.0

    @property
    def is_real(self) -> bool:
        """Whether the interval excludes a ratio of 1, and Wilcoxon's test agrees if it applies."""
        if not self.ratio.is_bounded or self.ratio.holds(1.0):
            return False
        return self.wilcoxon_p is None or self.wilcoxon_p < SIGNIFICANT

    @property
    def sentence(self) -> str:
        """The result in words."""
        change, kind = self.ratio.value - 1, "windows" if len(self.pairs) == 1 else "pairs"
        low, high = self.ratio.low - 1, self.ratio.high - 1
        p = "" if self.wilcoxon_p is None else f", Wilcoxon p = {self.wilcoxon_p:.2g}"
        proof = f"95 % interval {low:+.1%} to {high:+.1%}{p}, {self._count}"
        if not math.isfinite(self.log_error):
            verdict = "the meter's error has no bound, so it may not be real"
        elif not self.ratio.is_bounded:
            verdict = f"too few {kind} to show whether it is real"
        elif self.is_real:
            verdict = f"the difference is real ({proof})"
        else:
            verdict = f"chance alone may explain it ({proof})"
        return f"{self.quantity}: {change:+.1%}; {verdict}"

    @property
    def _count(self) -> str:
        if len(self.pairs) != 1:
            return f"{len(self.pairs)} pairs"
        return "{} and {} windows".format(*self.pairs[0].windows)


@dataclass(frozen=True, slots=True)
class Ratios:
    """The windows of one point, as numerators and denominators of one quantity.

    Attributes:
        above: One number a window, such as J.
        below: One number a window, such as tokens.
        error_share: Bound of the readings' error, share of the value.
    """

    above: tuple[float, ...]
    below: tuple[float, ...]
    error_share: float = 0.0

    @property
    def value(self) -> float:
        """Ratio of the sums."""
        return sum(self.above) / sum(self.below)

    @property
    def log_error(self) -> float:
        """Bound of the error of the value's logarithm; infinite when all of it may be error."""
        return -math.log1p(-self.error_share) if self.error_share < 1 else math.inf

    @property
    def log_variance(self) -> float:
        """Variance of the value's logarithm by its windows; infinite with fewer than two."""
        count = len(self.above)
        if count < 2:
            return math.inf
        squares = ((a - self.value * b) ** 2 for a, b in zip(self.above, self.below, strict=True))
        return count / (count - 1) * math.fsum(squares) / math.fsum(self.above) ** 2


def joules_per_token(energy_j: Sequence[float], tokens: Sequence[float], error_j: float) -> Ratios:
    """Return joules and output tokens a window, of which there are some.

    Args:
        energy_j: Of each window, J.
        tokens: Of each window.
        error_j: Bound of the meter's error over all of them, J.
    """
    error_share = error_j / math.fsum(energy_j) + 1 / math.fsum(tokens)
    return Ratios(tuple(energy_j), tuple(tokens), error_share)


def tokens_per_second(tokens: Sequence[float], duration_s: Sequence[float]) -> Ratios:
    """Return output tokens, of which there are some, and seconds a window."""
    return Ratios(tuple(tokens), tuple(duration_s), 1 / math.fsum(tokens))


def energy_per_token(points: Sequence[PointResult]) -> dict[str, Ratios]:
    """Return joules and output tokens a window of the sound points, by key."""
    return {
        point.setting.key: joules_per_token(
            [window.energy_j for window in point.windows],
            [float(window.output_tokens) for window in point.windows],
            point.meter_error_j,
        )
        for point in points
        if point.is_sound
    }


def output_rate(points: Sequence[PointResult]) -> dict[str, Ratios]:
    """Return output tokens and seconds a window of the sound points, by key."""
    return {
        point.setting.key: tokens_per_second(
            [float(window.output_tokens) for window in point.windows],
            [window.duration_s for window in point.windows],
        )
        for point in points
        if point.is_sound
    }


def compare(
    quantity: str,
    baseline: Mapping[str, Ratios],
    other: Mapping[str, Ratios],
    rng: np.random.Generator,
) -> Comparison | None:
    """Compare the points that two results share; None when they share none.

    Args:
        quantity: Its name.
        baseline: Windows of the baseline, by point.
        other: Windows of the other result, by point.
        rng: Random numbers of the bootstrap.
    """
    keys = [key for key in baseline if key in other]
    pairs = tuple(_pair(key, baseline[key], other[key], rng) for key in keys)
    if not pairs:
        return None
    if len(pairs) == 1:
        return Comparison(quantity, pairs, pairs[0].ratio, None, pairs[0].log_error)
    logs = [math.log(pair.ratio.value) for pair in pairs]
    log_error = math.fsum(pair.log_error for pair in pairs) / len(pairs)
    log = _mean_interval(logs, [pair.variance for pair in pairs])
    ratio = _exponential(_if_enough(len(pairs), log).widened(log_error))
    return Comparison(quantity, pairs, ratio, _wilcoxon(logs), log_error)


def _mean_interval(logs: Sequence[float], variances: Sequence[float]) -> Interval:
    """Return the mean of logarithms with the interval that the module's docstring states."""
    from scipy.stats import t

    count = len(logs)
    mean = math.fsum(logs) / count
    between = math.fsum((log - mean) ** 2 for log in logs) / (count - 1)
    variance = max(between, math.fsum(variances) / count)
    half = float(t.isf((1 - CONFIDENCE) / 2, count - 1)) * math.sqrt(variance / count)
    return Interval(mean, mean - half, mean + half)


def corrected(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Correct the p values of several comparisons with one baseline by Holm's method."""
    known = [c for c in comparisons if c.wilcoxon_p is not None]
    known.sort(key=lambda c: c.wilcoxon_p or 0.0)
    p_values: dict[int, float] = {}
    largest = 0.0
    for rank, comparison in enumerate(known):
        assert comparison.wilcoxon_p is not None, "only known p values are sorted"
        largest = max(largest, min(1.0, comparison.wilcoxon_p * (len(known) - rank)))
        p_values[id(comparison)] = largest
    return [replace(c, wilcoxon_p=p_values.get(id(c))) for c in comparisons]


def _pair(key: str, a: Ratios, b: Ratios, rng: np.random.Generator) -> PairRatio:
    log = log_ratio_interval((a.above, a.below), (b.above, b.below), rng)
    windows, log_error = (len(a.above), len(b.above)), a.log_error + b.log_error
    return PairRatio(
        key=key,
        baseline=a.value,
        value=b.value,
        ratio=_exponential(_if_enough(min(windows), log).widened(log_error)),
        windows=windows,
        variance=a.log_variance + b.log_variance,
        log_error=log_error,
    )


def _if_enough(count: int, interval: Interval) -> Interval:
    """Return the interval; without ends when it rests on too few."""
    return interval if count >= FEWEST else Interval(interval.value, -math.inf, math.inf)


def _exponential(log: Interval) -> Interval:
    """Return the interval of e^x; an infinite end stays infinite, although e^-inf is 0."""
    low = math.exp(log.low) if log.low > -math.inf else -math.inf
    high = math.exp(log.high) if log.high < 700 else math.inf
    return Interval(math.exp(log.value), low, high)


def _wilcoxon(logs: Sequence[float]) -> float | None:
    from scipy.stats import wilcoxon

    if len(logs) < FEWEST_FOR_WILCOXON or not any(logs):
        return None
    return float(wilcoxon(logs).pvalue)
