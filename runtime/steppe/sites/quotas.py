"""How much a site may send to each other site: leases that rise slowly and fall at once.

All gateways see one surplus. A lease bounds what each of them sends there, and its ramp how fast
that begins, so that they do not arrive together. A lease that is not renewed fades over the last
third of its time. Without a planner nothing goes to other sites.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from steppe.errors import UsageError

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

SHORTEST_S, LONGEST_S = 10.0, 60.0
"""A lease lasts no shorter and no longer."""
FADE_SHARE = 1.0 / 3.0
"""Share of its time over which a lease that is not renewed fades."""
BURST_S = 10.0
"""Tokens that are not sent are kept for so long."""
OWED_S = 30.0
"""Conversations that go on, and requests larger than a full quota, may use up to so much of a quota
before its time."""
RAMP_PER_S = 0.1
"""Share of the capacity of a site by which all quotas to it may rise together each second."""


@dataclass(frozen=True, slots=True)
class QuotaLease:
    """What this site may send to another one for a while.

    Attributes:
        site: Name of the other site.
        model: Name of the model.
        priority: Priority class.
        output_tps: Output tokens per second.
        ramp_tps2: By how much the quota may rise each second, output tokens per second squared: the
            share of this site in `RAMP_PER_S` of the capacity there.
        granted_s: When it was received, by the monotonic clock of this host, s.
        lasts_s: For how long it holds, s.
    """

    site: str
    model: str
    priority: str
    output_tps: float
    ramp_tps2: float
    granted_s: float
    lasts_s: float

    def __post_init__(self) -> None:
        """Check the time.

        Raises:
            UsageError: The lease is too short or too long, or a number is negative.
        """
        if not SHORTEST_S <= self.lasts_s <= LONGEST_S:
            raise UsageError(
                f"lease to {self.site}: asked for {SHORTEST_S:g} to {LONGEST_S:g} s, "
                f"found {self.lasts_s:g} s"
            )
        if not (0.0 <= self.output_tps < np.inf and 0.0 <= self.ramp_tps2 < np.inf):
            raise UsageError(
                f"lease to {self.site}: asked for numbers of 0 or more, found "
                f"{self.output_tps:g} tokens/s with a ramp of {self.ramp_tps2:g}"
            )


class _Buckets:
    """Tokens that may be sent to each site, of one model and class.

    Attributes:
        left: Output tokens that may be sent now; infinite for this site.
        rate_tps: The quota now, output tokens per second.
    """

    __slots__ = ("asked_tps", "burst_s", "ends_s", "lasts_s", "left", "ramp_tps2", "rate_tps")

    def __init__(self, sites: int, burst_s: float) -> None:
        self.burst_s = burst_s
        self.left, self.rate_tps, self.asked_tps, self.ramp_tps2 = np.zeros((4, sites))
        self.ends_s, self.lasts_s = np.full(sites, -np.inf), np.ones(sites)
        self.left[0] = np.inf

    def advance(self, passed_s: float, now_s: float) -> None:
        """Let time pass, s."""
        faded = (self.ends_s - now_s) / (FADE_SHARE * self.lasts_s)
        level_tps = self.asked_tps * np.clip(faded, 0.0, 1.0)
        rate_tps = np.minimum(level_tps, self.rate_tps + self.ramp_tps2 * passed_s)
        filled = self.left + np.minimum(rate_tps, self.rate_tps) * passed_s
        self.left = np.minimum(filled, rate_tps * self.burst_s)
        self.left[0] = np.inf
        self.rate_tps = rate_tps


class Quotas:
    """The leases of a site and what is left of them.

    Args:
        names: Names of the sites, this one first.
        now_s: Now, s.
        burst_s: For how long tokens that are not sent are kept, s.
    """

    def __init__(self, names: Sequence[str], now_s: float, burst_s: float = BURST_S) -> None:
        self._burst_s = burst_s
        self._index = {name: index for index, name in enumerate(names)}
        self._now_s = now_s
        self._buckets: dict[tuple[str, str], _Buckets] = {}
        self._none = _Buckets(len(names), burst_s).left

    def grant(self, leases: Iterable[QuotaLease]) -> None:
        """Put new leases in the place of those of the same site, model and class.

        Raises:
            UsageError: A lease is to this site or to an unknown one.
        """
        for lease in leases:
            index = self._index.get(lease.site, 0)
            if not index:
                raise UsageError(f"asked for a lease to another known site, found {lease.site}")
            key = lease.model, lease.priority
            if key not in self._buckets:
                self._buckets[key] = _Buckets(len(self._index), self._burst_s)
            buckets = self._buckets[key]
            buckets.asked_tps[index] = lease.output_tps
            buckets.ramp_tps2[index] = lease.ramp_tps2
            buckets.ends_s[index] = lease.granted_s + lease.lasts_s
            buckets.lasts_s[index] = lease.lasts_s

    def advance(self, now_s: float) -> None:
        """Let quotas rise, fall, fade and fill: about once a second, before `grant` takes effect.

        Args:
            now_s: Now, s; a time before the last one changes nothing.
        """
        passed_s = now_s - self._now_s
        if passed_s <= 0.0:
            return
        self._now_s = now_s
        for buckets in self._buckets.values():
            buckets.advance(passed_s, now_s)

    def left_of(self, model: str, priority: str) -> Floats:
        """Return the output tokens that may be sent to each site now; infinite for this one."""
        buckets = self._buckets.get((model, priority))
        return self._none if buckets is None else buckets.left

    def allow(self, model: str, priority: str, tokens: float) -> Bools:
        """Return to which sites a request may be sent now; always to this one.

        A request of more tokens than a full quota holds would never be sent. When the quota is full
        it may be sent for up to `OWED_S` of the quota before its time, and leaves a debt.

        Args:
            model: Name of the model.
            priority: Priority class.
            tokens: Its output tokens.
        """
        buckets = self._buckets.get((model, priority))
        if buckets is None:
            return self._none >= tokens
        allowed: Bools = buckets.left >= tokens
        if not allowed.all():
            is_full = buckets.left >= buckets.rate_tps * buckets.burst_s
            allowed |= is_full & (buckets.left + OWED_S * buckets.rate_tps >= tokens)
        return allowed

    def may_owe(self, site: str, model: str, priority: str, tokens: float) -> bool:
        """Return whether a conversation may go on at a site, at the cost of new ones there."""
        buckets = self._buckets.get((model, priority))
        index = self._index[site]
        if buckets is None or not index:
            return not index
        return bool(buckets.left[index] + OWED_S * buckets.rate_tps[index] >= tokens)

    def rate_of(self, site: str, model: str, priority: str) -> float:
        """Return a quota now, output tokens per second."""
        buckets = self._buckets.get((model, priority))
        return 0.0 if buckets is None else float(buckets.rate_tps[self._index[site]])

    def spend(self, site: str, model: str, priority: str, tokens: float) -> None:
        """Take tokens for a request that goes to a site; below zero to give them back.

        A request that was longer than expected leaves a debt, which the quota fills first.
        """
        buckets = self._buckets.get((model, priority))
        if buckets is not None:
            buckets.left[self._index[site]] -= tokens
