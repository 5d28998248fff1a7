"""GPUs of this host for a benchmark: see them, meter them, limit their clocks."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager

from steppe.config import EmulatedSection, RunConfig
from steppe.device.inventory import has_admin_capability
from steppe.device.nvml import NvmlGpu, open_gpus
from steppe.emulator.environment import activate
from steppe.energy.gpu_meters import GpuMeters, wait_for_first_tick, window_over
from steppe.errors import DeviceError, UsageError
from steppe.fleet.stale_runs import gpus_file
from steppe.run.own_agent import own_agent

REST_S = 3.0
COVERED_S = 0.5
"""Longest wait until the counters cover an instant, s: five of the usual periods."""
POLL_S = 0.01


def see_gpus(config: RunConfig) -> tuple[NvmlGpu, ...]:
    """Open the GPUs that a config's replicas will use here; none when they are elsewhere."""
    if config.ray.address != "local":
        return ()
    match config.device:
        case EmulatedSection(profile=profile, count=count):
            activate(profile, count, gpus_file(os.getpid()))
        case _:
            pass
    return open_gpus()


def choose_gpus(indices: Sequence[int]) -> tuple[NvmlGpu, ...]:
    """Open some GPUs of this host, or all when none are named.

    Raises:
        UsageError: One of them is not here, or there are none.
    """
    found = {gpu.index: gpu for gpu in open_gpus()}
    missing = [index for index in indices if index not in found]
    if missing or not found:
        raise UsageError(f"--gpu: asked for {missing or 'a GPU'}, found {sorted(found) or 'none'}")
    return tuple(found[index] for index in indices or sorted(found))


class BenchMeter:
    """Joules of some GPUs of this host, read by a thread of its own."""

    def __init__(self, gpus: Sequence[NvmlGpu]) -> None:
        """Begin to read; waits for the first tick of every counter."""
        self._meters = GpuMeters({gpu.uuid: gpu for gpu in gpus})
        self._meters.start()
        self._histories = tuple(self._meters.histories.values())
        wait_for_first_tick(self._histories)
        # The first instant that every one of them covers.
        self._read_s = max(history.covered_until_s for history in self._histories)
        self._read_j = 0.0

    def read(self) -> tuple[float, float, float, str]:
        """Return time, s; energy since the beginning, J; error since the last call, J; quality."""
        window = window_over(self._histories, self._read_s, max(self._read_s, self._covered_s()))
        self._read_s = window.end_s
        self._read_j += window.energy_j
        return window.end_s, self._read_j, window.error_j, window.quality

    def read_at(self, at_s: float) -> tuple[float, float, str]:
        """Return energy from the beginning until an instant just past, J; error; quality.

        Waits for the counters to cover it: at most a few of their periods. The error is that
        since the last call, J.
        """
        give_up_s = at_s + COVERED_S
        while self._covered_s() < at_s and time.monotonic() < give_up_s:
            time.sleep(POLL_S)
        window = window_over(self._histories, self._read_s, max(at_s, self._read_s))
        self._read_s = window.end_s
        self._read_j += window.energy_j
        return self._read_j, window.error_j, window.quality

    def mean_w(self, seconds: float = REST_S) -> float:
        """Return the mean draw over the next seconds, W.

        Raises:
            DeviceError: The counters did not move meanwhile.
        """
        begin_s, begin_j, _, _ = self.read()
        time.sleep(seconds)
        end_s, end_j, _, _ = self.read()
        if end_s <= begin_s:
            raise DeviceError(f"asked for the draw over {seconds:g} s, found counters that stand")
        return (end_j - begin_j) / (end_s - begin_s)

    def stop(self) -> None:
        """End the thread."""
        self._meters.stop()

    def _covered_s(self) -> float:
        return min(history.covered_until_s for history in self._histories)


@contextmanager
def metering(gpus: Sequence[NvmlGpu]) -> Generator[BenchMeter]:
    """Meter GPUs inside a block."""
    meter = BenchMeter(gpus)
    try:
        yield meter
    finally:
        meter.stop()


@contextmanager
def clock_setter(gpus: Sequence[NvmlGpu]) -> Generator[Callable[[int], None]]:
    """Set the clock limit of GPUs inside a block, through an agent that undoes it whatever happens.

    Raises:
        UsageError: A clock is asked for and this process may not set one.
        AgentError: A limit could not be undone; the message names the lease file, which stays.
    """
    if not has_admin_capability():
        yield _refuse
        return
    with own_agent() as client:

        def set_clock(clock_mhz: int) -> None:
            for gpu in gpus:
                client.set_clock_limit(gpu.uuid, clock_mhz)

        yield set_clock


def _refuse(clock_mhz: int) -> None:
    raise UsageError(f"asked for a clock limit of {clock_mhz} MHz, which needs CAP_SYS_ADMIN")


def counter_period_s(periods_s: dict[str, float]) -> float | None:
    """Return the longest of the measured counter periods, s; None without any."""
    return max(periods_s.values(), default=None)
