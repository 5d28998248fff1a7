"""How often the clock limit of one GPU may change."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

# A change takes tens to hundreds of milliseconds to show; an earlier check proves nothing.
CHANGE_PERIOD_S = 1.0


@dataclass(frozen=True, slots=True)
class ClockPace:
    """The last change of a clock limit and the pending one: at most one change per second.

    A request is applied at once if the last change is one second old, whether it lowers or raises
    the limit. Otherwise it is pending until then, and a later request replaces it. A request for
    the limit in force drops the pending one. Undoing is not rate-limited.

    Attributes:
        changed_s: When the limit was last changed, s.
        in_force_mhz: The limit in force, MHz; None where the clock is free.
        waiting_mhz: The pending limit, MHz.
    """

    changed_s: float = -math.inf
    in_force_mhz: int | None = None
    waiting_mhz: int | None = None

    def request(self, clock_mhz: int) -> ClockPace:
        """Return the pace with `clock_mhz` pending; nothing is pending if it is in force."""
        waiting_mhz = None if clock_mhz == self.in_force_mhz else clock_mhz
        return replace(self, waiting_mhz=waiting_mhz)

    @property
    def due_s(self) -> float:
        """When the pending limit may be applied, s; infinite if none is pending."""
        return math.inf if self.waiting_mhz is None else self.changed_s + CHANGE_PERIOD_S

    def applied(self, now_s: float) -> ClockPace:
        """Return the pace after the pending limit has been applied."""
        return ClockPace(now_s, self.waiting_mhz)

    def undone(self, now_s: float) -> ClockPace:
        """Return the pace after the clock limit has been removed."""
        return ClockPace(now_s)
