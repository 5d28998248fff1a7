"""How long wakes and sleeps of each depth really take, and what they draw."""

from __future__ import annotations

import statistics
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from steppe.control.sleep_ladder import SleepDepth, SleepRung

MOST_KEPT = 64
"""Latest times of each depth that are kept."""


def _latest() -> defaultdict[SleepDepth, deque[float]]:
    return defaultdict(lambda: deque(maxlen=MOST_KEPT))


@dataclass(slots=True)
class SleepTimes:
    """The latest times of each depth, s.

    A start of an engine counts as a wake of a stopped replica, so that its time is known from the
    begin of a run.
    """

    _wakes_s: defaultdict[SleepDepth, deque[float]] = field(default_factory=_latest)
    _sleeps_s: defaultdict[SleepDepth, deque[float]] = field(default_factory=_latest)

    def add_wake(self, depth: SleepDepth, wake_s: float) -> None:
        """Add the time from a depth until a replica served, s."""
        self._wakes_s[depth].append(wake_s)

    def add_sleep(self, depth: SleepDepth, sleep_s: float) -> None:
        """Add the time that a replica took to get to a depth, s."""
        self._sleeps_s[depth].append(sleep_s)

    def rungs(self, stated: Sequence[SleepRung]) -> tuple[SleepRung, ...]:
        """Return rungs with the mean of the measured times, where there are any.

        The mean is what the break-even of a depth needs: it is an expected cost.
        """
        return tuple(self._measured(rung) for rung in stated)

    def wake_quantiles_s(self) -> dict[tuple[SleepDepth, str], float]:
        """Return the median and the 9th decile of the wakes, by depth and `0.5` or `0.9`, s."""
        found: dict[tuple[SleepDepth, str], float] = {}
        for depth, wakes_s in self._wakes_s.items():
            ordered = sorted(wakes_s)
            found[depth, "0.5"] = statistics.median(ordered)
            found[depth, "0.9"] = ordered[min(len(ordered) - 1, int(0.9 * len(ordered)))]
        return found

    def _measured(self, rung: SleepRung) -> SleepRung:
        wakes_s, sleeps_s = self._wakes_s.get(rung.depth), self._sleeps_s.get(rung.depth)
        if wakes_s:
            rung = replace(rung, wake_s=statistics.fmean(wakes_s), source="measured")
        return replace(rung, sleep_s=statistics.fmean(sleeps_s)) if sleeps_s else rung
