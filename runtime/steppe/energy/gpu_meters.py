"""The energy of the GPUs of one host: threads poll their counters often enough to see each tick."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from steppe.device.gpu import Capabilities
from steppe.device.nvml import NvmlGpu
from steppe.energy.counter import CounterHistory
from steppe.energy.integral import PowerHistory
from steppe.energy.window import EnergyWindow, Quality, worst
from steppe.errors import DeviceError, DeviceLostError

POLL_S = 0.02
"""Time between two readings, s: a fifth of the usual counter period."""
POWER_S = 0.5
"""Longest time between two power readings, s; they bridge a counter that stands still."""
STOP_S = 2.0
"""Longest wait for the polling threads to end, s: a GPU that hangs may hold one in a call."""

_log = logging.getLogger(__name__)


class EnergyHistory(Protocol):
    """Energy of one GPU over time."""

    @property
    def covered_until_s(self) -> float:
        """Time of the last reading, s."""
        ...

    def window(self, start_s: float, end_s: float) -> EnergyWindow:
        """Return the energy between two instants."""
        ...


def window_over(histories: Sequence[EnergyHistory], start_s: float, end_s: float) -> EnergyWindow:
    """Return the energy of several GPUs between two instants.

    Energies and errors add up; the quality is the worst of theirs. Where interpolation errors
    would make the sum negative, it is 0.

    Raises:
        DeviceError: A history does not reach back to the start.
    """
    parts = [history.window(start_s, end_s) for history in histories]
    return EnergyWindow(
        start_s=start_s,
        end_s=end_s,
        energy_j=max(0.0, sum(part.energy_j for part in parts)),
        error_j=sum(part.error_j for part in parts),
        quality=worst(part.quality for part in parts),
        wrong_inside=any(part.wrong_inside for part in parts),
        neighbour_j=sum(part.neighbour_j for part in parts),
    )


def best_quality(gpu: Capabilities) -> Quality:
    """Return the quality of a GPU's energy readings while nothing fails."""
    if gpu.is_emulated:
        return Quality.EMULATED
    if gpu.is_mig:
        return Quality.ESTIMATED
    return Quality.COUNTER if gpu.has_energy_counter else Quality.INTEGRATED


class GpuMeter:
    """Reads one GPU: its energy counter, or its power where it has no counter."""

    def __init__(self, gpu: NvmlGpu, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin without a reading.

        Args:
            gpu: The GPU.
            clock: Returns the time, s.
        """
        self._gpu, self._clock = gpu, clock
        most_w, source = gpu.capabilities.max_w, best_quality(gpu.capabilities)
        self._counter = CounterHistory(most_w, source=source)
        self._powers = PowerHistory(most_w, source=source)
        self._last_j = -1.0
        self._power_s = 0.0

    @property
    def history(self) -> EnergyHistory:
        """The readings so far."""
        return self._counter if self._gpu.capabilities.has_energy_counter else self._powers

    def resume_from(self, at_s: float, counter_j: float) -> None:
        """Continue from an earlier counter reading, so that no energy in between is lost."""
        self._counter.add(at_s, counter_j)

    def counter_j(self, at_s: float) -> float | None:
        """Return the counter at an instant, J; None without a counter or beyond the history."""
        try:
            return self._counter.counter_at(at_s)
        except DeviceError:
            return None

    def read(self) -> None:
        """Take a reading.

        Raises:
            DeviceError: The GPU did not give one.
        """
        now_s = self._clock()
        if not self._gpu.capabilities.has_energy_counter:
            self._powers.add(now_s, self._gpu.power_w())
            return
        counter_j = self._gpu.energy_j()
        read_s = self._clock() - now_s
        # Power at a tick shows where between two ticks the load changed.
        wants_power = counter_j != self._last_j or now_s - self._power_s > POWER_S
        power_w = self._power_w() if wants_power else None
        if wants_power:
            self._last_j, self._power_s = counter_j, now_s
        self._counter.add(now_s, counter_j, power_w, read_s)

    def _power_w(self) -> float | None:
        """Return the draw, W; None where only the power sensor fails: the counter still counts."""
        try:
            return self._gpu.power_w()
        except DeviceLostError:
            raise
        except DeviceError:
            return None


class GpuMeters:
    """The meters of several GPUs, each polled by its own thread: a slow GPU delays no other."""

    def __init__(
        self, gpus: Mapping[str, NvmlGpu], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Make the meters; `start` begins to read.

        Args:
            gpus: The GPUs, by UUID.
            clock: Returns the time, s.
        """
        self._meters = {uuid: GpuMeter(gpu, clock) for uuid, gpu in gpus.items()}
        self.histories = {uuid: meter.history for uuid, meter in self._meters.items()}
        self.lost: set[str] = set()
        self._warnings: dict[str, str] = {}
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._poll, args=(uuid, meter), daemon=True, name="meter")
            for uuid, meter in self._meters.items()
        ]

    def resume_from(self, at_s: float, counters_j: Mapping[str, float]) -> None:
        """Continue from earlier counter readings, by UUID, J; call it before `start`."""
        for uuid, counter_j in counters_j.items():
            if uuid in self._meters:
                self._meters[uuid].resume_from(at_s, counter_j)

    def counters_j(self, uuids: Iterable[str], at_s: float) -> dict[str, float]:
        """Return the counters of some GPUs at an instant, by UUID, J; without those unknown."""
        found = {uuid: self._meters[uuid].counter_j(at_s) for uuid in uuids}
        return {uuid: counter_j for uuid, counter_j in found.items() if counter_j is not None}

    def start(self) -> None:
        """Begin to read."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End the threads; one that hangs in the driver is left behind after `STOP_S`."""
        self._stop.set()
        give_up_s = time.monotonic() + STOP_S
        for thread in self._threads:
            thread.join(timeout=max(0.0, give_up_s - time.monotonic()))

    def _poll(self, uuid: str, meter: GpuMeter) -> None:
        while not self._stop.wait(POLL_S):
            self._read(uuid, meter)

    def _read(self, uuid: str, meter: GpuMeter) -> None:
        """Read one meter; log an error once, until it changes."""
        warning = ""
        try:
            meter.read()
            self.lost.discard(uuid)
        except DeviceLostError as error:
            self.lost.add(uuid)
            warning = str(error)
        except DeviceError as error:
            warning = str(error)
        if warning and warning != self._warnings.get(uuid):
            _log.warning("cannot read the meter of %s: %s", uuid, warning)
        self._warnings[uuid] = warning


def wait_for_first_tick(histories: Sequence[EnergyHistory], longest_s: float = 2.0) -> None:
    """Wait until every history has a reading, or has seen its counter move where it has one."""
    begun_s = time.monotonic()
    while time.monotonic() < begun_s + longest_s:
        if all(history.covered_until_s > begun_s for history in histories):
            return
        time.sleep(POLL_S)
