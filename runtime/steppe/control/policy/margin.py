"""The share of the budget that is left free, given how far the draw spreads around its plan."""

from __future__ import annotations

import math

MEMORY = 0.95
"""Weight of the past in the estimate of the variance."""
MOST_SURPRISE, LEAST_SURPRISE = 3.0, 0.05
"""An error counts as at most this many times the known spread, or as the second value where that is
more, so that one bad reading does not cost a third of the power."""
MOST_SPREAD = 1.8
"""Most by which the relative spread grows as fewer replicas are awake: part of their errors is
common to all."""
MOST_SHARE = 0.06
"""Most of the budget that is left free. In a fleet of a few replicas, the smaller plan of a wider
margin changes more often and spreads even further."""
_FARTHEST, _HALVINGS = 6.0, 30


def margin_share(
    variance: float, awake_share: float, least_share: float, over_share: float
) -> float:
    """Return the share of the awake replicas' watts to leave free.

    If errors follow a normal distribution, `over_share` of the energy then lies above the budget.
    Replicas mostly err independently: with n of N awake, the relative spread is sqrt(N / n) times
    that of the whole fleet, at most `MOST_SPREAD` times.

    Args:
        variance: Variance of the draw around its plan while all are awake, share squared.
        awake_share: Share of the replicas that is awake.
        least_share: Least share to leave free while all are awake.
        over_share: Energy that may lie above the budget, share of the energy.
    """
    spread = _spread(awake_share)
    needed = margin_against(spread * math.sqrt(variance), over_share)
    return max(spread * least_share, min(MOST_SHARE, needed))


def learn_variance(variance: float, error: float, awake_share: float) -> float:
    """Return the variance after an error of the draw; only errors upwards widen it.

    Args:
        variance: The variance so far, share squared.
        error: The error, share of the expected draw of the awake replicas.
        awake_share: Share of the replicas that is awake.
    """
    most = max(LEAST_SURPRISE, MOST_SURPRISE * math.sqrt(variance))
    upwards = 2 * min(max(0.0, error) / _spread(awake_share), most) ** 2
    return MEMORY * variance + (1 - MEMORY) * upwards


def _spread(awake_share: float) -> float:
    """Return the relative spread of the draw over that of a fleet that is all awake."""
    return min(MOST_SPREAD, max(1.0, 1 / math.sqrt(awake_share)))


def margin_against(deviation: float, over_share: float) -> float:
    """Return the share of a budget to leave free against a normally distributed draw.

    Args:
        deviation: Standard deviation of the draw around its aim, share of it.
        over_share: Energy that may lie above the budget, share of the energy.

    Returns:
        The margin m with `deviation * L(m / deviation) = over_share`, where L is the loss
        function of the standard normal distribution; 0 where no margin is needed.
    """
    low, high = 0.0, _FARTHEST
    if deviation * _loss(low) <= over_share:
        return 0.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if deviation * _loss(middle) > over_share else (low, middle)
    return deviation * high


def _loss(z: float) -> float:
    """Return the mean excess of a standard normal variable over z."""
    density = math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    return density - z * math.erfc(z / math.sqrt(2)) / 2
