from __future__ import annotations

import bisect
import contextlib
import math
import random
from collections.abc import Iterator
from pathlib import Path

import pynvml
import pytest

from steppe.device.nvml import NvmlGpu, open_gpus
from steppe.emulator.build import build_library
from steppe.emulator.library import Emulator
from steppe.energy.counter import CounterHistory, Quality

Truth = list[tuple[float, float]]


class Meter:
    """An emulated H100 in virtual time, polled about every 10 ms under a load of prompts."""

    def __init__(self, emulator: Emulator, gpu: NvmlGpu) -> None:
        self.emulator, self.gpu = emulator, gpu
        self.history = CounterHistory(gpu.capabilities.max_w)
        self.rng = random.Random(7)
        self.now_s = 0.0
        self.truth: Truth = []

    def poll(self) -> None:
        step_s = self.rng.uniform(0.005, 0.015)
        self.emulator.tick(step_s)
        self.now_s += step_s
        self.history.add(self.now_s, self.gpu.energy_j(), self.gpu.sample().power_w)
        self.truth.append((self.now_s, self.emulator.snapshot(0).energy_j))

    def serve(self, seconds: float) -> None:
        end_s = self.now_s + seconds
        while self.now_s < end_s:
            core, mem = self.rng.choice([(1.0, 0.3), (0.3, 0.9), (0.0, 0.0)])
            self.emulator.set_load(0, core=core, mem=mem, valid_s=math.inf)
            for _ in range(self.rng.randint(1, 40)):
                self.poll()


@pytest.fixture
def meter(tmp_path: Path) -> Iterator[Meter]:
    emulator = Emulator.attach(build_library(), tmp_path / "gpus", "h100x1")
    emulator.use_virtual_clock(True)
    yield Meter(emulator, open_gpus()[0])
    with contextlib.suppress(pynvml.NVMLError):
        while True:
            pynvml.nvmlShutdown()


def test_the_bound_holds_in_each_of_many_random_windows(meter: Meter) -> None:
    meter.serve(60.0)
    usable = [point for point in meter.truth if point[0] <= meter.history.covered_until_s]
    for _ in range(1500):
        (start_s, start_j), (end_s, end_j) = sorted(meter.rng.sample(usable, 2))
        window = meter.history.window(start_s, end_s)
        assert window.quality is Quality.COUNTER
        assert abs(window.energy_j - (end_j - start_j)) <= window.error_j


@pytest.mark.parametrize(("window_s", "error"), [(1.0, 0.02), (10.0, 0.002)])
def test_95_of_100_windows_are_within_the_stated_error(
    meter: Meter, window_s: float, error: float
) -> None:
    meter.serve(120.0)
    errors = []
    for start_s, start_j in meter.truth[:: len(meter.truth) // 1000]:
        after = bisect.bisect_left(meter.truth, (start_s + window_s, 0.0))
        if after == len(meter.truth) or meter.truth[after][0] > meter.history.covered_until_s:
            break
        end_s, end_j = meter.truth[after]
        found_j = meter.history.window(start_s, end_s).energy_j
        errors.append(abs(found_j - (end_j - start_j)) / (end_j - start_j))
    assert sorted(errors)[int(0.95 * len(errors))] <= error


def test_a_driver_reload_splits_the_window(meter: Meter) -> None:
    meter.serve(3.0)
    start_s, start_j = meter.truth[50]
    meter.emulator.reset_counter(0)
    meter.serve(3.0)
    window = meter.history.window(start_s, meter.now_s - 1.0)
    end_j = meter.truth[bisect.bisect_left(meter.truth, (meter.now_s - 1.0, 0.0))][1]
    assert window.quality is Quality.ESTIMATED
    assert abs(window.energy_j - (end_j - start_j)) <= window.error_j


def test_a_frozen_sensor_is_never_called_a_counter(meter: Meter) -> None:
    meter.serve(3.0)
    frozen_s = meter.now_s
    meter.emulator.freeze(0, True)
    meter.serve(5.0)
    assert meter.history.window(frozen_s - 1.0, meter.now_s).quality is Quality.ESTIMATED
    meter.emulator.freeze(0, False)
    meter.serve(3.0)
    assert meter.history.window(frozen_s - 1.0, meter.now_s - 1.0).quality is Quality.ESTIMATED
    last = meter.history.window(meter.now_s - 1.5, meter.now_s - 0.5)
    assert last.quality is Quality.COUNTER
