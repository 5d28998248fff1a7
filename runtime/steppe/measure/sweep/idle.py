"""What replicas draw without work."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol

from steppe.errors import DeviceError
from steppe.measure.sweep.result import RestWatts
from steppe.measure.sweep.subject import SweepSubject

SETTLE_S = 0.6
"""Time after new limits before a window begins: clocks and the running step settle, s."""
WINDOW_S = 1.5


class ParkableSubject(SweepSubject, Protocol):
    """A replica that can be put to sleep."""

    @property
    def name(self) -> str:
        """Name of the replica."""
        ...

    def set_frozen(self, frozen: bool) -> None:
        """Put the replica to sleep, or wake it."""
        ...


def measure_draw_w(
    replicas: Sequence[ParkableSubject],
    seconds: float = WINDOW_S,
    sleep: Callable[[float], None] = time.sleep,
) -> float:
    """Return the mean draw of one of the replicas over the next seconds, W.

    Raises:
        DeviceError: The meters of a replica gave no reading meanwhile.
    """
    before = [replica.reading() for replica in replicas]
    sleep(seconds)
    draws_w = []
    for replica, begin in zip(replicas, before, strict=True):
        end = replica.reading()
        if end.time_s <= begin.time_s:
            raise DeviceError(
                f"{replica.name}: asked for {seconds:g} s of energy, found no reading"
            )
        draws_w.append((end.energy_j - begin.energy_j) / (end.time_s - begin.time_s))
    return sum(draws_w) / len(draws_w)


def measure_idle_draw_w(
    replicas: Sequence[ParkableSubject],
    clock_mhz: int,
    sleep: Callable[[float], None] = time.sleep,
) -> float:
    """Return the mean draw of one of the replicas without requests, W.

    Args:
        replicas: Loaded replicas, alike.
        clock_mhz: Clock limit to set first, MHz; 0 where it cannot be set.
        sleep: Waits, s.

    Raises:
        DeviceError: The meters of a replica gave no reading meanwhile.
    """
    for replica in replicas:
        replica.set_point(clock_mhz, 1)
    sleep(SETTLE_S)
    return measure_draw_w(replicas, sleep=sleep)


def measure_rest(
    replicas: Sequence[ParkableSubject],
    lowest_mhz: int,
    sleep: Callable[[float], None] = time.sleep,
) -> RestWatts:
    """Measure the draw of idle and of sleeping replicas at the lowest clock.

    Measure it after a load: a warm GPU leaks more than one that was just started.

    Args:
        replicas: Loaded replicas, alike; awake again when this returns.
        lowest_mhz: Lowest clock limit, MHz; 0 where it cannot be set.
        sleep: Waits, s.

    Raises:
        DeviceError: The meters of a replica gave no reading meanwhile.
    """
    idle_w = measure_idle_draw_w(replicas, lowest_mhz, sleep)
    for replica in replicas:
        replica.set_frozen(True)
    sleep(SETTLE_S)
    asleep_w = measure_draw_w(replicas, sleep=sleep)
    for replica in replicas:
        replica.set_frozen(False)
    return RestWatts(floor_idle_w=idle_w, asleep_w=asleep_w)
