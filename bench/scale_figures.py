"""The arithmetic of the benchmark of scale."""

from __future__ import annotations

import math
from collections.abc import Sequence

PER_HOUR_S = 3600.0


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return the median, the 99th percentile and the most of values, by nearest rank.

    Raises:
        ValueError: There is none.
    """
    if not values:
        raise ValueError("asked for the spread of measured values, found none")
    ordered = sorted(values)
    return {
        "n": float(len(ordered)),
        "p50": ordered[rank(0.5, len(ordered))],
        "p99": ordered[rank(0.99, len(ordered))],
        "most": ordered[-1],
    }


def rank(share: float, count: int) -> int:
    """Return the index of the smallest value that so much of `count` values do not exceed."""
    return max(0, math.ceil(share * count) - 1)
