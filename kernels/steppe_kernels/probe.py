"""Run one kernel for a set time and return the rates that it reached.

Bytes and floating-point operations are counted from the shapes, as documented in the kernel files;
the time is the host's, from an idle device to an idle device.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

BURST_S = 0.05
"""How often the host waits for the device; the gap of about 20 us is then negligible."""


@dataclass(frozen=True, slots=True)
class Workload:
    """A kernel with its tensors, ready to be launched any number of times.

    Attributes:
        name: Kernel and shape.
        launch: Queue one launch.
        wait: Wait until all queued launches are done.
        bytes_per_launch: Bytes that one launch moves between memory and chip.
        flop_per_launch: Floating-point operations of one launch.
    """

    name: str
    launch: Callable[[], None]
    wait: Callable[[], None]
    bytes_per_launch: float
    flop_per_launch: float


@dataclass(frozen=True, slots=True)
class Achieved:
    """The result of a probe.

    Attributes:
        name: Name of the workload.
        launches: Launches in the measured time.
        elapsed_s: Measured time, s.
        bytes_per_s: Achieved bytes/s.
        flop_per_s: Achieved FLOP/s.
    """

    name: str
    launches: int
    elapsed_s: float
    bytes_per_s: float
    flop_per_s: float


def probe(
    workload: Workload, seconds: float, clock_s: Callable[[], float] = time.monotonic
) -> Achieved:
    """Launch a workload repeatedly for some time.

    Two launches come first, unmeasured: they compile the kernel and set the length of a burst.

    Args:
        workload: The workload.
        seconds: Least time to measure, s; ends with the burst that crosses it.
        clock_s: A clock, s.

    Raises:
        ValueError: `seconds` is not positive.
    """
    if seconds <= 0:
        raise ValueError(f"asked for a probe longer than 0 s, found {seconds} s")
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
    return Achieved(workload.name, launches, elapsed_s, moved, computed)


def _burst(workload: Workload, clock_s: Callable[[], float]) -> int:
    """Return the number of launches that take about `BURST_S`."""
    workload.launch()
    workload.wait()
    start_s = clock_s()
    workload.launch()
    workload.wait()
    one_s = clock_s() - start_s
    return max(1, int(BURST_S / one_s)) if one_s > 0 else 1


def wait_for_device() -> None:
    """Wait until the current GPU has done all queued work; return at once without a GPU."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
