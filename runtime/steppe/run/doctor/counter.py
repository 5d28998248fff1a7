"""The energy counters: are they there, how often do they move, and do they agree with the power?

The counter of one GPU was found 40 % below its power reading at idle (ml-energy/zeus, issue 181):
joules charged to requests would have been wrong by as much.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

from steppe.errors import DeviceError

POLL_S = 0.01
STEADY_SHARE = 0.1
"""Standard deviation of the power, share of its mean, up to which a short window says something:
the power is a mean of some 25 ms in each 100 ms only (arXiv 2312.02741)."""
LEAST_TICKS = 4


@dataclass(frozen=True, slots=True)
class CounterFacts:
    """The energy counter of one GPU.

    Attributes:
        exists: Whether there is one.
        period_s: Mean time between two of its updates, s; None if it was not watched, or stood.
        counter_w: Mean power by the counter, W; None as `period_s`.
        power_w: Mean of the power readings in the same window, W.
        is_steady: Whether the power hardly changed, so that the two can be compared.
    """

    exists: bool = True
    period_s: float | None = None
    counter_w: float | None = None
    power_w: float | None = None
    is_steady: bool = False

    @property
    def error_share(self) -> float | None:
        """How far the counter is above the power, share of the power; None if not comparable."""
        if self.counter_w is None or not self.power_w or not self.is_steady:
            return None
        return self.counter_w / self.power_w - 1.0


UNWATCHED = CounterFacts()
"""A counter that was not watched."""


class Counted(Protocol):
    """A GPU with a counter and a power reading."""

    @property
    def uuid(self) -> str:
        """Its permanent name."""
        ...

    def energy_j(self) -> float:
        """Return the energy since the driver was loaded, J."""
        ...

    def power_w(self) -> float:
        """Return the power now, W."""
        ...


@dataclass(frozen=True, slots=True)
class Reading:
    """One reading: when, s; the counter, J; the power, W."""

    at_s: float
    energy_j: float
    power_w: float


def watch_counters(
    gpus: Sequence[Counted],
    duration_s: float,
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
) -> Mapping[str, CounterFacts]:
    """Watch counter and power of some GPUs; one that cannot be read is left out.

    Args:
        gpus: The GPUs.
        duration_s: How long, s.
        clock: Returns monotonic time, s.
        pause: Waits, s.
    """
    readings: dict[str, list[Reading]] = {gpu.uuid: [] for gpu in gpus}
    left = {gpu.uuid: gpu for gpu in gpus}
    end_s = clock() + duration_s
    while clock() < end_s and left:
        for uuid, gpu in list(left.items()):
            try:
                readings[uuid].append(Reading(clock(), gpu.energy_j(), gpu.power_w()))
            except DeviceError:
                del left[uuid]
        pause(POLL_S)
    return {uuid: facts_of(readings[uuid]) for uuid in left}


def facts_of(readings: Sequence[Reading]) -> CounterFacts:
    """Return what a series of readings says about a counter.

    Energy and power are compared from the first update of the counter to its last, so that its
    period does not matter.
    """
    moved = [after for before, after in pairwise(readings) if after.energy_j != before.energy_j]
    if len(moved) < LEAST_TICKS:
        return UNWATCHED
    first, last = moved[0], moved[-1]
    between = [r.power_w for r in readings if first.at_s <= r.at_s <= last.at_s]
    span_s = last.at_s - first.at_s
    mean_w = statistics.fmean(between)
    return CounterFacts(
        period_s=span_s / (len(moved) - 1),
        counter_w=(last.energy_j - first.energy_j) / span_s,
        power_w=mean_w,
        is_steady=statistics.pstdev(between) <= STEADY_SHARE * mean_w,
    )
