"""Energy between two instants, with its quality and error."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass


class Quality(enum.StrEnum):
    """How joules were measured, best first; part of every reported energy."""

    COUNTER = "counter"
    """From an energy counter that covers the whole window; `error_j` is a bound."""
    INTEGRATED = "integrated"
    """From the integral of power readings, if there is no counter."""
    ESTIMATED = "estimated"
    """Part of the window has no trustworthy reading, or the GPU is shared."""
    EMULATED = "emulated"
    """From an emulated GPU; no statement about real hardware."""


def worst(qualities: Iterable[str]) -> Quality:
    """Return the worst of some qualities: emulated if any is; `counter` if there are none."""
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
        quality: How the energy was measured.
        wrong_inside: Whether the error is not at the ends alone, because of a hole or integrated
            power; the errors of adjacent windows then add up.
        neighbour_j: Energy that other users of a shared GPU took beside it, J.
    """

    start_s: float
    end_s: float
    energy_j: float
    error_j: float
    quality: Quality
    wrong_inside: bool = False
    neighbour_j: float = 0.0

    @property
    def whole_j(self) -> float:
        """Energy of the GPUs, that of other users of a shared GPU included, J."""
        return self.energy_j + self.neighbour_j

    @property
    def mean_w(self) -> float:
        """Mean draw of the GPUs, W."""
        return self.whole_j / (self.end_s - self.start_s)


@dataclass(frozen=True, slots=True)
class EnergyReading:
    """One reading of a running total of energy.

    Attributes:
        time_s: The instant up to which the energy is known, s of the monotonic clock.
        energy_j: Energy since the total began, J.
        error_j: Error of the energy since the reading before, J.
        quality: How the energy since the reading before was found.
    """

    time_s: float
    energy_j: float
    error_j: float
    quality: Quality
