"""Prices, forecast errors, traffic and calls that are synthetic, and how.

The mean of a year's prices and the share of hours below zero are those that RTE published for the
French day-ahead market of 2024 ("Bilan electrique 2024, Prix": 58 EUR/MWh, and 359 hours below
zero); the shape of the day, its spread from day to day, and the errors of the forecasts are
assumptions, named here.
"""

from __future__ import annotations

import math

import numpy as np

from steppe.grid.backtest.world import Floats, Traffic

STEPS, HOURS = 96, 24
"""Steps and hours of a day."""
MEAN_PRICE, NEGATIVE_SHARE = 58.0, 359 / 8784
"""Mean price, EUR/MWh, and share of hours below zero: RTE, France, day ahead, 2024."""
NIGHT_SHAPE = (-14, -18, -21, -22, -20, -10)
NOON_SHAPE = (8, 22, 24, 12, 0, -8, -12, -16, -16, -10)
EVENING_SHAPE = (0, 16, 30, 34, 26, 12, 0, -8)
DAY_SHAPE = (*NIGHT_SHAPE, *NOON_SHAPE, *EVENING_SHAPE)
"""Assumed: how far each hour is from the mean, in units that the scaling takes out."""
PRICE_ERROR, WIND_ERROR, WIND_MEMORY = 0.2, 0.1, 0.985
"""Assumed: error of the price forecast, share of the spread of prices; of the forecast of wind and
sun a day ahead, share of the rated power; and how much of it is left after a step."""
TRAFFIC_ERROR, TRAFFIC_MEMORY, WORK_ERROR = 0.1, 0.95, 0.25
"""Assumed: how far traffic is from the usual one, how much of that is left after a step, and how
far a day's work is from the usual one."""


def prices(days: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Return prices of a year's days as steps, EUR/MWh, and what was forecast a day before."""
    level = _ar(days, 0.7, rng) * 18
    hourly = level.repeat(HOURS) + np.tile(DAY_SHAPE, days) + _ar(days * HOURS, 0.8, rng) * 14
    shape = (hourly - hourly.mean()) / hourly.std()
    at_zero = float(np.quantile(shape, NEGATIVE_SHARE))
    spread = -MEAN_PRICE / at_zero
    found = MEAN_PRICE + spread * shape
    forecast = found + PRICE_ERROR * spread * _ar(days * HOURS, 0.7, rng)
    return found.repeat(STEPS // HOURS), forecast.repeat(STEPS // HOURS)


def renewable_forecast(share: Floats, rng: np.random.Generator) -> Floats:
    """Return a forecast of the day before, share of the rated power."""
    error = WIND_ERROR * _ar(len(share), WIND_MEMORY, rng)
    found: Floats = np.clip(share + error, 0.0, 1.0)
    return found


def traffic(days: int, full_tps: float, rng: np.random.Generator) -> Traffic:
    """Return firm traffic of a third of the full output, and work of a third by day.

    Jobs arrive from 8 to 18 h.
    """
    hours = np.arange(STEPS) / 4
    usual_tps = full_tps * (0.32 + 0.12 * np.sin((hours - 9) / 24 * 2 * math.pi))
    open_hours = ((hours >= 8) & (hours < 18)).astype(float)
    usual_work = full_tps * 86400 * 0.33 * open_hours / open_hours.sum()
    return spread(np.tile(usual_tps, days), np.tile(usual_work, days), full_tps, rng)


def spread(
    usual_tps: Floats, usual_work: Floats, full_tps: float, rng: np.random.Generator
) -> Traffic:
    """Return traffic that is not quite the usual one.

    Args:
        usual_tps: Tokens per second that cannot wait, for each step of whole days.
        usual_work: Tokens that can wait and arrive in the step.
        full_tps: The most tokens per second of the site; traffic is at most three quarters of it.
        rng: Chance.
    """
    steps = len(usual_tps)
    firm_tps = usual_tps * np.exp(TRAFFIC_ERROR * _ar(steps, TRAFFIC_MEMORY, rng))
    days = -(-steps // STEPS)
    scale = np.exp(WORK_ERROR * rng.standard_normal(days)).repeat(STEPS)[:steps]
    most_tps = np.maximum(0.75 * full_tps, usual_tps)
    return Traffic(np.minimum(firm_tps, most_tps), usual_tps, usual_work * scale, usual_work)


def calls(steps: int, share: float, rng: np.random.Generator) -> Floats:
    """Return whether reserve is called in each step: 1 or 0."""
    return (rng.random(steps) < share).astype(float)


def _ar(count: int, memory: float, rng: np.random.Generator) -> Floats:
    """Return a series of mean 0 and spread 1 that keeps this share of the value before."""
    found, value = np.empty(count), float(rng.standard_normal())
    fresh = math.sqrt(1 - memory**2) * rng.standard_normal(count)
    for at in range(count):
        value = memory * value + fresh[at]
        found[at] = value
    return found
