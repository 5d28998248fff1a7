"""Forecasts to beat: supply stays as it is, or the sky stays as cloudy as it is.

Each comes with empirical quantiles: how far the same forecast was off in the past.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

_DARK_SHARE = 0.05
"""Below this share of its peak a clear sky says nothing about clouds."""
_HIGHEST_INDEX = 1.2
"""Clouds beside the sun can lift the supply above a clear sky's, but not for long (assumed)."""


class Forecaster(Protocol):
    """Forecasts an evenly spaced supply, W, from its past."""

    def ahead(self, past_w: Sequence[float], lead_steps: int) -> float:
        """Return the supply `lead_steps` after the last of at least one past value, W."""
        ...


class Persistence:
    """The supply stays at its last value."""

    def ahead(self, past_w: Sequence[float], lead_steps: int) -> float:
        """Return the last value, W."""
        return past_w[-1]


class ClearSkyPersistence:
    """The share of the clear sky's supply that comes through stays at its last daylight value.

    Args:
        clear_sky_w: Supply under a clear sky, W, for the past and the time ahead; its first
            value belongs to the first past value.
    """

    def __init__(self, clear_sky_w: Sequence[float]) -> None:
        self._clear_sky_w = clear_sky_w
        self._dark_w = _DARK_SHARE * max(clear_sky_w)

    def ahead(self, past_w: Sequence[float], lead_steps: int) -> float:
        """Return the clear sky's supply then, times the last clear-sky index, W."""
        clear_w = self._clear_sky_w[len(past_w) - 1 + lead_steps]
        return self._index(past_w) * clear_w

    def _index(self, past_w: Sequence[float]) -> float:
        """Return the last index seen in daylight; 1 where the past holds none."""
        for position in range(len(past_w) - 1, -1, -1):
            clear_w = self._clear_sky_w[position]
            if clear_w > self._dark_w:
                return min(_HIGHEST_INDEX, past_w[position] / clear_w)
        return 1.0


def forecast_quantiles(
    forecaster: Forecaster,
    past_w: Sequence[float],
    lead_steps: int,
    levels: Sequence[float],
) -> tuple[float, ...]:
    """Return quantiles of the supply `lead_steps` ahead, W, never negative.

    The forecast plus the quantiles of the errors that it made at this lead over the past.

    Args:
        forecaster: The point forecast.
        past_w: Evenly spaced past values, W, more than `lead_steps` of them.
        lead_steps: How far ahead, in spacings of the past.
        levels: Wanted quantiles, each from 0 to 1.
    """
    assert len(past_w) > lead_steps > 0, "the past holds no error at this lead"
    errors_w = sorted(
        past_w[last + lead_steps] - forecaster.ahead(past_w[: last + 1], lead_steps)
        for last in range(len(past_w) - lead_steps)
    )
    point_w = forecaster.ahead(past_w, lead_steps)
    return tuple(max(0.0, point_w + _quantile(errors_w, level)) for level in levels)


def _quantile(ordered: Sequence[float], level: float) -> float:
    """Return a quantile of sorted values, linear between them."""
    position = level * (len(ordered) - 1)
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    share = position - below
    return (1.0 - share) * ordered[below] + share * ordered[above]
