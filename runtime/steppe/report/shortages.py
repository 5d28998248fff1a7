"""Shortages of the budget: in the record, in words and in the log."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from steppe.control.shortage_forecast import WORDS, ShortageForecast
from steppe.report.quantities import quantity, span
from steppe.report.records import ShortageTick

QUIET_S = 60.0
"""A shortage is over once it has been absent for this long, s: a wavering demand is one line."""

_log = logging.getLogger(__name__)


def shortage_ticks(forecast: ShortageForecast) -> tuple[ShortageTick, ...]:
    """Return what a tick records of a forecast."""
    return tuple(
        ShortageTick(of, shortage.short_w, shortage.begins_in_s, shortage.ends_in_s)
        for of, shortage in forecast.shortages
    )


def first_shortage(shortages: Sequence[ShortageTick]) -> ShortageTick | None:
    """Return the shortage that begins first, the floor's before the demand's; None without any."""
    ordered = sorted(shortages, key=lambda shortage: (shortage.begins_in_s, shortage.of != "floor"))
    return ordered[0] if ordered else None


def shortage_text(shortage: ShortageTick) -> str:
    """Return a line such as `budget 9.00 W short of the sleeping fleet in 4:05, enough in 9:30`."""
    what = f"budget {quantity(shortage.short_w, 'W')} short of {WORDS[shortage.of]}"
    when = "" if shortage.is_here else f" in {span(shortage.begins_in_s)}"
    end = (
        "no end in the forecast"
        if shortage.ends_in_s is None
        else f"enough in {span(shortage.ends_in_s)}"
    )
    return f"{what}{when}, {end}"


@dataclass(frozen=True, slots=True)
class _Logged:
    """A shortage in the log: whether it had begun, and when it was last there, s."""

    has_begun: bool
    last_s: float


class ShortageLog:
    """Logs a warning when a shortage is foreseen, begins or ends, not one a tick.

    Each line begins with the time since the run began, because a simulation has no other clock.
    """

    def __init__(self) -> None:
        """Begin without a shortage."""
        self._logged: dict[str, _Logged] = {}

    def note(self, shortages: Sequence[ShortageTick], now_s: float) -> None:
        """Log what has changed since the last tick.

        Args:
            shortages: The shortages of a tick, present or foreseen.
            now_s: Time since the run began, s.
        """
        found = {shortage.of: shortage for shortage in shortages}
        for of, words in WORDS.items():
            shortage, logged = found.get(of), self._logged.get(of)
            if shortage is not None and (
                shortage.is_here or logged is None or not logged.has_begun
            ):
                if logged is None or (shortage.is_here and not logged.has_begun):
                    _log.warning("%s: %s", span(now_s), shortage_text(shortage))
                self._logged[of] = _Logged(shortage.is_here, now_s)
            elif logged is not None and now_s - logged.last_s >= QUIET_S:
                del self._logged[of]
                has_begun = logged.has_begun
                what = "enough again for" if has_begun else "no longer expected to fall short of"
                _log.warning("%s: budget %s %s", span(now_s), what, words)
