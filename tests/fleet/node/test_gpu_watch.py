"""Faults of the hardware as a node sees them, on emulated GPUs in virtual time."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import pynvml
import pytest

from steppe.device.nvml import open_gpus
from steppe.emulator.library import Emulator
from steppe.energy.cross_check import EVERY_S, FIRST_S, LATER_S
from steppe.energy.gpu_meters import POLL_S, GpuMeter
from steppe.energy.window import Quality
from steppe.fleet.node import gpu_watch
from steppe.fleet.node.gpu_watch import SLOW_PERIOD_S, GpuWatch
from steppe.report.records import GpuEvent

INIT = 1
"""The first process of the host: it runs, and is none of ours."""


class Bench:
    """Two H100 treated as real ones; the first is busy."""

    def __init__(self, emulator: Emulator, folder: Path) -> None:
        self.emulator, self.now_s = emulator, 0.0
        gpus = open_gpus()
        for gpu in gpus:
            gpu.capabilities = dataclasses.replace(gpu.capabilities, driver="580.00")
        self.first, self.second = (gpu.uuid for gpu in gpus)
        self.meters = {gpu.uuid: GpuMeter(gpu, self.clock) for gpu in gpus}
        histories = {uuid: meter.history for uuid, meter in self.meters.items()}
        self.watch = GpuWatch({gpu.uuid: gpu for gpu in gpus}, histories, folder, self.clock)
        self.run(2.0, core=0.0)

    def clock(self) -> float:
        return self.now_s

    def run(self, seconds: float, *, core: float = 0.5) -> list[GpuEvent]:
        """Look once a second; return what happened."""
        self.emulator.set_load(0, core=core, mem=core, valid_s=math.inf)
        begun_s = self.now_s
        for step in range(round(seconds / POLL_S)):
            self.emulator.tick(POLL_S)
            self.now_s = begun_s + (step + 1) * POLL_S
            for meter in self.meters.values():
                meter.read()
            if step % 50 == 49:
                self.watch.look()
        return list(self.watch.take_events())


@pytest.fixture
def bench(make_emulator: Callable[[str], Emulator], tmp_path: Path) -> Bench:
    return Bench(make_emulator("h100x2"), tmp_path)


def test_a_healthy_gpu_has_no_events(bench: Bench) -> None:
    assert bench.run(FIRST_S + 2.0) == []
    assert bench.watch.conditions(bench.first) == ()
    assert bench.watch.counter_ratio(bench.first) == pytest.approx(1.0, abs=0.1)


def test_an_xid_is_an_event_of_its_gpu(bench: Bench) -> None:
    bench.emulator.set_fault(1, "xid", 79)
    text = "Xid 79: the GPU has fallen off the bus: reset the GPU"
    assert bench.run(1.0) == [GpuEvent(bench.second, "xid", text)]
    assert bench.run(1.0) == []


def test_errors_that_ecc_could_not_correct_are_noted_once(bench: Bench) -> None:
    bench.emulator.set_fault(0, "ecc", 2)
    events = bench.run(SLOW_PERIOD_S + 1.0)
    assert [event.kind for event in events] == ["xid", "memory"]
    assert events[1].text.startswith("2 uncorrectable memory errors")
    assert bench.run(SLOW_PERIOD_S + 1.0) == []


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        (pynvml.nvmlClocksEventReasonHwPowerBrakeSlowdown, "power brake"),
        (pynvml.nvmlClocksEventReasonSwThermalSlowdown, "thermal"),
    ],
)
def test_a_slowdown_holds_until_it_is_over(bench: Bench, reason: int, words: str) -> None:
    bench.emulator.set_fault(0, "reasons", reason)
    assert bench.run(2.0) == [GpuEvent(bench.first, "slowdown", words)]
    assert bench.watch.conditions(bench.first) == (words,)
    assert bench.watch.conditions(bench.second) == ()
    bench.emulator.set_fault(0, "reasons", 0)
    assert bench.run(2.0) == [GpuEvent(bench.first, "slowdown", words, is_over=True)]
    assert bench.watch.conditions(bench.first) == ()


@pytest.mark.parametrize("scale", [0.6, 1.4])
def test_a_counter_that_lies_by_40_percent_makes_joules_estimated(
    bench: Bench, scale: float
) -> None:
    bench.emulator.set_fault(0, "counter_scale", scale)
    bench.run(2.0)
    (event,) = bench.run(FIRST_S)
    assert (event.gpu, event.kind, event.is_over) == (bench.first, "counter", False)
    assert bench.watch.conditions(bench.first) == ("counter disagrees",)
    ratio = bench.watch.counter_ratio(bench.first)
    assert ratio == pytest.approx(scale, abs=0.1)
    begin_s, true_j = bench.now_s, bench.emulator.snapshot(0).energy_j
    assert bench.run(5.0) == []
    window = bench.watch.histories[bench.first].window(begin_s, bench.now_s)
    assert window.quality is Quality.ESTIMATED
    assert abs(window.energy_j - (bench.emulator.snapshot(0).energy_j - true_j)) <= window.error_j
    other = bench.watch.histories[bench.second].window(begin_s, bench.now_s - 0.2)
    assert other.quality is Quality.COUNTER


def test_a_counter_is_checked_again_and_trusted_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_watch, "EVERY_S", EVERY_S / 10)
    monkeypatch.setattr(gpu_watch, "LATER_S", LATER_S / 5)
    assert bench.run(FIRST_S + 2.0) == []
    bench.emulator.set_fault(0, "counter_scale", 0.6)
    (event,) = bench.run(EVERY_S / 10 + LATER_S / 5)
    assert (event.kind, event.is_over) == ("counter", False)
    bench.emulator.set_fault(0, "counter_scale", 1.0)
    (event,) = bench.run(2 * LATER_S / 5 + 1.0)
    assert (event.kind, event.is_over) == ("counter", True)
    assert bench.watch.conditions(bench.first) == ()


def test_a_neighbours_joules_are_not_ours(bench: Bench) -> None:
    bench.watch.follow_busy(bench.first, lambda: 1.0)
    bench.run(3.0)
    bench.emulator.set_neighbour(0, INIT, core=0.25, mem=0.25)
    (event,) = bench.run(SLOW_PERIOD_S + 2.0)
    assert (event.gpu, event.kind) == (bench.first, "shared")
    assert event.text == "used by processes of others: 1"
    assert bench.watch.conditions(bench.first) == ("shared",)
    begin_s = bench.now_s
    bench.run(4.0)
    window = bench.watch.histories[bench.first].window(begin_s, bench.now_s)
    whole_w = bench.emulator.snapshot(0).power_w
    assert window.mean_w == pytest.approx(whole_w, rel=0.05)
    # Idle: 70 W by halves. Active: 1 to 0.25.
    assert window.energy_j / 4.0 == pytest.approx(35.0 + 0.8 * (whole_w - 70.0), rel=0.05)
    assert window.quality is Quality.ESTIMATED
    bench.emulator.clear_context(0, INIT)
    events = bench.run(SLOW_PERIOD_S + 2.0)
    assert [(event.kind, event.is_over) for event in events] == [("shared", True)]
    alone = bench.watch.histories[bench.first].window(bench.now_s - 1.0, bench.now_s - 0.2)
    assert (alone.quality, alone.neighbour_j) == (Quality.COUNTER, 0.0)


def test_a_lost_gpu_is_left_for_the_next_look(bench: Bench) -> None:
    bench.emulator.set_alive(1, False)
    bench.watch.look()
    bench.emulator.set_alive(1, True)
    assert bench.run(1.0) == []
