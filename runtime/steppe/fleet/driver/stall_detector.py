"""Notices a controller whose loop stands still."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class StallDetector:
    """How long the loop of one controller has stood still, by how often it looked at the budget.

    That begins with the first question that found it so: who asks may have been paused, too.
    """

    _looks: int | None = None
    _since_s: float | None = None

    def still_s(self, looks: int | None, asked_s: float, now_s: float) -> float:
        """Take an answer, and return how long there was none with other looks, s.

        Args:
            looks: How often the loop has looked; None for no answer, which tells nothing of a
                loop that was never seen.
            asked_s: When it was asked, s on the monotonic clock.
            now_s: Now, s on the same clock.
        """
        if looks not in (None, self._looks):
            self._looks, self._since_s = looks, None
        elif self._looks is not None and self._since_s is None:
            self._since_s = asked_s
        return 0.0 if self._since_s is None else now_s - self._since_s
