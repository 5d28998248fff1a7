"""How often the clock limit of one GPU may change."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

# A change takes tens to hundreds of milliseconds to show, so judging sooner is guessing.
CHANGE_PERIOD_S = 1.0


@dataclass(frozen=True, slots=True)
class ClockPace:
    """The last change and the one that waits: at most one change a second.

    A wish is applied at once when the last change is a second old, whether it cuts or raises.
    Sooner, it waits until then, and the latest wish replaces the one that waited. Wishing for
    what is already in force does nothing, and takes back what waited. Undoing is never paced.

    Attributes:
        changed_s: When the limit was last changed, s.
        in_force_mhz: The limit in force, MHz; None where the clock is free.
        waiting_mhz: The limit that waits for its turn, MHz.
    """

    changed_s: float = -math.inf
    in_force_mhz: int | None = None
    waiting_mhz: int | None = None

    def request(self, clock_mhz: int) -> ClockPace:
        """Return the pace with `clock_mhz` waiting, or nothing where it is in force."""
        waiting_mhz = None if clock_mhz == self.in_force_mhz else clock_mhz
        return replace(self, waiting_mhz=waiting_mhz)

    @property
    def due_s(self) -> float:
        """When what waits may be applied, s; infinite where nothing waits."""
        return math.inf if self.waiting_mhz is None else self.changed_s + CHANGE_PERIOD_S

    def applied(self, now_s: float) -> ClockPace:
        """Return the pace after what waited has been applied."""
        return ClockPace(now_s, self.waiting_mhz)

    def undone(self, now_s: float) -> ClockPace:
        """Return the pace after the clock has been given back to the driver."""
        return ClockPace(now_s)
