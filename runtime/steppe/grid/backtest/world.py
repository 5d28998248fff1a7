"""What happens in the steps of a backtest, and what was expected before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
PriceForecast = Callable[[range, int], Floats]
"""Returns what is expected of the prices of some steps, while those before a step are known."""
LIKE_DAYS = 7
"""Days whose mean is expected of a day ahead."""


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


@dataclass(frozen=True, slots=True)
class World:
    """What happens, and what was expected.

    Attributes:
        price: Day-ahead prices, money per joule.
        price_forecast: What is expected of prices that are not known yet.
        renewable_w: Wind and sun, W.
        renewable_forecast_w: What was forecast of them a day before.
        traffic: Tokens.
        called: Whether reserve is called in the step: 1 or 0.
        memory: How much of the error of a forecast is left after a step.
    """

    price: Floats
    price_forecast: PriceForecast
    renewable_w: Floats
    renewable_forecast_w: Floats
    traffic: Traffic
    called: Floats
    memory: float

    @property
    def steps(self) -> int:
        """Number of steps."""
        return len(self.price)

    def expected_prices(self, steps: range, known_until: int) -> Floats:
        """Return the prices of steps, those that are known and what is expected of the others."""
        known = np.array(steps) < known_until
        return np.where(known, self.price[steps], self.price_forecast(steps, known_until))

    def expected_w(self, steps: range) -> Floats:
        """Return what is expected of wind and sun, from the first of these steps."""
        off_w = self.renewable_w[steps.start] - self.renewable_forecast_w[steps.start]
        return corrected(self.renewable_forecast_w[steps], off_w, self.memory)

    def expected_tps(self, steps: range) -> Floats:
        """Return what is expected of the tokens that cannot wait, from the first of these steps."""
        traffic = self.traffic
        off_tps = traffic.firm_tps[steps.start] - traffic.usual_tps[steps.start]
        return corrected(traffic.usual_tps[steps], off_tps, self.memory)


def corrected(forecast: Floats, off: float, memory: float) -> Floats:
    """Return a forecast corrected by how far it is off now; the correction fades."""
    found: Floats = np.maximum(0.0, forecast + off * memory ** np.arange(len(forecast)))
    return found


def like_days(price: Floats, day_steps: int, before: Floats | None = None) -> PriceForecast:
    """Return a forecast: the mean of the same time of the latest days that are known.

    It uses nothing that is not known yet.

    Args:
        price: All prices.
        day_steps: Steps of a day.
        before: Prices of the days before; None for none.
    """
    whole = price if before is None else np.concatenate([before, price])
    shift = len(whole) - len(price)

    def expected(steps: range, known_until: int) -> Floats:
        known = known_until + shift
        found = np.full(len(steps), float(whole[: max(1, known)].mean()))
        for at, step in enumerate(range(steps.start + shift, steps.stop + shift)):
            days = max(1, -((known - 1 - step) // day_steps))
            latest = step - days * day_steps
            like = np.arange(latest, latest - LIKE_DAYS * day_steps, -day_steps)
            like = like[like >= 0]
            if len(like):
                found[at] = whole[like].mean()
        return found

    return expected
