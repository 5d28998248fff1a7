"""The rate of an event over a short time."""

from __future__ import annotations

from collections import deque

_RATE_WINDOW_S = 10.0


class RateWindow:
    """The rate of an event over the last 10 s."""

    def __init__(self, started_s: float) -> None:
        self._started_s = started_s
        self._times_s: deque[float] = deque()

    def add(self, now_s: float) -> None:
        """Record one event."""
        self._times_s.append(now_s)
        self._forget(now_s)

    def per_s(self, now_s: float) -> float:
        """Return the mean rate, 1/s; since the start if that was less than 10 s ago."""
        self._forget(now_s)
        return len(self._times_s) / min(_RATE_WINDOW_S, max(1.0, now_s - self._started_s))

    def _forget(self, now_s: float) -> None:
        while self._times_s and self._times_s[0] < now_s - _RATE_WINDOW_S:
            self._times_s.popleft()
