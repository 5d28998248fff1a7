"""Weather that is drawn by chance, for places of which no measured year ships with steppe.

Both wind and clouds follow an Ornstein-Uhlenbeck process by hours, whose normal values are mapped
to the distribution wanted. A seed gives the same year again; two seeds give independent years.
"""

from __future__ import annotations

import math
import random

from steppe.power.trace import HOUR_S, SupplyTrace, year_trace
from steppe.power.wind import power_share

HOURS = 8760
WEIBULL_SHAPE = 2.0
"""Shape of the distribution of wind speeds, that of Rayleigh: usual where no other is known
(IEC 61400-12-1, annex)."""
CLOUD_MEMORY_H = 8.0
"""Time after which the clouds are others, h; assumed."""
DARKEST = 0.25
"""Share of a clear sky's power under the thickest clouds; assumed."""


def synthetic_wind_trace(
    rated_w: float, mean_mps: float, memory_h: float, seed: int
) -> SupplyTrace:
    """Return a year of a turbine's power, linear between the hours.

    Args:
        rated_w: Rated power, W.
        mean_mps: Mean wind speed at hub height, m/s.
        memory_h: Time in which the autocorrelation falls to 1/e, h.
        seed: Seed of the wind.
    """
    scale = mean_mps / math.gamma(1.0 + 1.0 / WEIBULL_SHAPE)
    speeds = [
        scale * (-math.log1p(-share)) ** (1.0 / WEIBULL_SHAPE)
        for share in _shares(random.Random(f"wind {seed}"), memory_h)
    ]
    return year_trace(HOUR_S, [rated_w * power_share(speed) for speed in speeds])


def hourly_clearness(seed: int) -> tuple[float, ...]:
    """Return the share of a clear sky's power in each hour of a year, from `DARKEST` to 1."""
    shares = _shares(random.Random(f"clouds {seed}"), CLOUD_MEMORY_H)
    return tuple(1.0 - (1.0 - DARKEST) * share for share in shares)


def _shares(rng: random.Random, memory_h: float) -> list[float]:
    """Return 8760 numbers, each uniform between 0 and 1, that change slowly."""
    keep = math.exp(-1.0 / memory_h)
    kick = math.sqrt(1.0 - keep**2)
    level, shares = rng.gauss(0.0, 1.0), []
    for _ in range(HOURS):
        shares.append(min(1.0 - 1e-12, 0.5 * math.erfc(-level / math.sqrt(2.0))))
        level = keep * level + kick * rng.gauss(0.0, 1.0)
    return shares
