"""Simulated futures: a forecast, and how far earlier forecasts of the same lead were off."""

from __future__ import annotations

import random
from collections.abc import Sequence

from steppe.errors import UsageError


def resampled(
    forecast: Sequence[float],
    errors: Sequence[Sequence[float]],
    count: int,
    rng: random.Random,
) -> list[tuple[float, ...]]:
    """Return so many futures of a series: the forecast times the ratios of one earlier day.

    A day is taken whole, so what follows on a high value in the past follows on it here. No day is
    taken again before all were.

    Args:
        forecast: What is expected in each step.
        errors: For each earlier day what came over what was forecast, in the same steps.
        count: How many futures.
        rng: Chance.

    Raises:
        UsageError: There is no earlier day, or one of another length.
    """
    if not errors:
        raise UsageError("asked for the errors of earlier forecasts, found none")
    for day in errors:
        if len(day) != len(forecast):
            raise UsageError(f"asked for errors of {len(forecast)} steps, found {len(day)}")
    left: list[Sequence[float]] = []
    found = []
    for _ in range(count):
        if not left:
            left = rng.sample(list(errors), len(errors))
        found.append(tuple(x * ratio for x, ratio in zip(forecast, left.pop(), strict=True)))
    return found
