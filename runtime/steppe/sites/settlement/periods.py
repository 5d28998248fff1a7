"""Periods of settlements: which one has ended, and how long the books may take after its end."""

from __future__ import annotations

LONGEST_GRACE_S, SHORTEST_GRACE_S = 30.0, 3.0
_US = 1_000_000


def grace_s(length_s: int) -> float:
    """Return how long the books may take after the end of a period, s.

    The energy of a request is booked some seconds after it has ended. A receipt that comes later
    still is in the next period.
    """
    return min(LONGEST_GRACE_S, max(SHORTEST_GRACE_S, length_s / 4))


def last_closed(now_s: float, length_s: int) -> int:
    """Return the number of the last period that may be settled by now."""
    return int((now_s - grace_s(length_s)) // length_s) - 1


def due_us(period: int, length_s: int) -> int:
    """Return the time before which requests ended whose receipts have to be there.

    It is us since the Unix epoch, and so long before the end of the period as its grace is after
    it: the clocks of two sites may differ.
    """
    return int(((period + 1) * length_s - grace_s(length_s)) * _US)
