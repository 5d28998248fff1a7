from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from steppe.device.gpu import Capabilities
from steppe.energy.gpu_meters import GpuMeter, best_quality
from steppe.energy.window import Quality

H100 = Capabilities(
    uuid="GPU-1",
    name="NVIDIA H100",
    driver="580.95.05",
    is_mig=False,
    has_energy_counter=True,
    has_instant_power=True,
    has_module_scope=False,
    power_limit_range_w=(200.0, 700.0),
    default_power_limit_w=700.0,
    sm_clocks_mhz=(210, 1980),
)
P40 = replace(H100, name="Tesla P40", has_energy_counter=False)


class Gpu:
    """Draws 300 W, in a time of its own that the meter sees."""

    def __init__(self, capabilities: Capabilities) -> None:
        self.capabilities, self.now_s, self.reading_takes_s = capabilities, 0.0, 0.0

    def monotonic(self) -> float:
        return self.now_s

    def energy_j(self) -> float:
        self.now_s += self.reading_takes_s
        return 30.0 * int(10 * self.now_s)

    def power_w(self) -> float:
        return 300.0


@pytest.mark.parametrize(
    ("capabilities", "quality"),
    [
        (H100, Quality.COUNTER),
        (P40, Quality.INTEGRATED),
        (replace(H100, is_mig=True), Quality.ESTIMATED),
        (replace(P40, is_mig=True), Quality.ESTIMATED),
        (replace(H100, driver="580.00.EMU"), Quality.EMULATED),
        (replace(H100, driver="580.00.EMU", is_mig=True), Quality.EMULATED),
        (replace(P40, driver="580.00.EMU"), Quality.EMULATED),
    ],
)
def test_joules_have_the_quality_of_their_gpu(capabilities: Capabilities, quality: Quality) -> None:
    assert best_quality(capabilities) is quality
    gpu: Any = Gpu(capabilities)
    meter = GpuMeter(gpu, gpu.monotonic)
    for tenth in range(20):
        gpu.now_s = tenth / 10
        meter.read()
    window = meter.history.window(0.5, 1.5)
    assert window.quality is quality
    assert window.energy_j == pytest.approx(300.0)


def test_a_slow_first_reading_leaves_the_ticks_in_their_order() -> None:
    gpu: Any = Gpu(H100)
    meter = GpuMeter(gpu, gpu.monotonic)
    gpu.reading_takes_s = 0.25
    meter.read()
    first_s = meter.history.covered_until_s
    gpu.now_s, gpu.reading_takes_s = 0.31, 0.0
    meter.read()
    assert first_s < meter.history.covered_until_s <= 0.31
