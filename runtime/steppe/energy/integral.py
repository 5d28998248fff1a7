"""Energy of a GPU without a counter: the integral of its power readings."""

from __future__ import annotations

import bisect
import math
import threading
from dataclasses import dataclass

from steppe.energy.window import EnergyWindow, Quality
from steppe.errors import DeviceError

# After a longer gap between readings, the power in the gap is an estimate, s.
LONGEST_GAP_S = 1.0
# A reading above this multiple of the highest draw is a sensor fault.
SPIKE_SHARE = 2.0
# Share of the energy that part-time sampling may miss. Measured on emulated GPUs under changing
# load: 15 % is the 95th percentile of the error of 1 s windows. An estimate, not a bound.
SAMPLING_ERROR = 0.15


@dataclass(frozen=True, slots=True)
class _Reading:
    at_s: float
    power_w: float
    integral_j: float
    is_guessed: bool


class PowerHistory:
    """Power readings of one GPU, summed by the trapezoid rule.

    Not for a sensor that averages over seconds: its readings belong to an earlier window.
    One thread may add readings while others read windows.
    """

    def __init__(
        self, max_w: float, capacity: int = 4096, source: Quality = Quality.INTEGRATED
    ) -> None:
        """Start empty.

        Args:
            max_w: Highest draw of the GPU, W; readings above twice this are ignored.
            capacity: Least number of readings that are kept.
            source: Label of covered windows; with `EMULATED`, for emulated GPUs, all windows
                have that label.
        """
        self._max_w = max_w
        self._capacity = capacity
        self._source = source
        self._lock = threading.Lock()
        self._readings: list[_Reading] = []

    @property
    def covered_until_s(self) -> float:
        """Time of the last reading, s; minus infinity before the first."""
        return self._readings[-1].at_s if self._readings else -math.inf

    def add(self, now_s: float, power_w: float) -> bool:
        """Add a reading; return False if it is not a number, negative or implausible."""
        if not 0.0 <= power_w <= SPIKE_SHARE * self._max_w:
            return False
        with self._lock:
            self._readings.append(self._next(now_s, power_w))
            if len(self._readings) > 2 * self._capacity:
                del self._readings[: self._capacity]
        return True

    def begins_by(self, at_s: float) -> bool:
        """Whether there is a reading at or before `at_s`."""
        with self._lock:
            return bool(self._readings) and self._readings[0].at_s <= at_s

    def integral_at(self, at_s: float) -> float:
        """Return the energy since the first reading, J; the last power counts for a short time.

        Raises:
            DeviceError: No reading reaches so far back.
        """
        with self._lock:
            return self._integral_j(at_s)

    def window(self, start_s: float, end_s: float) -> EnergyWindow:
        """Return the energy between two instants.

        Raises:
            DeviceError: No reading reaches so far back.
        """
        with self._lock:
            energy_j = self._integral_j(end_s) - self._integral_j(start_s)
            unread_s = max(0.0, end_s - max(start_s, self.covered_until_s))
            is_covered = end_s <= self.covered_until_s and not self._has_gap(start_s, end_s)
        quality = Quality.ESTIMATED
        if is_covered or self._source is Quality.EMULATED:
            quality = self._source
        error_j = SAMPLING_ERROR * energy_j + self._max_w * unread_s
        return EnergyWindow(start_s, end_s, energy_j, error_j, quality, wrong_inside=True)

    def _next(self, now_s: float, power_w: float) -> _Reading:
        if not self._readings:
            return _Reading(now_s, power_w, 0.0, is_guessed=False)
        last = self._readings[-1]
        gap_s = now_s - last.at_s
        integral_j = last.integral_j + (last.power_w + power_w) / 2 * gap_s
        return _Reading(now_s, power_w, integral_j, is_guessed=gap_s > LONGEST_GAP_S)

    def _integral_j(self, at_s: float) -> float:
        after = bisect.bisect_right(self._readings, at_s, key=lambda reading: reading.at_s)
        if after == 0:
            raise DeviceError(
                f"asked for the energy at {at_s:.3f} s, which no power reading covers"
            )
        last = self._readings[after - 1]
        if after == len(self._readings):
            return last.integral_j + last.power_w * min(at_s - last.at_s, LONGEST_GAP_S)
        following = self._readings[after]
        share = (at_s - last.at_s) / (following.at_s - last.at_s)
        at_w = last.power_w + share * (following.power_w - last.power_w)
        return last.integral_j + (last.power_w + at_w) / 2 * (at_s - last.at_s)

    def _has_gap(self, start_s: float, end_s: float) -> bool:
        first = bisect.bisect_right(self._readings, start_s, key=lambda reading: reading.at_s)
        for reading in self._readings[first:]:
            if reading.is_guessed:
                return True
            if reading.at_s >= end_s:
                break
        return False
