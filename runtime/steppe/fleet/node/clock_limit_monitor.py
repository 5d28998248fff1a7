"""Whether one GPU keeps its clock limit: what was asked for, against what was seen to hold."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

GRACE_S = 3.0
"""Longest time from asking for a clock limit until it holds, s. Limits change once a second at
most, a clock settles and is looked at within one more, and a lost call is asked again in the
third; a GPU that is later than that does not obey."""
DISTRUST_S = 30.0
"""Shortest time for which a GPU that did not obey is not believed, s: asleep, the clock of an idle
GPU is low whatever its limit, so only the next work shows. It doubles with each relapse."""
LONGEST_DISTRUST_S = 3600.0


@dataclass(frozen=True, slots=True)
class _Request:
    since_s: float
    clock_mhz: int


@dataclass(slots=True)
class ClockLimitMonitor:
    """The clock limits that one GPU was asked to keep of late, and the one that holds.

    A limit holds until nobody could vouch for any for `GRACE_S`. The GPU keeps what it was asked
    when that limit is within the highest that was asked for in the same time, so a limit that
    falls with every tick leaves each step its time. Who did not obey is believed again after
    `DISTRUST_S`.

    Attributes:
        confirmed_mhz: The limit that the SM clock was last seen to obey, MHz; None before.
        obeys: Whether it keeps its limits, as of the last look.
    """

    confirmed_mhz: int | None = None
    keeps_limit: bool = True
    _doubted_s: float | None = None
    _missed_s: float | None = None
    _believed_s: float = -math.inf
    _distrusted_until_s: float = -math.inf
    _distrust_s: float = DISTRUST_S
    _requests: list[_Request] = field(default_factory=list)

    @property
    def requested_mhz(self) -> int | None:
        """The limit that is asked for, MHz; None before anything was."""
        return self._requests[-1].clock_mhz if self._requests else None

    def request(self, clock_mhz: int, now_s: float) -> None:
        """Note that a limit is asked for; what was wished for before has this much time."""
        if clock_mhz != self.requested_mhz:
            self._requests.append(_Request(now_s, clock_mhz))

    def look(self, confirmed_mhz: int | None, now_s: float) -> None:
        """Note which limit holds now, and judge; None when none can be vouched for."""
        self._missed_s = None
        if confirmed_mhz is not None:
            self.confirmed_mhz, self._doubted_s = confirmed_mhz, None
        elif self._doubted_s is None:
            self._doubted_s = now_s
        while len(self._requests) > 1 and self._requests[1].since_s <= now_s - GRACE_S:
            del self._requests[0]
        keeps = self._keeps_limit(now_s)
        if self.keeps_limit and not keeps:
            self._distrust(now_s)
        elif keeps and confirmed_mhz is not None and now_s >= self._distrusted_until_s:
            self._believed_s = self._believed_s if self.keeps_limit else now_s
            self.keeps_limit = True

    def note_unreachable(self, now_s: float) -> None:
        """Note that there was nobody to ask; that is no reason to distrust the GPU afterwards."""
        self._doubted_s = None
        if self._missed_s is None:
            self._missed_s = now_s
        if self._requests and now_s - self._missed_s > GRACE_S:
            self.keeps_limit = False

    def is_overdue(self, now_s: float) -> bool:
        """Tell whether the limit that is asked for had its time and does not hold."""
        wish = self._requests[-1] if self._requests else None
        if wish is None or now_s - wish.since_s <= GRACE_S:
            return False
        return self.confirmed_mhz != wish.clock_mhz or self._is_doubtful(now_s)

    def _keeps_limit(self, now_s: float) -> bool:
        """Tell whether the GPU keeps what it was asked for, or still has time to."""
        if not self._requests or now_s - self._requests[0].since_s < GRACE_S:
            return True
        if self._is_doubtful(now_s):
            return False
        most_mhz = max(wish.clock_mhz for wish in self._requests)
        return self.confirmed_mhz is None or self.confirmed_mhz <= most_mhz

    def _is_doubtful(self, now_s: float) -> bool:
        """Tell whether nobody could vouch for a limit for too long."""
        return self._doubted_s is not None and now_s - self._doubted_s > GRACE_S

    def _distrust(self, now_s: float) -> None:
        """Believe nothing for a while; twice as long when it was believed for no longer."""
        relapses = now_s - self._believed_s <= self._distrust_s
        self._distrust_s = min(2 * self._distrust_s, LONGEST_DISTRUST_S) if relapses else DISTRUST_S
        self.keeps_limit, self._distrusted_until_s = False, now_s + self._distrust_s
