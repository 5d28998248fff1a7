"""What clients ask for, as the gateway estimates it: arrivals of 10 s, lengths of 100 requests."""

from __future__ import annotations

from collections import deque

from steppe.control.state import expected_output_tokens

WINDOW_S = 10.0
RECENT = 100


class Demand:
    """Estimates the output tokens per second that are asked for."""

    __slots__ = ("_arrivals_s", "_tokens")

    def __init__(self) -> None:
        self._arrivals_s: deque[float] = deque()
        self._tokens: deque[int] = deque(maxlen=RECENT)

    def arrive(self, now_s: float) -> None:
        """Note an arrival."""
        self._arrivals_s.append(now_s)

    def finish(self, output_tokens: int) -> None:
        """Note how long an answer was, tokens."""
        self._tokens.append(output_tokens)

    def tps(self, now_s: float) -> float:
        """Return the output tokens per second asked for."""
        arrivals_s = self._arrivals_s
        while arrivals_s and arrivals_s[0] < now_s - WINDOW_S:
            arrivals_s.popleft()
        rate_rps = len(arrivals_s) / min(WINDOW_S, max(1.0, now_s))
        recent = sum(self._tokens) / len(self._tokens) if self._tokens else None
        return rate_rps * expected_output_tokens(recent, now_s)
