"""Whether one GPU keeps its clock limit: the requested limits against those observed to hold."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

GRACE_S = 3.0
"""Longest time from requesting a clock limit until it holds, s. Limits change once a second at
most, a clock settles and is read within one more, and a lost call is repeated in the third; a GPU
that takes longer does not keep its limit."""
DISTRUST_S = 30.0
"""Shortest time for which a GPU that exceeded its limit is treated as not keeping it, s: the clock
of an idle GPU is low whatever its limit, so a confirmation while it sleeps proves little. The time
doubles with each relapse."""
LONGEST_DISTRUST_S = 3600.0


@dataclass(frozen=True, slots=True)
class _Request:
    since_s: float
    clock_mhz: int


@dataclass(slots=True)
class ClockLimitMonitor:
    """The clock limits that were requested for one GPU of late, and the one that holds.

    A confirmed limit counts until there has been no confirmation for `GRACE_S`. The GPU keeps its
    limit when the confirmed one is within the highest that was requested in the same time, so a
    limit that falls with every tick leaves each change its time. After a violation the GPU counts
    as not keeping its limit for at least `DISTRUST_S`.

    Attributes:
        confirmed_mhz: The limit that the SM clock last kept, MHz; None before.
        keeps_limit: Whether the GPU keeps its limits, as of the last update.
    """

    confirmed_mhz: int | None = None
    keeps_limit: bool = True
    _unconfirmed_since_s: float | None = None
    _unreachable_since_s: float | None = None
    _trusted_since_s: float = -math.inf
    _distrusted_until_s: float = -math.inf
    _distrust_s: float = DISTRUST_S
    _requests: list[_Request] = field(default_factory=list)

    @property
    def requested_mhz(self) -> int | None:
        """The limit that is requested, MHz; None before the first."""
        return self._requests[-1].clock_mhz if self._requests else None

    @property
    def holds(self) -> bool:
        """Whether the limit that is requested was confirmed at the last update, or none is."""
        is_seen = self._unconfirmed_since_s is None and self._unreachable_since_s is None
        return not self._requests or (is_seen and self.confirmed_mhz == self.requested_mhz)

    def request(self, clock_mhz: int, now_s: float) -> None:
        """Note that a limit is requested; the one before counts for `GRACE_S` more."""
        if clock_mhz != self.requested_mhz:
            self._requests.append(_Request(now_s, clock_mhz))

    def confirm(self, confirmed_mhz: int | None, now_s: float) -> None:
        """Update from the limit that holds now, MHz; None when no limit is confirmed."""
        self._unreachable_since_s = None
        if confirmed_mhz is not None:
            self.confirmed_mhz, self._unconfirmed_since_s = confirmed_mhz, None
        elif self._unconfirmed_since_s is None:
            self._unconfirmed_since_s = now_s
        while len(self._requests) > 1 and self._requests[1].since_s <= now_s - GRACE_S:
            del self._requests[0]
        within_limit = self._is_within_limit(now_s)
        if self.keeps_limit and not within_limit:
            self._distrust(now_s)
        elif within_limit and confirmed_mhz is not None and now_s >= self._distrusted_until_s:
            self._trusted_since_s = self._trusted_since_s if self.keeps_limit else now_s
            self.keeps_limit = True

    def unreachable(self, now_s: float) -> None:
        """Note that limits cannot be read at all; this starts no distrust of the GPU."""
        self._unconfirmed_since_s = None
        if self._unreachable_since_s is None:
            self._unreachable_since_s = now_s
        if self._requests and now_s - self._unreachable_since_s > GRACE_S:
            self.keeps_limit = False

    def is_overdue(self, now_s: float) -> bool:
        """Return whether the requested limit had its time and does not hold."""
        request = self._requests[-1] if self._requests else None
        if request is None or now_s - request.since_s <= GRACE_S:
            return False
        return self.confirmed_mhz != request.clock_mhz or self._is_unconfirmed(now_s)

    def _is_within_limit(self, now_s: float) -> bool:
        """Return whether the GPU keeps a requested limit, or still has time to."""
        if not self._requests or now_s - self._requests[0].since_s < GRACE_S:
            return True
        if self._is_unconfirmed(now_s):
            return False
        highest_mhz = max(request.clock_mhz for request in self._requests)
        return self.confirmed_mhz is None or self.confirmed_mhz <= highest_mhz

    def _is_unconfirmed(self, now_s: float) -> bool:
        """Return whether no limit was confirmed for too long."""
        since_s = self._unconfirmed_since_s
        return since_s is not None and now_s - since_s > GRACE_S

    def _distrust(self, now_s: float) -> None:
        """Start a time of distrust, twice as long after a relapse."""
        relapses = now_s - self._trusted_since_s <= self._distrust_s
        self._distrust_s = min(2 * self._distrust_s, LONGEST_DISTRUST_S) if relapses else DISTRUST_S
        self.keeps_limit, self._distrusted_until_s = False, now_s + self._distrust_s
