"""Tells of shortages in the log: a line when one is foreseen, begins or ends, not one a tick."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from steppe.report.quantities import span
from steppe.report.records import ShortageTick
from steppe.report.shortages import WORDS, shortage_text

QUIET_S = 60.0
"""A shortage has ended when it has been away for so long, s: a demand that wavers is one line."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Told:
    """What was told of a shortage: that it is here or only foreseen, and was last so when, s."""

    here: bool
    last_s: float


class ShortageLog:
    """Remembers what it has told. Its lines are warnings, which are shown by default.

    Each begins with the time since the run began: in a simulation no other clock tells it.
    """

    def __init__(self) -> None:
        """Begin without a shortage."""
        self._told: dict[str, _Told] = {}

    def note(self, shortages: Sequence[ShortageTick], now_s: float) -> None:
        """Take what is short at a tick, and say what is new.

        Args:
            shortages: What the budget is not enough for, now or to come.
            now_s: Time since the run began, s.
        """
        found = {shortage.of: shortage for shortage in shortages}
        for of, words in WORDS.items():
            shortage, told = found.get(of), self._told.get(of)
            if shortage is not None and (shortage.is_here or told is None or not told.here):
                if told is None or (shortage.is_here and not told.here):
                    _log.warning("%s: %s", span(now_s), shortage_text(shortage))
                self._told[of] = _Told(shortage.is_here, now_s)
            elif told is not None and now_s - told.last_s >= QUIET_S:
                del self._told[of]
                what = "enough again for" if told.here else "no longer expected to fall short of"
                _log.warning("%s: budget %s %s", span(now_s), what, words)
