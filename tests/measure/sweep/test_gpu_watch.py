from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from steppe.device.gpu import LimitReason, Sample
from steppe.device.nvml import NvmlGpu
from steppe.measure.sweep.gpu_watch import GpuWatch


@dataclass
class FakeGpu:
    index: int
    clock_mhz: int
    heat_c: int | None
    reason: LimitReason

    def sample(self) -> Sample:
        return Sample(50.0, 50.0, self.clock_mhz, self.heat_c, 72.0, frozenset({self.reason}), 1.0)


def watch(*gpus: FakeGpu, pids: dict[int, frozenset[int] | None]) -> GpuWatch:
    return GpuWatch([cast("NvmlGpu", gpu) for gpu in gpus], lambda index: pids[index])


def test_a_look_tells_the_slowest_clock_the_most_heat_and_every_reason() -> None:
    slow = FakeGpu(0, 1200, 50, LimitReason.POWER_LIMIT)
    hot = FakeGpu(1, 1800, 80, LimitReason.THERMAL)
    look = watch(slow, hot, pids={0: frozenset({1}), 1: frozenset({1, 2})}).look()
    assert (look.clock_mhz, look.temperature_c, look.processes) == (1200, 80, 2)
    assert look.reasons == {LimitReason.POWER_LIMIT, LimitReason.THERMAL}


def test_what_a_gpu_does_not_tell_stays_unknown() -> None:
    look = watch(FakeGpu(0, 1200, None, LimitReason.IDLE), pids={0: None}).look()
    assert (look.temperature_c, look.processes) == (None, None)
