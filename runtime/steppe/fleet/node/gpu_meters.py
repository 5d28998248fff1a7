"""The energy of a node's GPUs: threads read their counters, often enough to see each tick."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class NodeWindow:
    """The energy of several GPUs between two instants."""

    start_s: float
    end_s: float
    energy_j: float
    error_j: float
    quality: Quality
    wrong_inside: bool = False

    @classmethod
    def over(cls, meters: Sequence[EnergyHistory], start_s: float, end_s: float) -> NodeWindow:
        """Sum the windows of all meters; the quality is the worst of theirs."""
        parts = [meter.window(start_s, end_s) for meter in meters]
        return cls(
            start_s,
            end_s,
            max(0.0, sum(part.energy_j for part in parts)),
            sum(part.error_j for part in parts),
            worst(part.quality for part in parts),
            any(part.wrong_inside for part in parts),
        )


def best_quality(gpu: Capabilities) -> Quality:
    """Return how far the energy of a GPU can be trusted while all goes well."""
    if gpu.is_emulated:
        return Quality.EMULATED
    if gpu.is_mig:
        return Quality.ESTIMATED
    return Quality.COUNTER if gpu.has_energy_counter else Quality.INTEGRATED


class GpuMeter:
    """Reads one GPU: its counter where it has one, its power where it has none."""

    def __init__(self, gpu: NvmlGpu) -> None:
        """Begin without a reading."""
        self._gpu = gpu
        most_w, source = gpu.capabilities.max_w, best_quality(gpu.capabilities)
        self._counter = CounterHistory(most_w, source=source)
        self._powers = PowerHistory(most_w, source=source)
        self._last_j = -1.0
        self._power_s = 0.0

    @property
    def history(self) -> EnergyHistory:
        """What was read so far."""
        return self._counter if self._gpu.capabilities.has_energy_counter else self._powers

    def go_on_from(self, at_s: float, counter_j: float) -> None:
        """Meter on from what the counter showed at an earlier time, so that no joule is lost."""
        self._counter.add(at_s, counter_j)

    def counter_j(self, at_s: float) -> float | None:
        """Return what the counter showed at a time, J; None without a counter, or too long ago."""
        try:
            return self._counter.counter_at(at_s)
        except DeviceError:
            return None

    def read(self) -> None:
        """Take a reading.

        Raises:
            DeviceError: The GPU did not give one.
        """
        now_s = time.monotonic()
        if not self._gpu.capabilities.has_energy_counter:
            self._powers.add(now_s, self._gpu.power_w())
            return
        counter_j = self._gpu.energy_j()
        read_s = time.monotonic() - now_s
        # Power at a tick tells where between two ticks the load changed.
        wants_power = counter_j != self._last_j or now_s - self._power_s > POWER_S
        power_w = self._power_w() if wants_power else None
        if wants_power:
            self._last_j, self._power_s = counter_j, now_s
        self._counter.add(now_s, counter_j, power_w, read_s)

    def _power_w(self) -> float | None:
        """Return the draw; None where only power cannot be read, for the counter still can."""
        try:
            return self._gpu.power_w()
        except DeviceLostError:
            raise
        except DeviceError:
            return None


class NodeMeters:
    """The meters of all GPUs of a node, each in a thread: one that is slow holds up no other."""

    def __init__(self, gpus: Mapping[str, NvmlGpu]) -> None:
        """Make the meters; `start` begins to read."""
        self._meters = {uuid: GpuMeter(gpu) for uuid, gpu in gpus.items()}
        self.histories = {uuid: meter.history for uuid, meter in self._meters.items()}
        self.lost: set[str] = set()
        self._complaints: dict[str, str] = {}
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._read_for_ever, args=meter, daemon=True, name="meter")
            for meter in self._meters.items()
        ]

    def go_on_from(self, at_s: float, counters_j: Mapping[str, float]) -> None:
        """Meter on from counters that were seen earlier, by UUID, J; call it before `start`."""
        for uuid, counter_j in counters_j.items():
            if uuid in self._meters:
                self._meters[uuid].go_on_from(at_s, counter_j)

    def counters_j(self, uuids: Iterable[str], at_s: float) -> dict[str, float]:
        """Return what the counters of some GPUs showed, by UUID, J; some may have none."""
        found = {uuid: self._meters[uuid].counter_j(at_s) for uuid in uuids}
        return {uuid: counter_j for uuid, counter_j in found.items() if counter_j is not None}

    def start(self) -> None:
        """Begin to read."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End the threads."""
        self._stop.set()
        give_up_s = time.monotonic() + 2.0
        for thread in self._threads:
            thread.join(timeout=max(0.0, give_up_s - time.monotonic()))

    def _read_for_ever(self, uuid: str, meter: GpuMeter) -> None:
        while not self._stop.wait(POLL_S):
            self._read(uuid, meter)

    def _read(self, uuid: str, meter: GpuMeter) -> None:
        """Read one meter; say what is wrong with it once, until it changes."""
        complaint = ""
        try:
            meter.read()
            self.lost.discard(uuid)
        except DeviceLostError as error:
            self.lost.add(uuid)
            complaint = str(error)
        except DeviceError as error:
            complaint = str(error)
        if complaint and complaint != self._complaints.get(uuid):
            _log.warning("cannot read the meter of %s: %s", uuid, complaint)
        self._complaints[uuid] = complaint


def wait_for_first_tick(meters: Sequence[EnergyHistory], longest_s: float = 2.0) -> None:
    """Wait until every meter has taken a reading, or seen its counter move where it has some."""
    begun_s = time.monotonic()
    while time.monotonic() < begun_s + longest_s:
        if all(meter.covered_until_s > begun_s for meter in meters):
            return
        time.sleep(0.02)
