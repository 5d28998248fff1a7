"""What a site says of the wind and sun to come: its own forecast, with how wrong it usually is.

The quantiles come from what was forecast before and what came then. While too few forecasts of a
lag are known, they are a share of the forecast, which grows with the square root of the lag: 15 %
after an hour, at most 60 %. That share is an assumption, near what persistence misses for a single
wind farm. A supply that is known ahead, such as a trace, has no error once that has been seen.
"""

from __future__ import annotations

from collections.abc import Sequence

from steppe.control.horizon.forecast_error import ForecastErrors
from steppe.sites.view import Expected

LOW, HIGH = 0.1, 0.9
ASSUMED_SHARE, MOST_SHARE = 0.15, 0.6
"""Half of the width that is assumed one hour ahead, and at most, as a share of the forecast."""
_HOUR_S = 3600.0


class Outlook:
    """The surplus of the next steps, with quantiles."""

    def __init__(self, step_s: float) -> None:
        """Begin without earlier forecasts; `step_s` is the length of a step, s."""
        self._step_s, self._errors = step_s, ForecastErrors(step_s)

    def note(self, now_s: float, surplus_w: Sequence[float]) -> None:
        """Note what comes now, and what is forecast for each step after it, W.

        Args:
            now_s: The time, s; it never falls.
            surplus_w: The surplus now, and in each step to come, W.
        """
        if surplus_w:
            self._errors.note(now_s, surplus_w)

    def expected(self, now_epoch_s: float, surplus_w: Sequence[float]) -> tuple[Expected, ...]:
        """Return the forecast with its quantiles; the power of now is known.

        Args:
            now_epoch_s: The time, s since the Unix epoch.
            surplus_w: The surplus now, and in each step to come, W.
        """
        return tuple(
            Expected(now_epoch_s + step * self._step_s, *self._quantiles(step, watts))
            for step, watts in enumerate(surplus_w)
        )

    def _quantiles(self, step: int, watts: float) -> tuple[float, float, float]:
        """Return the lower quantile, the forecast and the upper quantile, W."""
        if not step:
            return watts, watts, watts
        most_w, least_w = self._errors.above_w(step, HIGH), self._errors.above_w(step, LOW)
        if most_w is None or least_w is None:
            hours = step * self._step_s / _HOUR_S
            spread_w = min(MOST_SHARE, ASSUMED_SHARE * hours**0.5) * watts
            most_w, least_w = spread_w, -spread_w
        return max(0.0, watts - max(0.0, most_w)), watts, watts - min(0.0, least_w)
