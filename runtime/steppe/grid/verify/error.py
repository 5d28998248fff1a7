"""How wrong a baseline is on days on which it can be known: placebo days."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isqrt

from steppe.errors import UsageError
from steppe.ledger.tariff import divided

PPM = 1_000_000


@dataclass(frozen=True, slots=True)
class BaselineError:
    """The error of a method on days without an event.

    Attributes:
        days: How many days.
        intervals: How many intervals of them.
        bias_ppm: Mean of baseline less draw over mean draw, 10^-6; above 0 the method claims more
            than was delivered.
        cvrmse_ppm: Root of the mean squared difference over mean draw, 10^-6, rounded down.
    """

    days: int
    intervals: int
    bias_ppm: int
    cvrmse_ppm: int


def error_of(pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> BaselineError | None:
    """Return the error of baselines; None without a day, or if nothing was drawn.

    Args:
        pairs: Baseline and draw of each day, W, one value an interval.

    Raises:
        UsageError: The two of a pair are not equally long.
    """
    differences, drawn_w = [], 0
    for baseline, load in pairs:
        if len(baseline) != len(load):
            found = f"found {len(baseline)} and {len(load)}"
            raise UsageError(f"placebo: asked for as many baselines as draws, {found}")
        differences += [b - w for b, w in zip(baseline, load, strict=True)]
        drawn_w += sum(load)
    if drawn_w <= 0:
        return None
    count, squares = len(differences), sum(each * each for each in differences)
    return BaselineError(
        len(pairs),
        count,
        divided(sum(differences) * PPM, drawn_w),
        isqrt(count * squares * PPM * PPM) // drawn_w,
    )
