"""Prices, forecasts, traffic and work of the markets' backtest: what is synthetic, and how.

Prices are synthetic. Their mean of a year and the share of hours below zero are those that RTE
published for the French day-ahead market of 2024 ("Bilan electrique 2024, Prix": 58 EUR/MWh, and
359 hours below zero); the shape of the day, its spread from day to day and the spreads of the
intraday market, of imbalance and of reserve are assumptions, named here. Wind is measured: the
farm La Haute Borne in 2014 (ENGIE, Etalab open licence). Traffic and work are synthetic.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
STEPS, HOURS = 96, 24
"""Steps and hours of a day."""
MEAN_PRICE, NEGATIVE_SHARE = 58.0, 359 / 8784
"""Mean price, EUR/MWh, and share of hours below zero: RTE, France, day ahead, 2024."""
NIGHT_SHAPE = (-14, -18, -21, -22, -20, -10)
NOON_SHAPE = (8, 22, 24, 12, 0, -8, -12, -16, -16, -10)
EVENING_SHAPE = (0, 16, 30, 34, 26, 12, 0, -8)
DAY_SHAPE = (*NIGHT_SHAPE, *NOON_SHAPE, *EVENING_SHAPE)
"""Assumed: how far each hour is from the mean, in units that the scaling takes out."""
INTRADAY_SPREAD, IMBALANCE_SPREAD = 1.5, 10.0
"""Assumed: how much worse than day ahead each direction is, EUR/MWh."""
RESERVE_PRICE, CALLED_SHARE = 6.0, 0.03
"""Assumed: EUR per MW and hour of reserve downwards, and how often a quarter is called."""
MISSED_PRICE = 200.0
"""Assumed: EUR per MWh of reserve that was called and not given, beside the imbalance."""
PRICE_ERROR, WIND_ERROR, WIND_MEMORY = 0.2, 0.1, 0.985
"""Assumed: error of the price forecast, share of the spread of prices; of the wind forecast a day
ahead, share of the rated power; and how much of it is left after a step."""


def synthetic_prices(days: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Return prices of a year's days as steps, EUR/MWh, and what was forecast a day before."""
    level = _ar(days, 0.7, rng) * 18
    hourly = level.repeat(HOURS) + np.tile(DAY_SHAPE, days) + _ar(days * HOURS, 0.8, rng) * 14
    shape = (hourly - hourly.mean()) / hourly.std()
    at_zero = float(np.quantile(shape, NEGATIVE_SHARE))
    spread = -MEAN_PRICE / at_zero
    prices = MEAN_PRICE + spread * shape
    forecast = prices + PRICE_ERROR * spread * _ar(days * HOURS, 0.7, rng)
    return prices.repeat(STEPS // HOURS), forecast.repeat(STEPS // HOURS)


def wind_forecast(wind_share: Floats, rng: np.random.Generator) -> Floats:
    """Return a forecast of the day before, share of the rated power."""
    error = WIND_ERROR * _ar(len(wind_share), WIND_MEMORY, rng)
    found: Floats = np.clip(wind_share + error, 0.0, 1.0)
    return found


def corrected(forecast: Floats, off: float) -> Floats:
    """Return a forecast corrected by how far it is off now; the correction fades."""
    found: Floats = np.maximum(0.0, forecast + off * WIND_MEMORY ** np.arange(len(forecast)))
    return found


@dataclass(frozen=True, slots=True)
class Traffic:
    """Tokens of each step.

    Attributes:
        firm_tps: Output tokens per second that cannot wait.
        usual_tps: What is expected of them.
        work: Tokens that can wait and arrive in the step.
        usual_work: What is expected of them.
    """

    firm_tps: Floats
    usual_tps: Floats
    work: Floats
    usual_work: Floats


def traffic(days: int, full_tps: float, rng: np.random.Generator) -> Traffic:
    """Return firm traffic of a third of the full output, and work of a third by day.

    Jobs arrive from 8 to 18 h. A day's jobs vary by a quarter, traffic by a tenth.
    """
    hours = np.arange(STEPS) / 4
    usual = full_tps * (0.32 + 0.12 * np.sin((hours - 9) / 24 * 2 * math.pi))
    usual_tps = np.tile(usual, days)
    firm_tps = usual_tps * np.exp(0.1 * _ar(days * STEPS, 0.95, rng))
    open_hours = ((hours >= 8) & (hours < 18)).astype(float)
    a_day = full_tps * 86400 * 0.33
    usual_work = np.tile(a_day * open_hours / open_hours.sum(), days)
    scale = np.exp(0.25 * rng.standard_normal(days)).repeat(STEPS)
    return Traffic(np.minimum(firm_tps, 0.75 * full_tps), usual_tps, usual_work * scale, usual_work)


def _ar(count: int, memory: float, rng: np.random.Generator) -> Floats:
    """Return a series of mean 0 and spread 1 that remembers this share of the value before."""
    found, value = np.empty(count), float(rng.standard_normal())
    fresh = math.sqrt(1 - memory**2) * rng.standard_normal(count)
    for at in range(count):
        value = memory * value + fresh[at]
        found[at] = value
    return found
