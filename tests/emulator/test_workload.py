"""Loads and contexts of emulated GPUs."""

from __future__ import annotations

import math
import os
import subprocess
import sys

import pynvml
import pytest
from tests.emulator.conftest import World

from steppe.errors import DeviceError, OutOfRangeError


def test_a_load_falls_to_zero_when_its_lease_ends(world: World) -> None:
    world.emulator.set_load(world.h100, core=1.0, mem=0.5, valid_s=0.5)
    world.emulator.tick(0.499)
    assert world.truth().core_load == 1.0
    world.emulator.tick(0.002)
    assert (world.truth().core_load, world.truth().mem_load) == (0.0, 0.0)
    assert world.truth().power_w < 80


def test_a_renewed_load_stays(world: World) -> None:
    for _ in range(10):
        world.emulator.set_load(world.h100, core=1.0, mem=0.5, valid_s=0.5)
        world.emulator.tick(0.4)
    assert world.truth().core_load == 1.0


def test_the_end_of_a_lease_is_exact_in_the_energy(world: World) -> None:
    """One GPU is asked at the end of its lease, the other only much later."""
    for index in (world.h100, world.spare_h100):
        world.emulator.set_load(index, core=1.0, mem=0.5, valid_s=0.12345)
    world.emulator.tick(0.12345)
    world.emulator.set_load(world.spare_h100, core=0.0, mem=0.0, valid_s=math.inf)
    world.emulator.tick(10)
    by_lease, by_hand = world.truth(world.h100), world.truth(world.spare_h100)
    assert by_lease.energy_j == pytest.approx(by_hand.energy_j, rel=1e-12)


@pytest.mark.parametrize(("core", "mem", "valid_s"), [(1.1, 0, 1), (0, -0.1, 1), (0, 0, -1)])
def test_a_load_out_of_range_is_refused(
    world: World, core: float, mem: float, valid_s: float
) -> None:
    with pytest.raises(OutOfRangeError, match="set_load"):
        world.emulator.set_load(world.h100, core=core, mem=mem, valid_s=valid_s)


def test_not_a_number_is_no_load(world: World) -> None:
    with pytest.raises(OutOfRangeError):
        world.emulator.set_load(world.h100, core=math.nan, mem=0, valid_s=1)


def test_a_gpu_that_is_not_there_is_refused(world: World) -> None:
    with pytest.raises(OutOfRangeError, match="asked for emulated GPU 4, found 4"):
        world.emulator.snapshot(4)


def test_contexts_show_as_memory_and_processes(world: World) -> None:
    world.emulator.set_context(world.h100, 11, 3 << 30)
    world.emulator.set_context(world.h100, 12, 1 << 30)
    world.emulator.set_context(world.h100, 11, 2 << 30)
    processes = pynvml.nvmlDeviceGetComputeRunningProcesses(world.nvml())
    assert {(p.pid, p.usedGpuMemory) for p in processes} == {(11, 2 << 30), (12, 1 << 30)}
    assert pynvml.nvmlDeviceGetMemoryInfo(world.nvml()).used == 3 << 30
    world.emulator.clear_context(world.h100, 11)
    assert world.truth().contexts == 1


def test_contexts_cannot_hold_more_memory_than_there_is(world: World) -> None:
    world.emulator.set_context(world.l4, 11, 20 << 30)
    with pytest.raises(DeviceError, match="more memory"):
        world.emulator.set_context(world.l4, 12, 20 << 30)


def test_a_process_number_of_zero_is_refused(world: World) -> None:
    with pytest.raises(OutOfRangeError):
        world.emulator.set_context(world.h100, 0, 1)


def test_a_context_and_its_load_end_with_the_process(world: World) -> None:
    """In real time; the process is not reaped, as when its parent hangs."""
    world.emulator.use_virtual_clock(False)
    child = subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE)
    world.emulator.set_context(world.h100, child.pid, 1 << 30)
    world.emulator.set_context(world.l4, os.getpid(), 1 << 30)
    for index in (world.h100, world.l4):
        world.emulator.set_load(index, core=1.0, mem=0.5, valid_s=math.inf)
    assert world.truth().contexts == 1
    child.kill()
    while world.truth().contexts:
        pass
    assert world.truth().core_load == 0.0
    assert world.truth(world.l4).core_load == 1.0, "the other process lives"
    child.communicate()


def test_utilisation_is_the_larger_of_both_loads(world: World) -> None:
    world.run(1, core=0.25, mem=0.75)
    rates = pynvml.nvmlDeviceGetUtilizationRates(world.nvml())
    assert (rates.gpu, rates.memory) == (75, 75)
    assert world.truth(world.spare_h100).core_load == 0.0


def test_time_never_goes_back_between_virtual_and_real_time(world: World) -> None:
    world.emulator.tick(100)
    times_s = [world.truth().now_s]
    for virtual in (False, True, False, True):
        world.emulator.use_virtual_clock(virtual)
        times_s.append(world.truth().now_s)
    assert times_s == sorted(times_s)
    assert times_s[-1] - times_s[0] < 10


def test_time_moves_by_ticks_only_under_the_virtual_clock(world: World) -> None:
    before_s = world.truth().now_s
    world.emulator.tick(3600)
    assert world.truth().now_s == pytest.approx(before_s + 3600)
    world.emulator.use_virtual_clock(False)
    with pytest.raises(OutOfRangeError):
        world.emulator.tick(1)
