"""One update of an energy counter, and the bounds that it gives."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

# NVML counts whole millijoules.
RESOLUTION_J = 1e-3


@dataclass(frozen=True, slots=True)
class Tick:
    """One update of the counter.

    Attributes:
        at_s: Best estimate of its time.
        early_s: It came after this; minus infinity if only its value is known.
        late_s: It came at or before this.
        energy_j: Energy since the first reading, J; rises although the counter may go back.
        drawn_j: Integral of the power readings up to it, J.
        power_w: Power over about 25 ms that was read with it, W; None if it was not read.
        after_hole: Whether a hole separates it from the tick before.
    """

    at_s: float
    early_s: float
    late_s: float
    energy_j: float
    drawn_j: float
    power_w: float | None
    after_hole: bool = False

    @property
    def is_dated(self) -> bool:
        """Whether the change was observed, and not only its value."""
        return not math.isinf(self.early_s)

    @property
    def middle_s(self) -> float:
        """The middle between the readings around it, s."""
        return (self.early_s + self.late_s) / 2

    def least_j(self, at_s: float, max_w: float) -> float:
        """Return a lower bound of the energy at `at_s`, J."""
        below_j = max_w * (self.late_s - at_s) if at_s < self.late_s else 0.0
        return self.energy_j - below_j - RESOLUTION_J

    def most_j(self, at_s: float, max_w: float) -> float:
        """Return an upper bound of the energy at `at_s`, J."""
        above_j = max_w * (at_s - self.early_s) if at_s > self.early_s else 0.0
        return self.energy_j + above_j + RESOLUTION_J


def interpolate(a: Tick, b: Tick, at_s: float) -> float:
    """Return the energy between two ticks, J.

    A load changes in steps: where the power readings at the two ticks lie on either side of the
    mean draw in between, one step at the right moment explains all three numbers. Elsewhere the
    draw is taken to be steady. (The idea is Harten's subcell resolution, J. Comput. Phys. 83,
    1989; on emulated GPUs it divides the error of a 1 s window by three to six.)
    """
    period_s, since_s = b.at_s - a.at_s, at_s - a.at_s
    mean_w = (b.energy_j - a.energy_j) / period_s
    if a.power_w is None or b.power_w is None or not _is_between(a.power_w, mean_w, b.power_w):
        return a.energy_j + mean_w * since_s
    step_s = period_s * (b.power_w - mean_w) / (b.power_w - a.power_w)
    before_s = min(since_s, step_s)
    return a.energy_j + a.power_w * before_s + b.power_w * (since_s - before_s)


def learned_period_s(ticks: Sequence[Tick], default_s: float) -> float:
    """Return the time between two updates, s, even if some updates were missed."""
    gaps_s = [
        b.middle_s - a.middle_s for a, b in pairwise(ticks) if a.is_dated and not b.after_hole
    ]
    if not gaps_s:
        return default_s
    usual_s = median(gaps_s)
    return sum(gaps_s) / sum(max(1, round(gap_s / usual_s)) for gap_s in gaps_s)


def _is_between(a_w: float, w: float, b_w: float) -> bool:
    return min(a_w, b_w) < w < max(a_w, b_w)
