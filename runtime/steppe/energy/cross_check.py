"""The energy counter of a GPU against the integral of its power readings.

Both come from the same GPU, so a disagreement says that one is wrong, not which. (Zeus's issue 181
reports a counter off by 40 % at idle.) Then joules are counted by the larger of the two, so that
the fleet stays within its budget, their error covers the other, and they are `estimated`.

Power is read with every update of the counter, over some 25 ms of each 100 ms. A load whose period
is close to that of the sensor may look wrong for a while, so the check is over many seconds and the
bound is wide.
"""

from __future__ import annotations

from dataclasses import dataclass

BOUND = 0.2
"""Largest disagreement that counts as agreement, share of the larger. The integral of instant power
is within 1.2 % over 10 s on emulated GPUs under changing load (95th percentile)."""
FIRST_S = 10.0
"""Length of the first check, s."""
LATER_S = 60.0
"""Length of a later check, s."""
EVERY_S = 300.0
"""Time between two checks, s; `LATER_S` while counter and power disagree. A check reads nothing
more than metering does."""
LEAST_J = 1.0
"""With less energy there is nothing to compare, J."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """Counter and power over the same time.

    Attributes:
        counter_j: What the counter added, J.
        power_j: The integral of the power readings, J.
    """

    counter_j: float
    power_j: float

    @property
    def ratio(self) -> float:
        """Joules of the counter for each joule of the power readings."""
        return self.counter_j / self.power_j

    @property
    def gap(self) -> float:
        """The disagreement, share of the larger."""
        return 1.0 - min(self.counter_j, self.power_j) / max(self.counter_j, self.power_j)

    @property
    def is_broken(self) -> bool:
        """Whether they disagree beyond the bound."""
        return self.gap > BOUND

    @property
    def factor(self) -> float:
        """What the counter's joules are multiplied with, at least 1, to reach the larger."""
        return max(1.0, self.power_j / self.counter_j) if self.counter_j > 0 else 1.0


@dataclass(frozen=True, slots=True)
class Doubt:
    """A counter that disagrees with the power readings, from one instant on.

    Attributes:
        since_s: From when on, s.
        factor: The counter's joules are multiplied with it.
        gap: The disagreement, share of the larger; 0 for none.
    """

    since_s: float
    factor: float = 1.0
    gap: float = 0.0
