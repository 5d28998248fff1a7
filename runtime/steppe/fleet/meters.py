"""A thread that reads the energy counters of a node's GPUs, often enough to see each tick."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping

from steppe.device.nvml import NvmlGpu
from steppe.energy.counter import CounterHistory
from steppe.energy.window import Quality
from steppe.errors import DeviceError, DeviceLostError

POLL_S = 0.02
"""Time between two readings, s: a fifth of the usual counter period."""
POWER_EVERY = 5
"""A power reading with every so many counter readings."""

_log = logging.getLogger(__name__)


class Meters:
    """The counters of all GPUs of a node; a GPU without one has its power integrated."""

    def __init__(self, gpus: Mapping[str, NvmlGpu]) -> None:
        """Make the histories; `start` begins to read."""
        self._gpus = dict(gpus)
        self.histories = {
            uuid: CounterHistory(
                gpu.capabilities.max_w,
                source=_quality(gpu),
            )
            for uuid, gpu in gpus.items()
        }
        self.lost: set[str] = set()
        self._integral_j = dict.fromkeys(gpus, 0.0)
        self._last_s: dict[str, float] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read_for_ever, daemon=True, name="meters")

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        self._thread.join(timeout=2.0)

    def _read_for_ever(self) -> None:
        count = 0
        while not self._stop.wait(POLL_S):
            for uuid, gpu in self._gpus.items():
                try:
                    self._read(uuid, gpu, with_power=count % POWER_EVERY == 0)
                    self.lost.discard(uuid)
                except DeviceLostError:
                    self.lost.add(uuid)
                except DeviceError as error:
                    _log.warning("cannot read the meter of %s: %s", uuid, error)
            count += 1

    def _read(self, uuid: str, gpu: NvmlGpu, with_power: bool) -> None:
        now_s = time.monotonic()
        if not gpu.capabilities.has_energy_counter:
            self._integrate(uuid, gpu, now_s)
            return
        power_w = gpu.sample().power_w if with_power else None
        begun_s = time.monotonic()
        counter_j = gpu.energy_j()
        self.histories[uuid].add(begun_s, counter_j, power_w, time.monotonic() - begun_s)

    def _integrate(self, uuid: str, gpu: NvmlGpu, now_s: float) -> None:
        power_w = gpu.sample().power_w
        elapsed_s = now_s - self._last_s.get(uuid, now_s)
        self._last_s[uuid] = now_s
        self._integral_j[uuid] += power_w * elapsed_s
        self.histories[uuid].add(now_s, self._integral_j[uuid], power_w)


def _quality(gpu: NvmlGpu) -> Quality:
    if gpu.is_emulated:
        return Quality.EMULATED
    return Quality.COUNTER if gpu.capabilities.has_energy_counter else Quality.INTEGRATED
