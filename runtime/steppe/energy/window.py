"""Energy between two instants, and how far it can be trusted."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass


class Quality(enum.StrEnum):
    """How joules were found, the best first; it travels with every number that is reported."""

    COUNTER = "counter"
    """From an energy counter that covers the whole window; `error_j` is a bound."""
    INTEGRATED = "integrated"
    """Power readings summed over time, where there is no counter."""
    ESTIMATED = "estimated"
    """Part of the window has no trustworthy reading, or the GPU is shared."""
    EMULATED = "emulated"
    """From an emulated GPU: says nothing about real hardware."""


def worst(qualities: Iterable[str]) -> Quality:
    """Return how joules of all these qualities together were found; emulated if any are.

    No joules at all are as good as counted.
    """
    return max(map(Quality, qualities), key=list(Quality).index, default=Quality.COUNTER)


@dataclass(frozen=True, slots=True)
class EnergyWindow:
    """Energy drawn between two instants.

    Attributes:
        start_s: Begin, s of the meter's clock.
        end_s: End, s of the meter's clock.
        energy_j: Best estimate of the energy, J.
        error_j: The true energy lies within `energy_j` plus or minus this, J. A bound where
            the counter covers the window, an estimate where power was integrated.
        quality: How the energy was found.
        wrong_inside: Whether the error lies not at its ends alone, so that the errors of windows
            that touch add up: it has a hole, or power was summed.
    """

    start_s: float
    end_s: float
    energy_j: float
    error_j: float
    quality: Quality
    wrong_inside: bool = False

    @property
    def mean_w(self) -> float:
        """Mean draw, W."""
        return self.energy_j / (self.end_s - self.start_s)
