"""The fault matrix of a node's meters: no fault invents a joule, and none stops another meter.

Whatever fails, for however long: the energy of a window that spans it lies within the stated
error of what the emulated GPU really drew.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pynvml
import pytest

from steppe.device.nvml import open_gpus
from steppe.emulator.build import build_library
from steppe.emulator.library import Emulator
from steppe.energy import gpu_meters
from steppe.energy.attribution import TokenWeights
from steppe.energy.counter import CounterHistory
from steppe.energy.gpu_meters import POLL_S, GpuMeter, GpuMeters, window_over
from steppe.energy.window import EnergyWindow, Quality
from steppe.engine.control_block import ControlBlock
from steppe.errors import DeviceError
from steppe.fleet.node.replica_meter import ReplicaMeter

CODES = (
    pynvml.NVML_ERROR_NOT_SUPPORTED,
    pynvml.NVML_ERROR_NO_PERMISSION,
    pynvml.NVML_ERROR_INVALID_ARGUMENT,
    pynvml.NVML_ERROR_TIMEOUT,
    pynvml.NVML_ERROR_UNKNOWN,
    pynvml.NVML_ERROR_GPU_IS_LOST,
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH,
)
COUNTER, FIELDS = "nvmlDeviceGetTotalEnergyConsumption", "nvmlDeviceGetFieldValues"
H100, SPARE, P40 = 0, 1, 2


class Node:
    """Emulated GPUs in virtual time, and the meter of each, read every 20 ms."""

    def __init__(self, emulator: Emulator) -> None:
        self.emulator, self.now_s, self.refused = emulator, 0.0, 0
        self.meters = [GpuMeter(gpu, self.monotonic) for gpu in open_gpus()]
        self.truth: list[list[tuple[float, float]]] = [[] for _ in self.meters]

    def monotonic(self) -> float:
        return self.now_s

    def serve(self, seconds: float) -> None:
        for _ in range(round(seconds / POLL_S)):
            busy = 1.0 if self.now_s % 0.7 < 0.4 else 0.1
            for index, meter in enumerate(self.meters):
                self.emulator.set_load(index, core=busy, mem=0.3, valid_s=math.inf)
                try:
                    meter.read()
                except DeviceError:
                    self.refused += 1
                self.truth[index].append((self.now_s, self.emulator.snapshot(index).energy_j))
            self.emulator.tick(POLL_S)
            self.now_s += POLL_S

    def window(self, index: int, start_s: float, end_s: float) -> tuple[EnergyWindow, float]:
        """Return what the meter says, and the truth, J."""
        points = [point for point in self.truth[index] if start_s <= point[0] <= end_s]
        (first_s, first_j), (last_s, last_j) = points[0], points[-1]
        found = window_over((self.meters[index].history,), first_s, last_s)
        return found, last_j - first_j


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    emulator = Emulator.attach(build_library(), tmp_path / "gpus", "h100x2,p40x1")
    emulator.use_virtual_clock(True)
    yield Node(emulator)
    emulator.clear_faults()
    with contextlib.suppress(pynvml.NVMLError):
        while True:
            pynvml.nvmlShutdown()


def disturb(node: Node, begin: Callable[[], None], end: Callable[[], None]) -> None:
    """Serve for 2 s, 3 s with the fault, and 3 s after it."""
    node.serve(2.0)
    begin()
    node.serve(3.0)
    end()
    node.serve(3.0)


def assert_no_joule_is_invented(node: Node) -> None:
    found, true_j = node.window(H100, 1.0, 7.0)
    assert abs(found.energy_j - true_j) <= found.error_j
    other, other_j = node.window(SPARE, 1.0, 7.0)
    assert other.energy_j == pytest.approx(other_j, rel=0.01)


@pytest.mark.parametrize("code", CODES)
def test_a_counter_that_cannot_be_read_for_a_while_loses_no_joule(node: Node, code: int) -> None:
    def begin() -> None:
        node.emulator.inject(COUNTER, error=code, index=H100)

    disturb(node, begin, node.emulator.clear_faults)
    assert node.refused > 100
    assert_no_joule_is_invented(node)
    found, true_j = node.window(H100, 1.0, 7.0)
    assert found.energy_j == pytest.approx(true_j, rel=0.03)


@pytest.mark.parametrize("code", CODES)
def test_a_lost_counter_window_ends_at_its_last_reading(node: Node, code: int) -> None:
    node.serve(2.0)
    node.emulator.inject(COUNTER, error=code, index=H100)
    node.serve(1.0)
    lost, alive = node.meters[H100].history, node.meters[SPARE].history
    assert lost.covered_until_s <= 2.0 < alive.covered_until_s


def test_a_frozen_counter_is_bridged_within_the_bound(node: Node) -> None:
    disturb(
        node,
        lambda: node.emulator.freeze(H100, True),
        lambda: node.emulator.freeze(H100, False),
    )
    assert_no_joule_is_invented(node)


def test_a_counter_that_goes_backwards_stays_within_the_bound(node: Node) -> None:
    disturb(node, lambda: node.emulator.reset_counter(H100), lambda: None)
    assert_no_joule_is_invented(node)
    found, true_j = node.window(H100, 1.0, 7.0)
    assert found.energy_j == pytest.approx(true_j, rel=0.03)


def test_a_resumed_meter_loses_no_joule_of_a_counter_that_went_backwards(
    node: Node,
) -> None:
    node.serve(2.0)
    node.emulator.reset_counter(H100)
    node.serve(2.0)
    reported_s = node.meters[H100].history.covered_until_s
    seen_j = node.meters[H100].counter_j(reported_s) or 0.0
    assert seen_j == pytest.approx(node.emulator.snapshot(H100).counter_j, abs=100.0)
    successor = GpuMeter(open_gpus()[H100], node.monotonic)
    successor.resume_from(reported_s, seen_j)
    node.meters.clear()  # no reading for a while
    node.serve(5.0)
    node.meters.append(successor)
    node.serve(2.0)
    found, true_j = node.window(H100, reported_s, 10.5)
    assert found.energy_j == pytest.approx(true_j, rel=0.02)
    assert abs(found.energy_j - true_j) <= found.error_j


def test_a_lost_gpu_that_comes_back_is_charged_what_it_drew(node: Node) -> None:
    disturb(
        node,
        lambda: node.emulator.set_alive(H100, False),
        lambda: node.emulator.set_alive(H100, True),
    )
    assert_no_joule_is_invented(node)


@pytest.mark.parametrize("spike_w", [9_000.0, 4_294_967.0])
def test_spikes_of_the_power_sensor_move_no_joule(node: Node, spike_w: float) -> None:
    disturb(node, lambda: node.emulator.spike(H100, spike_w, 5), lambda: None)
    assert_no_joule_is_invented(node)
    found, true_j = node.window(H100, 1.0, 7.0)
    assert found.energy_j == pytest.approx(true_j, rel=0.02)


@pytest.mark.parametrize("code", CODES)
def test_without_power_readings_the_counter_still_counts(node: Node, code: int) -> None:
    def begin() -> None:
        node.emulator.inject(FIELDS, error=code, index=H100)

    disturb(node, begin, node.emulator.clear_faults)
    assert_no_joule_is_invented(node)


def test_the_counter_covers_the_time_in_which_only_power_cannot_be_read(node: Node) -> None:
    node.serve(2.0)
    node.emulator.inject(FIELDS, error=pynvml.NVML_ERROR_NOT_SUPPORTED, index=H100)
    node.serve(3.0)
    assert node.meters[H100].history.covered_until_s > 4.0


def test_a_replica_with_a_lost_gpu_is_charged_when_the_gpu_is_back(
    node: Node, tmp_path: Path
) -> None:
    node.serve(2.0)
    block = ControlBlock.create(tmp_path / "replica-1.block")
    gpus = {str(index): node.meters[index].history for index in (H100, SPARE)}
    replica = ReplicaMeter("replica-1", block, gpus)
    start_s = replica.reading().time_s
    node.emulator.set_alive(H100, False)
    node.serve(3.0)
    lost = replica.report(TokenWeights())
    assert (lost.energy_j, lost.draw_w) == (0.0, None)
    node.emulator.set_alive(H100, True)
    node.serve(2.0)
    back = replica.report(TokenWeights())
    true_j = sum(node.window(index, start_s, node.now_s - 0.1)[1] for index in (H100, SPARE))
    assert back.energy_j == pytest.approx(true_j, rel=0.05)
    assert back.idle_uj + back.transition_uj == pytest.approx(back.energy_j * 1e6, abs=1)
    block.close()


def test_a_gpu_lost_for_longer_than_the_history_loses_joules_but_no_report(
    node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_meters, "CounterHistory", partial(CounterHistory, capacity=20))
    node.meters = [GpuMeter(gpu, node.monotonic) for gpu in open_gpus()]
    node.serve(2.0)
    block = ControlBlock.create(tmp_path / "replica-1.block")
    gpus = {str(index): node.meters[index].history for index in (H100, SPARE)}
    replica = ReplicaMeter("replica-1", block, gpus)
    node.emulator.set_alive(H100, False)
    node.serve(8.0)
    lost = replica.report(TokenWeights())
    assert (lost.energy_j, lost.draw_w, lost.quality) == (0.0, None, Quality.ESTIMATED)
    assert node.meters[SPARE].counter_j(replica.reported_s) is None
    node.emulator.set_alive(H100, True)
    node.serve(1.0)
    back = replica.report(TokenWeights())
    assert (back.energy_j, back.draw_w) == (0.0, None)
    back_s = replica.reported_s
    node.serve(1.0)
    true_j = sum(node.window(index, back_s, replica.reported_s + 1.0)[1] for index in (H100, SPARE))
    assert replica.report(TokenWeights()).energy_j == pytest.approx(true_j, rel=0.05)
    block.close()


@pytest.mark.parametrize("code", CODES)
def test_a_gpu_without_a_counter_makes_no_joule_from_missing_readings(
    node: Node, code: int
) -> None:
    node.serve(2.0)
    node.emulator.inject("nvmlDeviceGetPowerUsage", error=code, index=P40)
    node.serve(3.0)
    node.emulator.clear_faults()
    node.serve(2.0)
    found, true_j = node.window(P40, 1.0, 6.5)
    assert found.quality is Quality.EMULATED
    assert 0 < found.energy_j < 1.5 * true_j


def wait_until(is_true: Callable[[], bool]) -> None:
    give_up_s = time.monotonic() + 10.0
    while not is_true():
        assert time.monotonic() < give_up_s, "it never came true"
        time.sleep(0.005)


def test_a_gpu_that_hangs_delays_no_other_meter(tmp_path: Path) -> None:
    Emulator.attach(build_library(), tmp_path / "gpus", "h100x2")
    stuck, alive = open_gpus()
    asked, answers = threading.Event(), threading.Event()

    class Stuck:
        capabilities = stuck.capabilities

        def energy_j(self) -> float:
            asked.set()
            answers.wait()
            return 0.0

        def power_w(self) -> float:
            return 0.0

    gpus: Any = {stuck.uuid: Stuck(), alive.uuid: alive}
    running = GpuMeters(gpus)
    running.start()
    try:
        assert asked.wait(10.0)
        before_s = running.histories[alive.uuid].covered_until_s
        wait_until(lambda: running.histories[alive.uuid].covered_until_s > before_s)
    finally:
        answers.set()
        running.stop()
        pynvml.nvmlShutdown()


def test_a_lost_gpu_is_listed_while_it_is_lost_and_other_meters_continue(tmp_path: Path) -> None:
    emulator = Emulator.attach(build_library(), tmp_path / "gpus", "h100x2")
    lost, alive = open_gpus()
    running: Any = GpuMeters({gpu.uuid: gpu for gpu in (lost, alive)})
    running.start()
    try:
        wait_until(lambda: running.histories[lost.uuid].covered_until_s > 0)
        emulator.set_alive(0, False)
        wait_until(lambda: running.lost == {lost.uuid})
        before_s = running.histories[alive.uuid].covered_until_s
        wait_until(lambda: running.histories[alive.uuid].covered_until_s > before_s)
        emulator.set_alive(0, True)
        wait_until(lambda: running.lost == set())
    finally:
        running.stop()
        pynvml.nvmlShutdown()
