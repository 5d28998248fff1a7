"""Energy windows from a counter that is updated periodically, with a bound on the error.

A GPU's energy counter is published about every 100 ms. The difference of two readings is
therefore wrong by up to one such period at each end: 10 % of a 1 s window (95th percentile,
emulated GPUs). The history keeps the two readings around each tick, and interpolates.

The bound needs no assumption about the load. Let `c` be the value published at a tick that fell
between the readings at `early_s` and `late_s`, and let the draw lie between 0 and `max_w`. Then
the true energy E obeys, at any time t,

    E(t) <= c                          for t <= early_s
    E(t) <= c + max_w (t - early_s)    for t >  early_s
    E(t) >= c                          for t >= late_s
    E(t) >= c - max_w (late_s - t)     for t <  late_s

and the ticks around t together give the interval that E(t) lies in. The counter itself
is assumed to integrate the true power.

A counter that goes back, jumps or stops leaves a hole, in which only the power readings are known.
The energy of the hole is their integral, or the rise of the counter if there are no readings, and a
window that touches the hole is `estimated`. A counter that stopped and then rose by more than the
GPU can draw in one period has caught up: its rise counts, and the window is `estimated` as well.
"""

from __future__ import annotations

import bisect
import math
import threading
from dataclasses import dataclass
from itertools import pairwise

from steppe.energy.cross_check import Agreement, Doubt
from steppe.energy.integral import SPIKE_SHARE, PowerHistory
from steppe.energy.tick import RESOLUTION_J, Tick, interpolate, learned_period_s
from steppe.energy.window import EnergyWindow, Quality
from steppe.errors import DeviceError

__all__ = ["CounterHistory", "EnergyWindow", "Quality"]

DEFAULT_PERIOD_S = 0.1
# A counter without a change for this many of its periods, and this long, is frozen.
FROZEN_PERIODS = 10
FROZEN_S = 1.0
# A rise over more periods than these cannot come from the last one alone.
CAUGHT_UP_PERIODS = 2
UNSURE_PERIODS = 0.1
"""Precision of the expected time of a tick, in periods."""
_LEARNED_FROM = 33


@dataclass(frozen=True, slots=True)
class _Edge:
    """The energy at one instant, J, with its error, and whether the counter covers it."""

    energy_j: float
    error_j: float
    is_covered: bool = False


