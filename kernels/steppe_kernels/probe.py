"""Run one kernel for a set time and tell the rates it reached.

Bytes and floating-point operations are counted from the shapes, as the kernel files say; the
time is the host's, from an idle device to an idle device.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

BURST_S = 0.05
"""The host waits for the device this often: the gap, some 20 us, then does not count."""


@dataclass(frozen=True, slots=True)
class Workload:
    """A kernel with its tensors, ready to be launched any number of times.

    Attributes:
        name: Kernel and shape, for people and records.
        launch: Queue one launch.
        wait: Return when all that was queued is done.
        bytes_per_launch: Bytes that one launch moves between memory and chip.
        flop_per_launch: Floating-point operations of one launch.
    """

    name: str
    launch: Callable[[], None]
    wait: Callable[[], None]
    bytes_per_launch: float
    flop_per_launch: float


@dataclass(frozen=True, slots=True)
class Peak:
    """What a device can do at most.

    Attributes:
        bytes_per_s: Memory bandwidth, bytes/s.
        flop_per_s: Dense rate of the matrix units for the dtype at hand, FLOP/s.
    """

    bytes_per_s: float
    flop_per_s: float


@dataclass(frozen=True, slots=True)
class Achieved:
    """What a probe measured.

    Attributes:
        name: Name of the workload.
        launches: Launches in the measured time.
        elapsed_s: Measured time, s.
        bytes_per_s: Achieved bytes/s.
        flop_per_s: Achieved FLOP/s.
        peak: What the device can do; None when unknown.
    """

    name: str
    launches: int
    elapsed_s: float
    bytes_per_s: float
    flop_per_s: float
    peak: Peak | None = None

    @property
    def share_of_bandwidth(self) -> float | None:
        """Achieved bytes/s over the peak; None when the peak is unknown."""
        return None if self.peak is None else self.bytes_per_s / self.peak.bytes_per_s

    @property
    def share_of_compute(self) -> float | None:
        """Achieved FLOP/s over the peak; None when the peak is unknown."""
        return None if self.peak is None else self.flop_per_s / self.peak.flop_per_s


def probe(
    workload: Workload,
    seconds: float,
    peak: Peak | None = None,
    clock_s: Callable[[], float] = time.monotonic,
) -> Achieved:
    """Launch a workload again and again for some time.

    Two launches come first, unmeasured: they compile the kernel and give the length of a burst.

    Args:
        workload: What to launch.
        seconds: Least time to measure, s; ends with the burst that crosses it.
        peak: What the device can do at most.
        clock_s: A clock, s.

    Raises:
        ValueError: `seconds` is not positive.
    """
    if seconds <= 0:
        raise ValueError(f"asked for a probe of {seconds} s, which is no time")
    burst = _burst(workload, clock_s)
    launches, elapsed_s, start_s = 0, 0.0, clock_s()
    while elapsed_s < seconds:
        for _ in range(burst):
            workload.launch()
        workload.wait()
        launches += burst
        elapsed_s = clock_s() - start_s
    rate = launches / elapsed_s
    moved, computed = rate * workload.bytes_per_launch, rate * workload.flop_per_launch
    return Achieved(workload.name, launches, elapsed_s, moved, computed, peak)


def _burst(workload: Workload, clock_s: Callable[[], float]) -> int:
    """Return how many launches take about `BURST_S`."""
    workload.launch()
    workload.wait()
    start_s = clock_s()
    workload.launch()
    workload.wait()
    one_s = clock_s() - start_s
    return max(1, int(BURST_S / one_s)) if one_s > 0 else 1


def wait_for_device() -> None:
    """Return when the current GPU has done all that was queued; at once without one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
