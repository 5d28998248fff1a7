"""Which readings of a meter are used: a meter may jump, freeze, or give no number."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from steppe.grid.meters.settings import MeterSettings


@dataclass(frozen=True, slots=True)
class Measured:
    """What a meter gave.

    Attributes:
        watts: Power, W.
        age_s: How old it was when it was asked for, s.
    """

    watts: float
    age_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Used:
    """A reading that is used.

    Attributes:
        watts: Power, W.
        at_s: When it was measured, by the clock of the caller, s.
    """

    watts: float
    at_s: float


@dataclass(frozen=True, slots=True)
class Readings:
    """What is known of a meter.

    Attributes:
        used: The last reading that is used; None before the first.
        refusal: Why the last reading was refused, in one line; empty if it is used.
        raised_w: A rise that the next reading has to confirm, W.
        same_w: The last reading, used or not, W.
        same_s: Since when the meter gives it, s.
    """

    used: Used | None = None
    refusal: str = ""
    raised_w: float | None = None
    same_w: float | None = None
    same_s: float = 0.0

    def with_reading(self, found: Measured, now_s: float, settings: MeterSettings) -> Readings:
        """Return what is known after one more reading.

        Args:
            found: The reading.
            now_s: When it was asked for, s.
            settings: The range, the largest step and the time after which it counts as frozen.
        """
        if not math.isfinite(found.watts) or not math.isfinite(found.age_s):
            return replace(self, refusal=f"asked for a number, found {found.watts} W")
        watts, at_s = found.watts, now_s - max(0.0, found.age_s)
        seen = self if watts == self.same_w else replace(self, same_w=watts, same_s=at_s)
        refusal = _out_of_range(watts, settings) or _frozen(now_s - seen.same_s, settings)
        if refusal:
            return replace(seen, refusal=refusal, raised_w=None)
        if seen._is_sudden(watts, settings):
            refusal = f"asked for a second reading after a rise to {watts:g} W, found none yet"
            return replace(seen, refusal=refusal, raised_w=watts)
        if seen.used is not None and at_s < seen.used.at_s:
            at_s = seen.used.at_s  # a later reading is at least as new
        return replace(seen, used=Used(watts, at_s), refusal="", raised_w=None)

    def _is_sudden(self, watts: float, settings: MeterSettings) -> bool:
        """Whether a reading is a rise that was not seen before."""
        if settings.step_w is None or self.used is None:
            return False
        known_w = self.used.watts if self.raised_w is None else max(self.used.watts, self.raised_w)
        return watts > known_w + settings.step_w


def _out_of_range(watts: float, settings: MeterSettings) -> str:
    if settings.least_w is not None and watts < settings.least_w:
        return f"asked for at least {settings.least_w:g} W, found {watts:g} W"
    if settings.most_w is not None and watts > settings.most_w:
        return f"asked for at most {settings.most_w:g} W, found {watts:g} W"
    return ""


def _frozen(same_s: float, settings: MeterSettings) -> str:
    if settings.frozen_s is None or same_s < settings.frozen_s:
        return ""
    return f"asked for readings that change, found the same one for {same_s:.0f} s"
