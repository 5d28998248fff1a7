"""`steppe.EnergyMeter` as a program outside Steppe uses it, on emulated GPUs in real time."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pynvml
import pytest

import steppe
from steppe.device.nvml import open_gpus
from steppe.emulator.build import build_library
from steppe.emulator.library import Emulator
from steppe.energy import gpu_meters, meter
from steppe.energy.counter import CounterHistory
from steppe.errors import DeviceError, UsageError


@pytest.fixture
def gpus(tmp_path: Path) -> Iterator[Emulator]:
    emulator = Emulator.attach(build_library(), tmp_path / "gpus", "h100x2")
    for index in (0, 1):
        emulator.set_load(index, core=0.2 + 0.6 * index, mem=0.3, valid_s=math.inf)
    yield emulator
    emulator.clear_faults()
    pynvml.nvmlShutdown()


def truth_j(gpus: Emulator, *indices: int) -> float:
    return sum(gpus.snapshot(index).energy_j for index in indices)


def serve_bursts(gpus: Emulator, bursts: int, length_s: float = 0.07) -> None:
    for burst in range(bursts):
        gpus.set_load(0, core=1.0 if burst % 2 else 0.05, mem=0.2, valid_s=math.inf)
        time.sleep(length_s)


def test_the_true_energy_of_each_window_lies_within_its_error(gpus: Emulator) -> None:
    with steppe.EnergyMeter(gpus=[0]) as energy_meter, energy_meter.window() as whole:
        whole_j = truth_j(gpus, 0)
        serve_bursts(gpus, 6)
        with energy_meter.window() as part:
            part_j = truth_j(gpus, 0)
            serve_bursts(gpus, 6)
            part_j = truth_j(gpus, 0) - part_j
        whole_j = truth_j(gpus, 0) - whole_j
    assert abs(part.joules - part_j) <= part.error_j
    assert 0.4 < part.duration_s < whole.duration_s
    assert part.mean_w == pytest.approx(part.joules / part.duration_s)
    # The whole window also waits for the counters at the end of its part, which the truth covers.
    assert abs(whole.joules - whole_j) <= whole.error_j
    assert whole.joules > part.joules
    assert part.source == "emulated"
    assert part.error_j < 0.5 * part.joules


def test_without_indices_every_gpu_is_metered(gpus: Emulator) -> None:
    with steppe.EnergyMeter() as both, both.window() as window:
        begin_j = truth_j(gpus, 0, 1)
        time.sleep(0.5)
        drawn_j = truth_j(gpus, 0, 1) - begin_j
    assert abs(window.joules - drawn_j) <= window.error_j


def test_a_window_longer_than_the_history_loses_no_energy(
    gpus: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_meters, "CounterHistory", partial(CounterHistory, capacity=3))
    monkeypatch.setattr(meter, "SETTLE_S", 0.1)
    with steppe.EnergyMeter(gpus=[0]) as energy_meter, energy_meter.window() as window:
        begin_j = truth_j(gpus, 0)
        serve_bursts(gpus, 20)
        drawn_j = truth_j(gpus, 0) - begin_j
    assert abs(window.joules - drawn_j) <= window.error_j < 0.5 * drawn_j


def test_a_window_that_has_not_ended_has_no_energy(gpus: Emulator) -> None:
    with steppe.EnergyMeter(gpus=[0]) as energy_meter:
        with energy_meter.window() as window, pytest.raises(DeviceError, match="not ended"):
            _ = window.joules
        assert window.joules >= 0


def test_a_meter_that_fails_inside_a_window_leaves_the_work_alone(
    gpus: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_meters, "CounterHistory", partial(CounterHistory, capacity=1))
    with steppe.EnergyMeter(gpus=[0]) as energy_meter, energy_meter.window() as window:
        time.sleep(0.6)
    with pytest.raises(DeviceError, match=r"found none: .* no reading covers"):
        _ = window.joules


def test_a_gpu_that_is_not_here_is_named(gpus: Emulator) -> None:
    with pytest.raises(UsageError, match=r"asked for \[7\], found \[0, 1\]"):
        steppe.EnergyMeter(gpus=[7])


def test_a_gpu_without_a_reading_is_named(gpus: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meter, "wait_for_first_tick", lambda _: None)
    silent = open_gpus()[1:]
    gpus.inject("nvmlDeviceGetTotalEnergyConsumption", error=pynvml.NVML_ERROR_UNKNOWN, index=1)
    with pytest.raises(DeviceError, match="GPU 1: asked for its energy, found no reading"):
        steppe.EnergyMeter(silent)


def test_a_closed_meter_begins_no_window(gpus: Emulator) -> None:
    with steppe.EnergyMeter(gpus=[0]) as energy_meter:
        pass
    with pytest.raises(UsageError, match="closed"), energy_meter.window():
        pass
