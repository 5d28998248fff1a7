"""Board power limits of the next seconds, which the agent follows by itself.

A client renews the schedule of a GPU with every tick of its controller. If it stops, the limits go
down the schedule all the same. If the lease is lost, the last step lasts until the schedule ends:
engines of a dead run may go on for a few seconds, and nothing else limits them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from steppe.errors import AgentError

LONGEST_KEEP_S = 900.0
"""Longest time for which limits may stay after the loss of a lease, s."""


@dataclass(frozen=True, slots=True)
class GpuPowerSchedule:
    """Board power limits of one GPU.

    Attributes:
        at_s: When each step begins, s, ascending.
        limits_w: The limit of each step, W.
        until_s: When the schedule ends, s.
    """

    at_s: tuple[float, ...]
    limits_w: tuple[float, ...]
    until_s: float

    @classmethod
    def of(
        cls, after_s: Sequence[float], limits_w: Sequence[float], keep_s: float, now_s: float
    ) -> GpuPowerSchedule:
        """Return the schedule whose first step begins now.

        Args:
            after_s: When each step begins, s from now; the first at 0.
            limits_w: The limit of each step, W.
            keep_s: When the schedule ends, s from now; at most `LONGEST_KEEP_S`.
            now_s: The present time, s.

        Raises:
            AgentError: There are not as many times as limits, or the times do not ascend from 0.
        """
        if not after_s or after_s[0] != 0 or list(after_s) != sorted(set(after_s)):
            raise AgentError(f"asked for steps that ascend from 0 s, found {list(after_s)}")
        if len(after_s) != len(limits_w):
            raise AgentError(f"asked for {len(after_s)} limits, found {len(limits_w)}")
        at_s = tuple(now_s + step_s for step_s in after_s)
        return cls(at_s, tuple(limits_w), now_s + min(keep_s, LONGEST_KEEP_S))

    def limit_w(self, now_s: float) -> float:
        """Return the limit of the present step, W."""
        begun = (
            limit for at_s, limit in zip(self.at_s, self.limits_w, strict=True) if at_s <= now_s
        )
        *_, limit_w = (self.limits_w[0], *begun)
        return limit_w

    def next_s(self, after_s: float) -> float:
        """Return when the first step after a time begins, s; infinity without one."""
        return min((at_s for at_s in self.at_s if at_s > after_s), default=math.inf)
