"""Record what a driver reports: the period of each sensor, the cost of a call, the values.

Reads only; `step_response` adds how fast limits act. Emulated GPUs can be fitted to a recording
and replay it (`emulator.recorded`), so that an hour on a real GPU serves every later test.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from steppe.device.nvml import NvmlGpu
from steppe.errors import DeviceError

FORMAT = 1
POLL_S = 0.002
# A value that does not change is recorded this often.
KEEP_S = 1.0


@dataclass(slots=True)
class _Sensor:
    """One sensor of one GPU, and its readings."""

    read: Callable[[], float | None]
    times_s: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    changes_s: list[float] = field(default_factory=list)
    costs_s: list[float] = field(default_factory=list)
    failures: int = 0

    def poll(self, start_s: float, clock: Callable[[], float]) -> None:
        """Read once; keep the value if it changed, or if the last one was kept long ago."""
        before_s = clock()
        try:
            value = self.read()
        except DeviceError:
            value = None
        if value is None:
            self.failures += 1
            return
        now_s = clock()
        self.costs_s.append(now_s - before_s)
        has_moved = bool(self.values) and value != self.values[-1]
        if has_moved:
            self.changes_s.append(now_s - start_s)
        if not self.values or has_moved or now_s - start_s >= self.times_s[-1] + KEEP_S:
            self.times_s.append(now_s - start_s)
            self.values.append(value)

    def summary(self) -> dict[str, Any]:
        """Return the readings and their statistics as JSON values."""
        gaps_s = [b - a for a, b in pairwise(self.changes_s)]
        costs_s = sorted(self.costs_s)
        return {
            "period_s": statistics.median(gaps_s) if gaps_s else None,
            "changes": len(self.changes_s),
            "reads": len(costs_s),
            "failures": self.failures,
            "call_median_s": statistics.median(costs_s) if costs_s else None,
            "call_p99_s": costs_s[int(0.99 * (len(costs_s) - 1))] if costs_s else None,
            "t_s": [round(at_s, 6) for at_s in self.times_s],
            "values": self.values,
        }


def record(
    gpus: Sequence[NvmlGpu],
    duration_s: float,
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
) -> dict[str, Any]:
    """Poll every sensor of every GPU, and return a document that JSON can hold.

    A sensor that a GPU lacks is left out. The shortest observable period is two polls of
    `poll_s` plus the cost of the calls.

    Args:
        gpus: The GPUs.
        duration_s: How long, s.
        clock: Returns the time, s.
        pause: Waits, s.
    """
    sensors = {gpu.uuid: _sensors(gpu) for gpu in gpus}
    start_s = clock()
    while clock() < start_s + duration_s:
        for of_gpu in sensors.values():
            for sensor in of_gpu.values():
                sensor.poll(start_s, clock)
        pause(POLL_S)
    return {
        "format": FORMAT,
        "source": "emulated" if any(gpu.is_emulated for gpu in gpus) else "nvml",
        "duration_s": duration_s,
        "poll_s": POLL_S,
        "gpus": [_document(gpu, sensors[gpu.uuid]) for gpu in gpus],
    }


def _sensors(gpu: NvmlGpu) -> dict[str, _Sensor]:
    can = gpu.capabilities
    sensors = {
        "average_power_w": _Sensor(gpu.average_power_w),
        "sm_clock_mhz": _Sensor(gpu.sm_clock_mhz),
        "utilisation": _Sensor(gpu.utilisation),
    }
    if can.has_energy_counter:
        sensors["energy_j"] = _Sensor(gpu.energy_j)
    if can.has_instant_power:
        sensors["instant_power_w"] = _Sensor(gpu.power_w)
    return sensors


def _document(gpu: NvmlGpu, sensors: dict[str, _Sensor]) -> dict[str, Any]:
    return {
        "index": gpu.index,
        "capabilities": dataclasses.asdict(gpu.capabilities),
        "sensors": {name: sensor.summary() for name, sensor in sensors.items()},
    }
