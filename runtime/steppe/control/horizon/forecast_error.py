"""How far forecasts of the surplus were above what came: what a plan must not count on."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

QUANTILE = 0.95
"""Share of the earlier forecasts after which no less came than is counted on now."""
LEAST_SAMPLES, MOST_SAMPLES = 8, 200
"""Forecasts of one lag before it is trusted, and how many are remembered."""


@dataclass(frozen=True, slots=True)
class _Forecast:
    """A forecast whose time has not come: its lag, s, when it is due, s, and its watts."""

    lag_s: float
    due_s: float
    watts: float


@dataclass(slots=True)
class ForecastErrors:
    """Errors of earlier forecasts, by how far they looked ahead.

    Lags are 1, 2, 4 ... steps. A lag that nothing is known of is not trusted at all.

    Attributes:
        step_s: Length of a step, s.
    """

    step_s: float
    _waiting: list[_Forecast] = field(default_factory=list)
    _above_w: dict[int, deque[float]] = field(default_factory=dict)
    _noted_s: float = -math.inf

    def note(self, now_s: float, forecast_w: Sequence[float]) -> None:
        """Compare what is here with what was forecast, and keep what is forecast now.

        Args:
            now_s: The time, s.
            forecast_w: The surplus now, and in each step to come, W.
        """
        due = [one for one in self._waiting if one.due_s <= now_s]
        for one in due:
            samples = self._above_w.setdefault(
                self._exponent(one.lag_s), deque(maxlen=MOST_SAMPLES)
            )
            samples.append(one.watts - forecast_w[0])
        if due:
            self._waiting = [one for one in self._waiting if one.due_s > now_s]
        if now_s - self._noted_s < self.step_s:
            return
        self._noted_s = now_s
        step = 1
        while step < len(forecast_w):
            lag_s = step * self.step_s
            self._waiting.append(_Forecast(lag_s, now_s + lag_s, forecast_w[step]))
            step *= 2

    def certain_w(self, forecast_w: Sequence[float]) -> list[float]:
        """Return what may be counted on in each step, W: the forecast less its usual shortfall."""
        return [
            watts if not step else max(0.0, watts - self._shortfall_w(step))
            for step, watts in enumerate(forecast_w)
        ]

    def above_w(self, step: int, share: float) -> float | None:
        """Return by how much forecasts were above what came; negative if they were below, W.

        Args:
            step: How many steps they looked ahead, at least one.
            share: Share of the forecasts that were above by no more.

        Returns:
            The error; None while too few forecasts of this lag are known.
        """
        samples = sorted(self._above_w.get(self._exponent(step * self.step_s), ()))
        if len(samples) < LEAST_SAMPLES:
            return None
        place = share * len(samples)
        return samples[min(len(samples) - 1, math.ceil(place) if share > 1 / 2 else int(place))]

    def _shortfall_w(self, step: int) -> float:
        above_w = self.above_w(step, QUANTILE)
        return math.inf if above_w is None else max(0.0, above_w)

    def _exponent(self, lag_s: float) -> int:
        """Return the exponent of the next lag of 1, 2, 4 ... steps that is no shorter."""
        return max(0, math.ceil(math.log2(lag_s / self.step_s) - 1e-9))
