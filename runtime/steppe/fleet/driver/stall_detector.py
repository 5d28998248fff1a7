"""Detects a controller whose loop has stalled."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class StallDetector:
    """Measures how long a controller's loop has stalled, from how often it has read the budget.

    A stall begins with the first call that found no progress, not with the last progress: the
    calling process may have been paused, too.
    """

    _budget_reads: int | None = None
    _since_s: float | None = None

    def stalled_s(self, budget_reads: int | None, called_s: float, now_s: float) -> float:
        """Take the result of a call, and return for how long there has been no progress, s.

        Args:
            budget_reads: How often the loop has read the budget; None if the call had no result,
                which shows no stall before the first result.
            called_s: When the call was made, s on the monotonic clock.
            now_s: Now, s on the same clock.
        """
        if budget_reads not in (None, self._budget_reads):
            self._budget_reads, self._since_s = budget_reads, None
        elif self._budget_reads is not None and self._since_s is None:
            self._since_s = called_s
        return 0.0 if self._since_s is None else now_s - self._since_s
