"""The limits of the grid as a signal of the power budget."""

from __future__ import annotations

from collections.abc import Callable

from steppe.config.section import LARGEST
from steppe.grid.limits.limits import Limits
from steppe.power.signal import Fresh, Reading


class LimitSignal:
    """A `steppe.Signal` for `power.limits`: the limit in force, always fresh.

    A lost link needs no stale reading, because its default is in force then. Where nothing limits
    the site, it gives the largest number that a signal may give.
    """

    def __init__(
        self, limits: Limits, present_s: Callable[[], float], speedup: float = 1.0
    ) -> None:
        """Name the limits.

        Args:
            limits: The limits.
            present_s: Reads the clock of the run, s since it began.
            speedup: `power.speedup`.
        """
        self._limits, self._present_s, self._speedup = limits, present_s, speedup

    def at(self, time_s: float) -> Reading:
        """Return the limit in force at a time of the trace; what is known of it, if that is ahead.

        Args:
            time_s: Time since the run began, s of trace time.
        """
        ahead_s = max(0.0, time_s / self._speedup - self._present_s())
        found = self._limits.in_force(ahead_s)
        return Fresh(LARGEST if found is None else found.watts)
