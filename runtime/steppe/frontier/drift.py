"""Correct a modelled draw online, by what the meter says."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field

GAIN = 0.2
"""How much of a new error is believed at once: about five windows to follow a change."""
MOST = 1.5
"""A factor beyond this (or below its inverse) is a broken meter or a wrong model, not drift."""


@dataclass(frozen=True, slots=True)
class DrawCorrection:
    """Factors on the modelled draw, one for each clock limit that was seen.

    A value: every window gives a new one. Between two clocks the factor is interpolated,
    beyond them it stays.

    Attributes:
        factors: Measured over modelled draw by clock limit (MHz), smoothed.
    """

    factors: Mapping[int, float] = field(default_factory=dict)

    def observed(self, clock_mhz: int, modelled_w: float, measured_w: float) -> DrawCorrection:
        """Return the correction after one window at a clock limit.

        Args:
            clock_mhz: Clock limit during the window, MHz.
            modelled_w: Uncorrected modelled draw in the window, W.
            measured_w: Measured draw, W.
        """
        if modelled_w <= 0 or measured_w <= 0:
            return self
        seen = min(max(measured_w / modelled_w, 1 / MOST), MOST)
        before = self.factor(clock_mhz)
        return DrawCorrection({**self.factors, clock_mhz: before + GAIN * (seen - before)})

    def factor(self, clock_mhz: float) -> float:
        """Return the factor on the modelled draw at a clock limit; 1 before anything was seen."""
        clocks = sorted(self.factors)
        if not clocks:
            return 1.0
        at = bisect_left(clocks, clock_mhz)
        if at == 0:
            return self.factors[clocks[0]]
        if at == len(clocks):
            return self.factors[clocks[-1]]
        low, high = clocks[at - 1], clocks[at]
        share = (clock_mhz - low) / (high - low)
        return self.factors[low] + share * (self.factors[high] - self.factors[low])

    def corrected_w(self, clock_mhz: float, modelled_w: float) -> float:
        """Return the draw to expect at a clock limit, W."""
        return modelled_w * self.factor(clock_mhz)
