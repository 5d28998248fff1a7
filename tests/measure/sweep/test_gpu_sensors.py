from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from steppe.device.gpu import LimitReason, Sample
from steppe.device.nvml import NvmlGpu
from steppe.measure.sweep.gpu_sensors import GpuSensors


@dataclass
class FakeGpu:
    index: int
    clock_mhz: int
    temperature_c: int | None
    reason: LimitReason

    def sample(self) -> Sample:
        reasons = frozenset({self.reason})
        return Sample(50.0, 50.0, self.clock_mhz, self.temperature_c, 72.0, reasons, 1.0)


def sensors(*gpus: FakeGpu, pids: dict[int, frozenset[int] | None]) -> GpuSensors:
    return GpuSensors([cast("NvmlGpu", gpu) for gpu in gpus], lambda index: pids[index])


def test_a_reading_has_the_slowest_clock_the_warmest_gpu_and_every_reason() -> None:
    slow = FakeGpu(0, 1200, 50, LimitReason.POWER_LIMIT)
    hot = FakeGpu(1, 1800, 80, LimitReason.THERMAL)
    reading = sensors(slow, hot, pids={0: frozenset({1}), 1: frozenset({1, 2})}).read()
    assert (reading.clock_mhz, reading.temperature_c, reading.processes) == (1200, 80, 2)
    assert reading.reasons == {LimitReason.POWER_LIMIT, LimitReason.THERMAL}


def test_unknown_sensors_stay_unknown() -> None:
    reading = sensors(FakeGpu(0, 1200, None, LimitReason.IDLE), pids={0: None}).read()
    assert (reading.temperature_c, reading.processes) == (None, None)
