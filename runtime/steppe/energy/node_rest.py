"""What a node draws beside its GPUs: from a meter with a delay, or a stated figure.

A reading holds from its arrival until the next one, so adjacent windows add up exactly. What the
meter shows late is counted late. A meter that gives no reading for long is stale: then the stated
figure counts, never zero.
"""

from __future__ import annotations

import bisect
import math
import threading
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from steppe.energy.window import EnergyWindow, Quality

STATED_ERROR = 0.3
"""Error of a stated figure, share of it: an allowance, for it was not measured."""
Source = Literal["measured", "stated", "stale"]
"""Whether a figure is measured, stated because there is no meter, or stated in place of a meter
that is stale."""


@dataclass(frozen=True, slots=True)
class NodeRest:
    """The draw of a node beside its GPUs at one moment.

    Attributes:
        rest_w: The draw, W.
        error_w: Its error, W.
        source: Where the figure is from.
    """

    rest_w: float
    error_w: float
    source: Source

    @property
    def most_w(self) -> float:
        """What is deducted from the budget, W: what a meter may have read too low counts."""
        return self.rest_w + (self.error_w if self.source == "measured" else 0.0)


@dataclass(frozen=True, slots=True)
class _Reading:
    at_s: float
    measured_w: float


class RestHistory:
    """Readings of one node's meter. One thread may add them while others read windows."""

    def __init__(
        self,
        stated_w: float,
        *,
        replaces: bool = True,
        error: float = 0.05,
        stale_s: float = 60.0,
        capacity: int = 4096,
    ) -> None:
        """Begin with the stated figure.

        Args:
            stated_w: The stated draw, W.
            replaces: Whether a reading replaces the stated figure, or is beside it, as the
                processors' own meter is.
            error: Error of a reading, share of it.
            stale_s: Age at which the last reading no longer counts, s.
            capacity: Least number of readings that are kept.
        """
        self._stated_w, self._replaces = stated_w, replaces
        self._error, self._stale_s, self._capacity = error, stale_s, capacity
        self._readings: list[_Reading] = []
        self._lock = threading.Lock()

    @property
    def covered_until_s(self) -> float:
        """A figure holds until the next one: there is one for every instant."""
        return math.inf

    def add(self, now_s: float, measured_w: float) -> bool:
        """Add a reading, W; return False if it is no power, and leave it out."""
        if not 0.0 <= measured_w < math.inf:
            return False
        with self._lock:
            self._readings.append(_Reading(now_s, measured_w))
            if len(self._readings) > 2 * self._capacity:
                del self._readings[: self._capacity]
        return True

    def at(self, now_s: float) -> NodeRest:
        """Return the draw at an instant."""
        with self._lock:
            return self._at(now_s)

    def window(self, start_s: float, end_s: float) -> EnergyWindow:
        """Return the energy between two instants, J."""
        with self._lock:
            energy_j = error_j = 0.0
            is_measured = bool(self._readings) and (self._replaces or not self._stated_w)
            for begin_s, until_s in pairwise(self._edges(start_s, end_s)):
                found = self._at((begin_s + until_s) / 2)  # an edge may round either way
                energy_j += found.rest_w * (until_s - begin_s)
                error_j += found.error_w * (until_s - begin_s)
                is_measured = is_measured and found.source == "measured"
        quality = Quality.INTEGRATED if is_measured else Quality.ESTIMATED
        return EnergyWindow(start_s, end_s, energy_j, error_j, quality, wrong_inside=True)

    def _edges(self, start_s: float, end_s: float) -> list[float]:
        """Return the instants within a window at which the figure may change, with its ends."""
        first = max(0, bisect.bisect_right(self._readings, start_s, key=_at_s) - 1)
        after = bisect.bisect_right(self._readings, end_s, key=_at_s)
        near = self._readings[first:after]
        changes = [at for r in near for at in (r.at_s, r.at_s + self._stale_s)]
        return [start_s, *sorted(at for at in changes if start_s < at < end_s), end_s]

    def _at(self, now_s: float) -> NodeRest:
        after = bisect.bisect_right(self._readings, now_s, key=_at_s)
        if after == 0 or now_s - self._readings[after - 1].at_s >= self._stale_s:
            source: Source = "stale" if after else "stated"
            if not self._replaces and after:  # what processors drew last is nearer than nothing
                beside_w = self._readings[after - 1].measured_w
                stated_w = self._stated_w + beside_w
                return NodeRest(stated_w, STATED_ERROR * stated_w, "stale")
            return NodeRest(self._stated_w, STATED_ERROR * self._stated_w, source)
        measured_w = self._readings[after - 1].measured_w
        error_w = self._error * measured_w
        if self._replaces:
            return NodeRest(measured_w, error_w, "measured")
        return NodeRest(
            self._stated_w + measured_w, error_w + STATED_ERROR * self._stated_w, "measured"
        )


def _at_s(reading: _Reading) -> float:
    return reading.at_s
