"""Is the difference between two results real? Paired statistics over what both measured.

Two sweeps hold the same points: same phase, limits and lengths. Each such pair gives the logarithm
of a ratio; so a change of 10 % counts alike at every point. Their mean has a bootstrap interval
over the pairs, and Wilcoxon's signed-rank test (Biometrics Bulletin 1, 1945) asks how often chance
alone would give signs and ranks as one-sided as these. Two loads are one point each: the ratio of
their totals, with a bootstrap interval over whole slices of both. Slices are no pairs: in its fifth
a fast server does other work than a slow one.

No window shows how far a meter is off, and tokens are whole; so the bounds of these errors widen
every interval. Both may be one meter's and cancel in part, which nobody can tell from here. Two
windows or points that happen to agree prove nothing.
With several results against one baseline its p values are corrected by Holm's method (1979).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from steppe.measure.statistics import Interval, log_ratio_interval, mean_interval
from steppe.measure.sweep.result import PointResult

SIGNIFICANT = 0.05
FEWEST = 3
"""Windows of a point and pairs of points that an interval takes."""
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
        windows: How many the baseline has, and the other.
        log_error: As in `Comparison`.
    """

    key: str
    baseline: float
    value: float
    ratio: Interval
    windows: tuple[int, int]
    log_error: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two results, compared in one quantity.

    Attributes:
        quantity: Name of the quantity, such as `energy_per_output_token`.
        pairs: The points that both have.
        ratio: Geometric mean of other over baseline, with its interval; of one point its own.
        wilcoxon_p: p of the signed-rank test, corrected; None with fewer than six pairs.
        log_error: What the readings of both may shift the ratio's logarithm by, at most; part of
            the interval.
    """

    quantity: str
    pairs: tuple[PairRatio, ...]
    ratio: Interval
    wilcoxon_p: float | None
    log_error: float = 0.0

    @property
    def is_real(self) -> bool:
        """Whether the interval, if whole, excludes no change, and Wilcoxon agrees if it can."""
        if not self.ratio.is_bounded or self.ratio.holds(1.0):
            return False
        return self.wilcoxon_p is None or self.wilcoxon_p < SIGNIFICANT

    @property
    def sentence(self) -> str:
        """The verdict in words."""
        change, kind = self.ratio.value - 1, "windows" if len(self.pairs) == 1 else "pairs"
        low, high = self.ratio.low - 1, self.ratio.high - 1
        p = "" if self.wilcoxon_p is None else f", Wilcoxon p = {self.wilcoxon_p:.2g}"
        proof = f"95 % interval {low:+.1%} to {high:+.1%}{p}, {self._count}"
        if not math.isfinite(self.log_error):
            verdict = "the readings' error has no bound to tell whether it is real"
        elif not self.ratio.is_bounded:
            verdict = f"too few {kind} to tell whether it is real"
        elif self.is_real:
            verdict = f"the difference is real ({proof})"
        else:
            verdict = f"no difference that these data can tell from chance ({proof})"
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
        error_share: What the readings may be off by, at most, share of the value.
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
        """Bound of the error of the value's logarithm; none when all of it may be error."""
        return -math.log1p(-self.error_share) if self.error_share < 1 else math.inf


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
    """Compare what two results have in common; None when they have nothing.

    Args:
        quantity: Its name, for people.
        baseline: Windows of the baseline, by point.
        other: Windows of the other result, by point.
        rng: Source of chance of the bootstrap.
    """
    keys = [key for key in baseline if key in other]
    pairs = tuple(_pair(key, baseline[key], other[key], rng) for key in keys)
    if not pairs:
        return None
    logs = [math.log(pair.ratio.value) for pair in pairs]
    if len(pairs) == 1:
        return Comparison(quantity, pairs, pairs[0].ratio, None, pairs[0].log_error)
    log_error = math.fsum(pair.log_error for pair in pairs) / len(pairs)
    mean = _exponential(_if_enough(len(pairs), mean_interval(logs, rng)).widened(log_error))
    return Comparison(quantity, pairs, mean, _wilcoxon(logs), log_error)


def corrected(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Correct the p values of several comparisons with one baseline by Holm's method."""
    known = [c for c in comparisons if c.wilcoxon_p is not None]
    known.sort(key=lambda c: c.wilcoxon_p or 0.0)
    found: dict[int, float] = {}
    largest = 0.0
    for rank, comparison in enumerate(known):
        assert comparison.wilcoxon_p is not None, "only known p values are sorted"
        largest = max(largest, min(1.0, comparison.wilcoxon_p * (len(known) - rank)))
        found[id(comparison)] = largest
    return [replace(c, wilcoxon_p=found.get(id(c))) for c in comparisons]


def _pair(key: str, a: Ratios, b: Ratios, rng: np.random.Generator) -> PairRatio:
    log = log_ratio_interval((a.above, a.below), (b.above, b.below), rng)
    windows, log_error = (len(a.above), len(b.above)), a.log_error + b.log_error
    ratio = _exponential(_if_enough(min(windows), log).widened(log_error))
    return PairRatio(key, a.value, b.value, ratio, windows, log_error)


def _if_enough(count: int, interval: Interval) -> Interval:
    """Return the interval; without ends when it is over too few."""
    return interval if count >= FEWEST else Interval(interval.value, -math.inf, math.inf)


def _exponential(log: Interval) -> Interval:
    """Return the interval of e^x; a missing end stays missing, though e^-inf is 0."""
    low = math.exp(log.low) if log.low > -math.inf else -math.inf
    high = math.exp(log.high) if log.high < 700 else math.inf
    return Interval(math.exp(log.value), low, high)


def _wilcoxon(logs: Sequence[float]) -> float | None:
    from scipy.stats import wilcoxon

    if len(logs) < FEWEST_FOR_WILCOXON or not any(logs):
        return None
    return float(wilcoxon(logs).pvalue)
