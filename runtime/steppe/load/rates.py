"""How the rate of arrivals varies: in bursts, over a day, and in a crowd."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
DAY_H = 24.0
"""Hours of a day."""


@dataclass(frozen=True, slots=True)
class Burstiness:
    """The burstiness of arrivals.

    Requests form a gamma renewal process with a varying rate: the logarithm of the rate is an
    Ornstein-Uhlenbeck process. Poisson arrivals are `Burstiness(1.0, 0.0, 1.0)`.

    Attributes:
        gap_shape: Shape of the gamma-distributed gaps; below 1 is burstier than Poisson.
        rate_variance: Variance of the rate over the square of its mean.
        rate_memory_s: Correlation time of the rate, s: its autocorrelation falls to 1/e.
    """

    gap_shape: float
    rate_variance: float
    rate_memory_s: float

    def rate_path(self, rng: np.random.Generator, steps: int, step_s: float) -> Floats:
        """Draw the rate, over its long-run mean, at `steps` moments `step_s` apart."""
        spread = math.sqrt(math.log1p(self.rate_variance))
        keep = math.exp(-step_s / self.rate_memory_s)
        kicks = rng.standard_normal(steps) * spread
        kicks[1:] *= math.sqrt(1 - keep**2)
        path = np.empty(steps)
        level = 0.0
        for index, kick in enumerate(kicks):
            level = keep * level + kick
            path[index] = level
        return np.exp(path - spread**2 / 2)


@dataclass(frozen=True, slots=True)
class DailyEnvelope:
    """A rate that rises and falls once a period; constant by default.

    Attributes:
        depth: Amplitude of the rate about its mean, share of the mean, 0 to below 1.
        peak_s: When the rate is highest, s.
        period_s: Length of the period, s.
    """

    depth: float = 0.0
    peak_s: float = 14 * 3600.0
    period_s: float = 24 * 3600.0

    def __post_init__(self) -> None:
        if not 0 <= self.depth < 1 or not self.period_s > 0:
            raise ValueError(f"asked for a depth in [0, 1) and a period above 0, found {self}")

    def at(self, times_s: Floats) -> Floats:
        """Return the rate over its mean at these times."""
        phase = 2 * np.pi * (times_s - self.peak_s) / self.period_s
        return 1 + self.depth * np.cos(phase)


STEADY = DailyEnvelope()


@dataclass(frozen=True, slots=True)
class DayClock:
    """The hour of the day at a time of a run; a day may pass faster than it does.

    Attributes:
        begin_hour: Hour of the day at which the run begins, h.
        day_s: Length of a day in the run, s.
    """

    begin_hour: float = 0.0
    day_s: float = 24 * 3600.0

    def hours_at(self, times_s: Floats) -> Floats:
        """Return the hour of the day at these times, h since the midnight before the run."""
        return self.begin_hour + DAY_H * times_s / self.day_s


REAL_DAY = DayClock()
"""A day of 24 hours from midnight."""


@dataclass(frozen=True, slots=True)
class FlashCrowd:
    """A rate that rises to a multiple within seconds, stays there and falls as fast.

    Attributes:
        factor: The highest rate over the rate before.
        begins_share: When the rate begins to rise, share of the duration.
        rise_s: Time in which it rises, and in which it falls, s.
        hold_s: Time for which it stays high, s.
    """

    factor: float = 10.0
    begins_share: float = 0.5
    rise_s: float = 10.0
    hold_s: float = 60.0

    def at(self, times_s: Floats, duration_s: float) -> Floats:
        """Return the rate over the rate before the crowd at these times of a run."""
        begin_s = self.begins_share * duration_s
        corners_s = begin_s + np.cumsum([0.0, self.rise_s, self.hold_s, self.rise_s])
        return np.interp(times_s, corners_s, [1.0, self.factor, self.factor, 1.0])