class CounterHistory:
    """One energy counter, fed by a poller that reads it more often than it ticks.

    Adjacent windows add up exactly, whenever they are read, if none ends after
    `covered_until_s`. One thread may add readings while others read windows.
    """

    def __init__(
        self, max_w: float, capacity: int = 4096, source: Quality = Quality.COUNTER
    ) -> None:
        """Start empty.

        Args:
            max_w: Highest draw of the GPU, W. The error bound rests on it.
            capacity: Least number of ticks that are kept: 4096 are about 7 minutes.
            source: Label of covered windows; with `EMULATED`, for emulated GPUs, all windows
                have that label.
        """
        self._max_w = max_w
        self._capacity = capacity
        self._source = source
        self._lock = threading.Lock()
        self._powers = PowerHistory(max_w, capacity)
        self._ticks: list[Tick] = []
        self._period_s = DEFAULT_PERIOD_S
        self._raw_j = 0.0
        self._read_s = -math.inf
        self._suspect: tuple[float, float] | None = None
        self._is_broken = False
        self._doubts = [Doubt(-math.inf)]

    @property
    def covered_until_s(self) -> float:
        """Time of the last tick, s: windows that end later are extrapolated."""
        return self._ticks[-1].at_s if self._ticks else -math.inf

    @property
    def period_s(self) -> float:
        """Time between two ticks, s; 0.1 before the second tick."""
        return self._period_s

    def add(
        self, now_s: float, counter_j: float, power_w: float | None = None, read_s: float = 0.0
    ) -> None:
        """Add a reading; an implausible one counts only after the next one confirms it.

        Args:
            now_s: Just before the reading, s.
            counter_j: The counter, J.
            power_w: The draw over some 25 ms until now, W; not a 1 s mean. Read
                together with a tick, it dates a step of the load; read at least once a
                second, it bridges a failure of the counter.
            read_s: How long the reading took, s.
        """
        with self._lock:
            if power_w is not None and not self._powers.add(now_s, power_w):
                power_w = None
            if not math.isfinite(counter_j) or counter_j < 0.0:
                return
            late_s = now_s + read_s
            if self._ticks:
                self._take(now_s, late_s, counter_j, power_w)
            else:
                first = Tick(late_s, -math.inf, late_s, 0.0, self._drawn_j(late_s), power_w)
                self._ticks.append(first)
                self._raw_j, self._read_s = counter_j, now_s
            if len(self._ticks) > 2 * self._capacity:
                del self._ticks[: self._capacity]

    def counter_at(self, now_s: float) -> float:
        """Return the counter at `now_s`, J, as if it were updated continuously.

        It is computed from the last reading, and is at least 0 if the counter restarted since.

        Raises:
            DeviceError: No reading reaches so far back.
        """
        with self._lock:
            edge = self._edge(now_s)
            since_j = (edge.energy_j - self._ticks[-1].energy_j) / self._doubts[-1].factor
            return max(0.0, self._raw_j + since_j)

    def agreement(self, start_s: float, end_s: float) -> Agreement | None:
        """Return counter and power readings over a time; None where there are too few.

        A time before the counter was last doubted or trusted again is left out.
        """
        with self._lock:
            doubt = self._doubts[-1]
            start_s = max(start_s, doubt.since_s)
            within = [tick for tick in self._ticks if start_s <= tick.at_s <= end_s]
            has_powers = bool(within) and self._powers.begins_by(within[0].at_s)
            if len(within) < 2 or not has_powers or any(tick.after_hole for tick in within[1:]):
                return None
            first, last = within[0], within[-1]
            power_j = last.drawn_j - first.drawn_j
            return Agreement((last.energy_j - first.energy_j) / doubt.factor, power_j)

    def doubt(self, now_s: float, factor: float, gap: float) -> None:
        """Count each joule of the counter `factor` times from now on, and label it `estimated`.

        Args:
            now_s: The present time, s.
            factor: At least 1; 1 as long as the counter gives the larger energy.
            gap: The disagreement with the power readings, share of the larger: part of the error.
                With 0 the counter is trusted again.
        """
        with self._lock:
            self._doubts.append(Doubt(now_s, factor, gap))

    def window(self, start_s: float, end_s: float) -> EnergyWindow:
        """Return the energy between two instants.

        Raises:
            DeviceError: No reading reaches so far back.
        """
        with self._lock:
            start, end = self._edge(start_s), self._edge(end_s)
            holes_j = self._hole_errors_j(start_s, end_s)
            gap = self._gap(start_s, end_s)
        energy_j = end.energy_j - start.energy_j
        most_j = max(energy_j, self._max_w * (end_s - start_s) - energy_j)
        gap_j = gap * max(0.0, energy_j)
        error_j = min(start.error_j + end.error_j + sum(holes_j) + gap_j, most_j)
        quality = Quality.ESTIMATED
        is_covered = start.is_covered and end.is_covered and not holes_j and not gap
        if is_covered or self._source is Quality.EMULATED:
            quality = self._source
        return EnergyWindow(start_s, end_s, energy_j, error_j, quality, not is_covered)

    def _take(self, now_s: float, late_s: float, counter_j: float, power_w: float | None) -> None:
        rise_j = counter_j - self._raw_j
        if self._may_rise(rise_j, late_s - self._ticks[-1].late_s):
            if rise_j > 0.0:
                self._rise(late_s, rise_j, power_w)
        elif self._suspect is not None and self._may_rise(
            counter_j - self._suspect[1], late_s - self._suspect[0]
        ):
            self._is_broken = True
        else:
            self._suspect = (now_s, counter_j)
            return
        self._raw_j, self._read_s, self._suspect = counter_j, now_s, None

    def _may_rise(self, rise_j: float, elapsed_s: float) -> bool:
        """Whether a counter that ticks once per period can rise by this much in this time."""
        most_j = SPIKE_SHARE * self._max_w * (elapsed_s + self._period_s)
        return 0.0 <= rise_j <= most_j

    def _rise(self, late_s: float, rise_j: float, power_w: float | None) -> None:
        last, early_s = self._ticks[-1], self._read_s
        after_hole = self._is_broken or self._was_frozen(last)
        # A slow reading may have begun before the tick that it shows.
        since_s = max(early_s, last.at_s)
        at_s = (since_s + late_s) / 2 if after_hole else self._expected_s(since_s, late_s)
        drawn_j = self._drawn_j(at_s)
        has_caught_up = not self._is_broken and rise_j > CAUGHT_UP_PERIODS * self._period_j
        if after_hole and not has_caught_up and self._powers.covered_until_s > last.at_s:
            rise_j = max(0.0, drawn_j - last.drawn_j)
        else:
            rise_j *= self._doubts[-1].factor
        if not after_hole:
            # A mean above max_w shows that max_w is wrong, and with it every bound.
            self._max_w = max(self._max_w, (rise_j - RESOLUTION_J) / (late_s - last.early_s))
        energy_j = last.energy_j + rise_j
        self._ticks.append(Tick(at_s, early_s, late_s, energy_j, drawn_j, power_w, after_hole))
        self._period_s = learned_period_s(self._ticks[-_LEARNED_FROM:], self._period_s)
        self._is_broken = False

    @property
    def _period_j(self) -> float:
        """Highest energy of the GPU between two ticks, J."""
        return self._max_w * self._period_s

    def _expected_s(self, early_s: float, late_s: float) -> float:
        """Return the time of a tick: whole periods after the last one, within the readings.

        Of several ticks between two readings it is the latest. If that one may lie just before
        the second reading or one period earlier, the middle has the smallest error.
        """
        last, period_s, middle_s = self._ticks[-1], self._period_s, (early_s + late_s) / 2
        if not last.is_dated:
            return middle_s
        latest_s = (max(early_s, late_s - period_s) + late_s) / 2
        expected_s = last.at_s + max(1, round((latest_s - last.at_s) / period_s)) * period_s
        is_unsure = abs(expected_s - latest_s) > (0.5 - UNSURE_PERIODS) * period_s
        if late_s - early_s > period_s / 2 and is_unsure:
            return middle_s
        return min(max(expected_s, early_s), late_s)

    def _drawn_j(self, at_s: float) -> float:
        return self._powers.integral_at(at_s) if self._powers.begins_by(at_s) else 0.0

    @property
    def _frozen_after_s(self) -> float:
        return max(FROZEN_S, FROZEN_PERIODS * self._period_s)

    def _was_frozen(self, since: Tick) -> bool:
        """Whether the counter stopped while the GPU drew power, or while there was no reading."""
        if self._read_s - since.late_s <= self._frozen_after_s:
            return False
        ticked_s = self._read_s - 2 * self._period_s
        has_readings = self._powers.covered_until_s > since.at_s
        return not has_readings or self._drawn_j(ticked_s) > since.drawn_j

    def _edge(self, at_s: float) -> _Edge:
        after = bisect.bisect_right(self._ticks, at_s, key=lambda tick: tick.at_s)
        if after == 0:
            raise DeviceError(f"asked for the energy at {at_s:.3f} s, which no reading covers")
        if after == len(self._ticks):
            return self._beyond(at_s)
        a, b = self._ticks[after - 1], self._ticks[after]
        energy_j = interpolate(a, b, at_s)
        if not b.after_hole:
            return self._bounded(energy_j, at_s, a, b)
        # The tick itself is known, even if a hole follows it.
        return self._bounded(energy_j, at_s, a) if at_s == a.at_s else _Edge(energy_j, math.inf)

    def _beyond(self, at_s: float) -> _Edge:
        """Extrapolate with the power readings, or for a short time with the last mean draw."""
        last = self._ticks[-1]
        if at_s == last.at_s:
            return self._bounded(last.energy_j, at_s, last)
        if self._powers.covered_until_s > last.at_s:
            drawn_j = max(0.0, self._drawn_j(at_s) - last.drawn_j)
        else:
            drawn_j = self._last_mean_w() * min(at_s - last.at_s, self._frozen_after_s)
        return self._bounded(last.energy_j + drawn_j, at_s, last, is_covered=False)

    def _bounded(
        self, energy_j: float, at_s: float, *around: Tick, is_covered: bool = True
    ) -> _Edge:
        """Return an energy with its error bound, without a correction of the energy.

        If the bounds exclude it, a tick has a wrong time. A correction would change again with
        the next tick, and adjacent windows would not add up.
        """
        least_j = max(tick.least_j(at_s, self._max_w) for tick in around)
        most_j = min(tick.most_j(at_s, self._max_w) for tick in around)
        return _Edge(energy_j, max(energy_j - least_j, most_j - energy_j), is_covered)

    def _gap(self, start_s: float, end_s: float) -> float:
        """Return the largest disagreement with the power readings in a window, share."""
        ends_s = [*(doubt.since_s for doubt in self._doubts[1:]), math.inf]
        pairs = zip(self._doubts, ends_s, strict=True)
        return max((d.gap for d, until_s in pairs if d.since_s < end_s and start_s < until_s))

    def _last_mean_w(self) -> float:
        if len(self._ticks) < 2 or self._ticks[-1].after_hole:
            return 0.0
        a, b = self._ticks[-2:]
        return (b.energy_j - a.energy_j) / (b.at_s - a.at_s)

    def _hole_errors_j(self, start_s: float, end_s: float) -> tuple[float, ...]:
        """Return the error bound of each hole that the window touches, J."""
        first = bisect.bisect_right(self._ticks, start_s, key=lambda tick: tick.at_s)
        last = bisect.bisect_left(self._ticks, end_s, key=lambda tick: tick.at_s)
        pairs = pairwise(self._ticks[max(0, first - 1) : last + 1])
        return tuple(
            max(b.energy_j - a.energy_j, self._max_w * (b.late_s - a.early_s))
            for a, b in pairs
            if b.after_hole
        )
