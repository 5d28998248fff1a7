"""The last minute of the requests for one model: how fast they were, and what they asked for.

Requests that another site has served were asked for here: they are demand, and have no times.
"""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass

from steppe.gateway.request import FAILED, REFUSED, FinishedRequest

WINDOW_S = 60.0
MOST_KEPT = 4096
"""Requests that are kept, some 70 a second; with more the window is shorter."""
_TTFT_QUANTILE = 0.95


@dataclass(frozen=True, slots=True)
class _Ended:
    """A request that ended.

    Attributes:
        at_s: When, s.
        ttft_s: Its time to the first token, s; None without a stream, and if it may wait.
        tpot_s: Its time per output token after the first, s; None if that was not seen.
        group: Its tenant and its class.
        output_tokens: Its output tokens; None if no replica gave any.
    """

    at_s: float
    ttft_s: float | None
    tpot_s: float | None
    group: tuple[str, str]
    output_tokens: int | None


class RecentTimes:
    """The requests for one model that ended in the last minute."""

    def __init__(self, started_s: float, window_s: float = WINDOW_S) -> None:
        """Begin without requests.

        Args:
            started_s: The present time, s on the monotonic clock.
            window_s: How long a request counts after its end, s.
        """
        self._started_s, self._window_s = started_s, window_s
        self._ended: deque[_Ended] = deque(maxlen=MOST_KEPT)

    def add(
        self,
        finished: FinishedRequest,
        *,
        is_deferrable: bool,
        now_s: float,
        was_here: bool = True,
    ) -> None:
        """Take up a request that ended; the fault of a client, and its leaving, do not count.

        Args:
            finished: The request.
            is_deferrable: Whether it could wait.
            now_s: The time, s.
            was_here: Whether this site has served it.
        """
        if finished.finish in ("invalid", "cancelled"):
            return
        is_served = finished.finish not in FAILED | REFUSED
        tokens = (finished.output_tokens or 0) if is_served else 0
        ttft_s, tpot_s = finished.ttft_s if is_served and was_here else None, None
        if ttft_s is not None and tokens > 1:
            tpot_s = (finished.e2e_s - ttft_s) / (tokens - 1)
        self._ended.append(
            _Ended(
                now_s,
                None if is_deferrable else ttft_s,
                tpot_s,
                (finished.tenant, finished.priority),
                tokens or None,
            )
        )

    def ttft_p95_s(self, now_s: float) -> float | None:
        """Return the 95th percentile of the time to the first token, s; None without any.

        The waiting time at the gateway is part of it. Deferrable requests do not count.
        """
        self._forget(now_s)
        times = sorted(each.ttft_s for each in self._ended if each.ttft_s is not None)
        return times[min(len(times) - 1, int(_TTFT_QUANTILE * len(times)))] if times else None

    def tpot_mean_s(self, now_s: float) -> float | None:
        """Return the mean time per output token after the first, s; None without any."""
        self._forget(now_s)
        times = [each.tpot_s for each in self._ended if each.tpot_s is not None]
        return sum(times) / len(times) if times else None

    def demand_tps(self, now_s: float, firm: int, deferrable: int) -> dict[tuple[str, str], float]:
        """Return the output tokens per second that are asked for, by tenant and class.

        A request that got none, and one that waits, count with the mean of the others.

        Args:
            now_s: The time, s.
            firm: Requests that wait now and are not deferrable.
            deferrable: Deferrable ones.
        """
        self._forget(now_s)
        known = [each.output_tokens for each in self._ended if each.output_tokens is not None]
        if not known:
            return {}
        mean = sum(known) / len(known)
        tokens: defaultdict[tuple[str, str], float] = defaultdict(float)
        ended = [0, 0]
        for each in self._ended:
            tokens[each.group] += mean if each.output_tokens is None else each.output_tokens
            ended[each.group[1] == "deferrable"] += 1
        span_s = self._span_s(now_s)
        grown = [1 + waits / (n or 1) for waits, n in zip((firm, deferrable), ended, strict=True)]
        return {
            group: each * grown[group[1] == "deferrable"] / span_s for group, each in tokens.items()
        }

    def _span_s(self, now_s: float) -> float:
        """Return the time that is kept, s; at least a second."""
        if len(self._ended) == MOST_KEPT:
            return max(1.0, now_s - self._ended[0].at_s)
        return max(1.0, min(self._window_s, now_s - self._started_s))

    def _forget(self, now_s: float) -> None:
        while self._ended and self._ended[0].at_s < now_s - self._window_s:
            self._ended.popleft()
