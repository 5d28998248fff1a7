"""Energy of this host's GPUs for any program: windows around the work that is to be metered.

Accounting follows `energy/counter.py`: energy comes from the counters that the GPUs keep, is
interpolated between the counters' own updates, and carries a bound of its error and its source.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Self

from steppe.device.nvml import NvmlGpu, open_gpus
from steppe.energy.gpu_meters import EnergyHistory, GpuMeters, wait_for_first_tick, window_over
from steppe.energy.span import span_error_j
from steppe.energy.window import EnergyReading, Quality, worst
from steppe.errors import DeviceError, UsageError

REST_S = 3.0
COVERED_S = 0.5
"""Longest wait until the counters cover an instant, s: five of the usual counter periods."""
POLL_S = 0.01
SETTLE_S = 60.0
"""Open windows are added up this often, s: the histories reach back about seven minutes."""


def choose_gpus(indices: Sequence[int] | None = None) -> tuple[NvmlGpu, ...]:
    """Open some GPUs of this host, or all.

    Args:
        indices: NVML indices (PCI order, as `nvidia-smi` prints them); None or empty for all.

    Raises:
        UsageError: One of them is not here, or there are none.
        BackendUnavailableError: There is no driver, no library, or they do not match.
    """
    found = {gpu.index: gpu for gpu in open_gpus()}
    missing = [index for index in indices or () if index not in found]
    if missing or not found:
        asked, here = missing or "a GPU", sorted(found) or "none"
        raise UsageError(f"GPU: asked for {asked}, found {here}")
    return tuple(found[index] for index in indices or sorted(found))


class EnergyTotal:
    """Energy of some GPUs from an instant on, as a running total.

    Each reading continues where the last one ended, so the readings add up exactly.
    """

    def __init__(self, histories: Sequence[EnergyHistory], since_s: float) -> None:
        """Begin at 0 J.

        Args:
            histories: One for each GPU.
            since_s: Where the total begins, s of the monotonic clock.
        """
        self._histories, self._until_s, self._energy_j = tuple(histories), since_s, 0.0

    def read(self) -> EnergyReading:
        """Return the total up to the last instant that every counter covers.

        Raises:
            DeviceError: A history does not reach back to the last reading any more.
        """
        return self._advance(self._covered_s())

    def read_at(self, at_s: float) -> EnergyReading:
        """Return the total up to an instant just past.

        Waits until the counters cover it, which takes a few of their periods at most.

        Raises:
            DeviceError: A history does not reach back to the last reading any more.
        """
        give_up_s = at_s + COVERED_S
        while self._covered_s() < at_s and time.monotonic() < give_up_s:
            time.sleep(POLL_S)
        return self._advance(at_s)

    def mean_w(self, seconds: float = REST_S) -> float:
        """Return the mean draw over the next seconds, W.

        Raises:
            DeviceError: The counters did not move meanwhile.
        """
        begin = self.read()
        time.sleep(seconds)
        end = self.read()
        if end.time_s <= begin.time_s:
            raise DeviceError(f"asked for the draw over {seconds:g} s, found counters that stand")
        return (end.energy_j - begin.energy_j) / (end.time_s - begin.time_s)

    def _advance(self, until_s: float) -> EnergyReading:
        window = window_over(self._histories, self._until_s, max(self._until_s, until_s))
        self._until_s = window.end_s
        self._energy_j += window.energy_j
        return EnergyReading(window.end_s, self._energy_j, window.error_j, window.quality)

    def _covered_s(self) -> float:
        return min(history.covered_until_s for history in self._histories)


class MeterWindow:
    """Energy of a block of code; its numbers are there once the block has ended."""

    def __init__(self, total: EnergyTotal, begin_s: float) -> None:
        """Begin.

        Args:
            total: A total that begins with the window.
            begin_s: When it begins, s of the monotonic clock.
        """
        self._total, self._begin_s, self._end_s = total, begin_s, begin_s
        self._readings: list[EnergyReading] = []
        self._has_ended = False
        self._error: DeviceError | None = None

    @property
    def joules(self) -> float:
        """Energy of the GPUs, J.

        Raises:
            DeviceError: The block has not ended, or a meter lost part of it.
        """
        return self._ended()[-1].energy_j

    @property
    def error_j(self) -> float:
        """The true energy lies within `joules` plus or minus this, J.

        A bound where the source is `counter` or `emulated`, an estimate elsewhere.

        Raises:
            DeviceError: As for `joules`.
        """
        return span_error_j((reading.error_j, reading.quality) for reading in self._ended())

    @property
    def source(self) -> Quality:
        """How the energy was found: counter, integrated, estimated or emulated; the worst of all.

        Raises:
            DeviceError: As for `joules`.
        """
        return worst(reading.quality for reading in self._ended())

    @property
    def duration_s(self) -> float:
        """Length of the block, s.

        Raises:
            DeviceError: As for `joules`.
        """
        self._ended()
        return self._end_s - self._begin_s

    @property
    def mean_w(self) -> float:
        """Mean draw of all GPUs together, W.

        Raises:
            DeviceError: As for `joules`.
        """
        return self.joules / self.duration_s

    def settle(self) -> None:
        """Add up what the counters cover so far."""
        self._take(self._total.read)

    def end(self, at_s: float) -> None:
        """End the window at an instant just past, s of the monotonic clock."""
        self._end_s, self._has_ended = at_s, True
        self._take(lambda: self._total.read_at(at_s))

    def _take(self, read: Callable[[], EnergyReading]) -> None:
        """Take a reading; an error is kept for the reader of the result, not for the work."""
        if self._error is None:
            try:
                self._readings.append(read())
            except DeviceError as error:
                self._error = error

    def _ended(self) -> Sequence[EnergyReading]:
        if self._error is not None:
            raise DeviceError(
                f"asked for the energy of a window, found none: {self._error}"
            ) from self._error
        if not self._has_ended:
            raise DeviceError("asked for the energy of a window, found that it has not ended")
        return self._readings


class EnergyMeter:
    """Meters GPUs of this host while a program runs.

    Polls each GPU's energy counter about 50 times a second in a thread of its own. Needs no
    privilege. Windows may nest and overlap, and may last for days. The boundary is the GPU board:
    no host, no cooling. A shared GPU's energy contains what other processes made it draw.

    Example:
        >>> with steppe.EnergyMeter(gpus=[0]) as meter:
        ...     with meter.window() as window:
        ...         train()
        ...     print(f"{window.joules:.0f} J ± {window.error_j:.1f} J ({window.source})")
    """

    def __init__(self, gpus: Sequence[int] | Sequence[NvmlGpu] | None = None) -> None:
        """Open the GPUs and begin to poll; waits for the first update of every counter.

        Args:
            gpus: NVML indices (PCI order, as `nvidia-smi` prints them), or GPUs that are open
                already; None for every GPU.

        Raises:
            UsageError: One of the GPUs is not here, or there are none.
            BackendUnavailableError: There is no driver, no library, or they do not match.
            DeviceError: A GPU gives no energy reading.
        """
        indices = [gpu for gpu in gpus or () if isinstance(gpu, int)]
        opened = [gpu for gpu in gpus or () if isinstance(gpu, NvmlGpu)]
        self._gpus = tuple(opened) or choose_gpus(indices)
        self._meters = GpuMeters({gpu.uuid: gpu for gpu in self._gpus})
        self._histories = tuple(self._meters.histories.values())
        self._windows: list[MeterWindow] = []
        self._lock, self._is_closed = threading.Lock(), threading.Event()
        self._meters.start()
        wait_for_first_tick(self._histories)
        for gpu, history in zip(self._gpus, self._histories, strict=True):
            if history.covered_until_s < 0:
                self._meters.stop()
                raise DeviceError(f"GPU {gpu.index}: asked for its energy, found no reading")
        threading.Thread(target=self._settle, daemon=True, name="energy-windows").start()

    @contextmanager
    def window(self) -> Generator[MeterWindow]:
        """Meter a block; its result can be read when the block has ended.

        Leaving the block takes up to half a second, until the counters have covered its end.

        Raises:
            UsageError: The meter is closed.
        """
        if self._is_closed.is_set():
            raise UsageError("asked for an energy window, found a meter that is closed")
        begin_s = time.monotonic()
        window = MeterWindow(EnergyTotal(self._histories, begin_s), begin_s)
        with self._lock:
            self._windows.append(window)
        try:
            yield window
        finally:
            end_s = time.monotonic()
            with self._lock:
                self._windows.remove(window)
            window.end(end_s)

    def total(self) -> EnergyTotal:
        """Return a running total from now on, for a caller that reads it every few minutes."""
        return EnergyTotal(self._histories, max(h.covered_until_s for h in self._histories))

    def close(self) -> None:
        """Stop polling; results of windows that have ended stay."""
        self._is_closed.set()
        self._meters.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _settle(self) -> None:
        """Add up open windows before the histories forget their beginning."""
        while not self._is_closed.wait(SETTLE_S):
            with self._lock:
                for window in self._windows:
                    window.settle()
