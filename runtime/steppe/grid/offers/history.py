"""What the site could give at earlier times, and the futures that follow from it.

A future of now is what followed on an earlier time that was like now: one at which the site could
give about as much. So every future is a stretch of the history. The earlier times are apart from
each other by the length of the window: of two that are near, one says nothing new. What the site
gives in a window is the lowest that it gives at any time of it.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from steppe.grid.offers.offer import Call
from steppe.grid.offers.sources import Source
from steppe.grid.verify.delivery import Direction

FUTURES = 39
"""Most futures, unless the confidence needs more: the earlier times that are most like now."""
GAP_S = 900.0
"""Moments that are further apart than this, s, have a gap between them: nothing is known of it."""


@dataclass(frozen=True, slots=True)
class Moment:
    """What the site could give at a time.

    Attributes:
        at_s: The time, s since the Unix epoch.
        sources: The sources, in both directions.
    """

    at_s: float
    sources: tuple[Source, ...]


@dataclass(frozen=True, slots=True)
class Window:
    """The time for which something is offered.

    Attributes:
        from_s: When it begins, s since the Unix epoch.
        until_s: When it ends; a call is over by then.
    """

    from_s: float
    until_s: float


class Past:
    """A history, as one kind of call in one direction needs it."""

    def __init__(self, history: Sequence[Moment], call: Call, direction: Direction) -> None:
        """Prepare.

        Args:
            history: The moments, by time.
            call: Notice and hold time of a call.
            direction: Whether less or more is drawn.
        """
        self._call, self._direction = call, direction
        self._times_s = [moment.at_s for moment in history]
        self._usable = [usable(moment, call, direction) for moment in history]
        self._given_w = [_given_w(row, call.hold_s) for row in self._usable]
        steps = zip(self._times_s, self._times_s[1:], strict=False)
        self._gaps = [0, *accumulate(after - at > GAP_S for at, after in steps)]

    def futures(self, now: Moment, window: Window) -> list[tuple[Source, ...]]:
        """Return what the site gives in a window, in each future.

        None if the history has fewer of them than the confidence needs.

        Args:
            now: The present moment.
            window: When it is offered.
        """
        times_s = self._times_s
        length_s, apart_s = window.until_s - now.at_s, window.until_s - window.from_s
        starts = [n for n, at_s in enumerate(times_s) if self._is_whole(n, at_s + length_s)]
        here_w = _given_w(usable(now, self._call, self._direction), self._call.hold_s)
        starts.sort(key=lambda n: abs(self._given_w[n] - here_w))
        least = needed(self._call.confidence)
        chosen = _apart([times_s[n] for n in starts], apart_s, max(FUTURES, least))
        if len(chosen) < least:
            return []
        return [self._after(at_s - now.at_s, window) for at_s in chosen]

    def _after(self, by_s: float, window: Window) -> tuple[Source, ...]:
        """Return what the site gave in a window that was so much earlier."""
        first = bisect_right(self._times_s, window.from_s + by_s) - 1
        after = bisect_left(self._times_s, window.until_s + by_s) + 1
        return lowest(self._usable[max(0, first) : after], self._call.hold_s)

    def _is_whole(self, first: int, until_s: float) -> bool:
        """Return whether the history goes on until a time, without a gap."""
        after = bisect_left(self._times_s, until_s)
        return after < len(self._times_s) and self._gaps[after] == self._gaps[first]


def needed(confidence: float) -> int:
    """Return how many futures a confidence needs at least."""
    return math.ceil(1.0 / (1.0 - confidence) - 1.0 - 1e-9)


def usable(moment: Moment, call: Call, direction: Direction) -> list[Source]:
    """Return the sources of a direction that act within the notice of a call."""
    return [
        one
        for one in moment.sources
        if one.direction is direction and one.notice_s <= call.notice_s and one.watts > 0.0
    ]


def lowest(rows: Sequence[Sequence[Source]], hold_s: float) -> tuple[Source, ...]:
    """Return what a site gives at every one of some moments, the cheapest sources first.

    What the sources up to each price give together is the lowest of all moments.

    Args:
        rows: The sources of each moment, of one direction.
        hold_s: Hold time of a call, s.
    """
    same: dict[str, list[Source]] = {}
    for one in (one for row in rows for one in row):
        same.setdefault(one.name, []).append(one)
    prices = {name: max(one.price for one in found) for name, found in same.items()}
    names = sorted(prices, key=lambda name: prices[name])
    sums = [_sums_w(row, names, hold_s) for row in rows]
    found, below_w = [], 0.0
    for name, sums_w in zip(names, zip(*sums, strict=True), strict=True):
        lowest_w = min(sums_w)
        if lowest_w > below_w:
            found.append(_worst_of(same[name], prices[name], lowest_w - below_w))
            below_w = lowest_w
    return tuple(found)


def _sums_w(row: Sequence[Source], names: Sequence[str], hold_s: float) -> list[float]:
    """Return what the sources up to each name give together, W."""
    watts = dict.fromkeys(names, 0.0)
    for one in row:
        watts[one.name] += one.sustained_w(hold_s)
    return list(accumulate(watts[name] for name in names))


def _given_w(row: Sequence[Source], hold_s: float) -> float:
    return sum(one.sustained_w(hold_s) for one in row)


def _worst_of(same: Sequence[Source], price: float, watts: float) -> Source:
    """Return a source of some watts that is no better than any of those of its name."""
    return Source(
        name=same[0].name,
        watts=watts,
        notice_s=max(one.notice_s for one in same),
        ramp_w_per_s=min(one.ramp_w_per_s / one.watts for one in same) * watts,
        price=price,
        tokens_per_j=max(one.tokens_per_j for one in same),
        slo_tokens_per_j=max(one.slo_tokens_per_j for one in same),
        rebound_share=max(one.rebound_share for one in same),
        recovery_s=max(one.recovery_s for one in same),
        direction=same[0].direction,
    )


def _apart(times_s: Sequence[float], apart_s: float, most: int) -> list[float]:
    """Return the first of some times that are apart from each other."""
    found: list[float] = []
    for at_s in times_s:
        place = bisect_left(found, at_s)
        near = found[max(0, place - 1) : place + 1]
        if all(abs(at_s - other_s) >= apart_s for other_s in near):
            found.insert(place, at_s)
            if len(found) == most:
                break
    return found
