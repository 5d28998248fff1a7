"""What of a budget is left free, against the spread of the draw around its plan."""

from __future__ import annotations

import math
from dataclasses import dataclass

MEMORY = 0.95
"""Weight of the past in the estimate of the spread."""
MOST_SURPRISE, LEAST_SURPRISE = 3.0, 0.05
"""An error counts for the spread as at most so many times the spread as it is known, or as this
share where that is more: a single bad reading must not cost a third of the power."""
MOST_SPREAD = 1.8
"""However few replicas are awake, their draw is not taken to spread by more than so many times
that of the whole fleet, as a share of it: part of their errors is common to all."""
MOST_SHARE = 0.06
"""However far the draw spreads, no more of the budget is left free for it: in a fleet of a few, the
smaller plan that a wider margin allows is changed more often, and spreads further yet."""
_FARTHEST, _HALVINGS = 6.0, 30


@dataclass(slots=True)
class Margin:
    """Keeps a share of the budget free, so wide that little energy comes to lie above it.

    It is such that, if the error spreads as a normal distribution, `over_share` of the energy
    comes to lie above the budget; only errors upwards make it wider, up to `MOST_SHARE`. Replicas
    err each for itself for the most part: where n of N are awake, their draw spreads by sqrt(N / n)
    times what it does where all are, as a share of it, up to `MOST_SPREAD`, and so much more is
    left free.

    Attributes:
        least_share: Least share of the budget left free while all replicas are awake.
        over_share: Energy that may come to lie above the budget, share of the energy.
        variance: That of the draw of a fleet that is awake, around its plan; share squared.
    """

    least_share: float
    over_share: float
    variance: float = 0.0

    def share(self, awake_share: float) -> float:
        """Return the share of what the awake may draw to leave free, while so many are awake."""
        spread = _spread(awake_share)
        needed = margin_against(spread * math.sqrt(self.variance), self.over_share)
        return max(spread * self.least_share, min(MOST_SHARE, needed))

    def learn(self, error: float, awake_share: float) -> None:
        """Take up an error of the draw, share of what the awake were expected to draw."""
        most = max(LEAST_SURPRISE, MOST_SURPRISE * math.sqrt(self.variance))
        upwards = 2 * min(max(0.0, error) / _spread(awake_share), most) ** 2
        self.variance = MEMORY * self.variance + (1 - MEMORY) * upwards

    def forget(self) -> None:
        """Halve the spread: while all sleep it must not keep them asleep for ever."""
        self.variance /= 4


def _spread(awake_share: float) -> float:
    """Return by how much the draw spreads beside that of a fleet which is all awake."""
    return min(MOST_SPREAD, max(1.0, 1 / math.sqrt(awake_share)))


def margin_against(deviation: float, over_share: float) -> float:
    """Return the share of a budget to leave unused so that little energy comes to lie above it.

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
    """Return the mean by which a standard normal variable exceeds z, where it does."""
    density = math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    return density - z * math.erfc(z / math.sqrt(2)) / 2
