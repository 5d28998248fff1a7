"""The energy counter against the power readings, on an emulated GPU treated as a real one."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path

import pynvml
import pytest

from steppe.device.nvml import open_gpus
from steppe.emulator.build import build_library
from steppe.emulator.library import Emulator
from steppe.energy.counter import CounterHistory
from steppe.energy.cross_check import BOUND, Agreement
from steppe.energy.gpu_meters import POLL_S, GpuMeter
from steppe.energy.window import Quality


class Bench:
    """An H100 that is busy in turns, and its meter, read every 20 ms."""

    def __init__(self, emulator: Emulator) -> None:
        self.emulator, self.now_s = emulator, 0.0
        (gpu,) = open_gpus()
        gpu.capabilities = dataclasses.replace(gpu.capabilities, driver="580.00")
        self.meter = GpuMeter(gpu, lambda: self.now_s)
        assert isinstance(self.meter.history, CounterHistory)
        self.history: CounterHistory = self.meter.history

    def serve(self, seconds: float) -> float:
        """Return the true energy, J."""
        before_j = self.emulator.snapshot(0).energy_j
        for _ in range(round(seconds / POLL_S)):
            busy = 1.0 if self.now_s % 0.73 < 0.4 else 0.1
            self.emulator.set_load(0, core=busy, mem=0.3, valid_s=math.inf)
            self.meter.read()
            self.emulator.tick(POLL_S)
            self.now_s += POLL_S
        return self.emulator.snapshot(0).energy_j - before_j

    def agreement(self, seconds: float) -> Agreement:
        found = self.history.agreement(self.now_s - seconds, self.now_s)
        assert found is not None
        return found


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    emulator = Emulator.attach(build_library(), tmp_path / "gpus", "h100x1")
    emulator.use_virtual_clock(True)
    yield Bench(emulator)
    pynvml.nvmlShutdown()


def test_a_true_counter_agrees_well_within_the_bound(bench: Bench) -> None:
    bench.serve(11.0)
    assert bench.agreement(10.0).gap < BOUND / 2
    assert not bench.agreement(10.0).is_broken


@pytest.mark.parametrize("scale", [0.6, 1.4])
def test_a_counter_that_lies_by_40_percent_is_found(bench: Bench, scale: float) -> None:
    bench.emulator.set_fault(0, "counter_scale", scale)
    bench.serve(11.0)
    found = bench.agreement(10.0)
    assert found.ratio == pytest.approx(scale, rel=0.1)
    assert found.is_broken


@pytest.mark.parametrize(("scale", "counted"), [(0.6, 1.0), (1.4, 1.4)])
def test_doubted_joules_are_the_larger_of_both_and_estimated(
    bench: Bench, scale: float, counted: float
) -> None:
    bench.emulator.set_fault(0, "counter_scale", scale)
    bench.serve(11.0)
    before = bench.history.window(1.0, 10.0)
    found = bench.agreement(10.0)
    bench.history.doubt(bench.now_s, found.factor, found.gap)
    begin_s, true_j = bench.now_s, bench.serve(10.0)
    window = bench.history.window(begin_s, bench.now_s)
    assert window.energy_j == pytest.approx(counted * true_j, rel=0.06)
    assert window.quality is Quality.ESTIMATED
    assert abs(window.energy_j - true_j) <= window.error_j
    assert before.quality is Quality.COUNTER
    assert bench.history.window(1.0, 10.0) == before


def test_a_counter_that_is_right_again_is_trusted_again(bench: Bench) -> None:
    bench.emulator.set_fault(0, "counter_scale", 0.6)
    bench.serve(11.0)
    found = bench.agreement(10.0)
    bench.history.doubt(bench.now_s, found.factor, found.gap)
    bench.emulator.set_fault(0, "counter_scale", 1.0)
    bench.serve(10.0)
    assert not bench.agreement(60.0).is_broken
    bench.history.doubt(bench.now_s, 1.0, 0.0)
    begin_s = bench.now_s
    true_j = bench.serve(10.0)
    window = bench.history.window(begin_s + 0.1, bench.history.covered_until_s)
    assert window.quality is Quality.COUNTER
    assert window.energy_j == pytest.approx(true_j, rel=0.03)


def test_a_resumed_meter_reads_the_raw_counter_of_a_doubted_one(bench: Bench) -> None:
    bench.emulator.set_fault(0, "counter_scale", 0.6)
    bench.serve(11.0)
    bench.history.doubt(bench.now_s, 1 / 0.6, 0.4)
    bench.serve(5.0)
    at_s = bench.now_s - 1.0
    counter_j = bench.meter.counter_j(at_s)
    assert counter_j is not None
    shown_j = bench.emulator.snapshot(0).counter_j
    last_j = bench.history.window(at_s, bench.now_s).energy_j * 0.6
    assert counter_j == pytest.approx(shown_j - last_j, rel=0.02)


def test_without_readings_there_is_no_agreement(bench: Bench) -> None:
    assert bench.history.agreement(0.0, 10.0) is None
    bench.serve(5.0)
    bench.emulator.freeze(0, True)
    bench.serve(3.0)
    bench.emulator.freeze(0, False)
    bench.serve(3.0)
    assert bench.history.agreement(0.0, bench.now_s) is None
