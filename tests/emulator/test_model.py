"""The physical model behind the emulated GPUs."""

from __future__ import annotations

import math
from pathlib import Path

import pynvml
import pytest
from tests.emulator.conftest import World

from steppe.emulator.library import Emulator


def joules_per_work(world: World, clock_mhz: int) -> float:
    """Joules per second of compute at full clock, for compute-bound work at a clock."""
    world.lock(clock_mhz)
    world.run(20, core=1.0, mem=0.3)
    before_j = world.energy_j()
    world.run(10, core=1.0, mem=0.3)
    return float((world.energy_j() - before_j) / (10 * world.emulator.speed(world.h100)))


def test_a_middle_clock_costs_least_energy_per_work(world: World) -> None:
    fast, middle, slow = (joules_per_work(world, mhz) for mhz in (1980, 1200, 345))
    assert middle < fast
    assert middle < slow


def test_busy_power_follows_the_documented_formula(world: World) -> None:
    world.lock(1605)
    world.run(0.5, core=0.6, mem=0.4)
    truth = world.truth()
    v = 0.7 + 0.3 * (1605 - 1200) / (1980 - 1200)
    idle_w = 70 * (1 + 0.002 * (truth.temperature_c - 30))
    expected_w = idle_w + 210.9 * v**2 + 417.3 * 0.6 * v**2 * 1605 / 1980 + 150 * 0.4
    assert truth.clock_mhz == 1605
    assert truth.power_w == pytest.approx(expected_w, rel=1e-4)


def test_a_fully_busy_l4_stays_at_its_power_limit(world: World) -> None:
    world.run(60, core=1.0, mem=1.0, index=world.l4)
    truth = world.truth(world.l4)
    assert truth.power_w == pytest.approx(72, abs=0.1)
    assert truth.clock_mhz < 2040
    reasons = pynvml.nvmlDeviceGetCurrentClocksEventReasons(world.nvml(world.l4))
    assert reasons == pynvml.nvmlClocksEventReasonSwPowerCap


def test_a_compute_bound_l4_needs_no_throttling(world: World) -> None:
    world.run(60, core=1.0, mem=0.0, index=world.l4)
    assert world.truth(world.l4).clock_mhz == pytest.approx(2040)
    assert world.truth(world.l4).power_w < 72


def test_a_power_limit_acts_with_a_lag_and_is_let_go_more_slowly(world: World) -> None:
    world.run(5, core=1.0, mem=0.3)
    full_w = world.truth().power_w
    pynvml.nvmlDeviceSetPowerManagementLimit(world.nvml(), 350_000)
    world.emulator.tick(0.01)
    assert 360 < world.truth().power_w < full_w
    world.emulator.tick(0.3)
    assert world.truth().power_w == pytest.approx(350, abs=1)
    pynvml.nvmlDeviceSetPowerManagementLimit(world.nvml(), 700_000)
    world.emulator.tick(0.1)
    assert world.truth().power_w < full_w - 50
    world.emulator.tick(2)
    assert world.truth().power_w == pytest.approx(full_w, rel=0.01)


def test_a_clock_lock_takes_hold_after_its_latency(world: World) -> None:
    world.run(1, core=1.0, mem=0.0)
    pynvml.nvmlDeviceSetGpuLockedClocks(world.nvml(), 210, 1200)
    world.emulator.tick(0.014)
    assert world.truth().clock_mhz > 1900
    world.emulator.tick(0.002)
    assert world.truth().clock_mhz == 1200
    assert world.truth().clock_lock_mhz == (210, 1200)


def test_a_clock_rises_within_a_few_hundredths_of_a_second(world: World) -> None:
    world.run(1, core=0.0, mem=0.0)
    assert world.truth().clock_mhz == 345
    world.run(0.05, core=1.0, mem=0.0)
    assert world.truth().clock_mhz == pytest.approx(1980, rel=0.01)


def test_a_locked_clock_is_rounded_down_to_a_supported_one(world: World) -> None:
    world.lock(1209)
    assert world.truth().clock_lock_mhz == (210, 1200)
    supported = pynvml.nvmlDeviceGetSupportedGraphicsClocks(world.nvml(), 2619)
    assert 1200 in supported
    assert supported == sorted(supported, reverse=True)


def test_an_idle_gpu_with_a_context_saves_watts_under_a_low_lock(world: World) -> None:
    world.emulator.tick(60)
    bare_w = world.truth().power_w
    world.emulator.set_context(world.h100, 4242, 1 << 30)
    world.emulator.tick(60)
    parked = world.truth()
    world.lock(210)
    world.emulator.tick(60)
    assert parked.clock_mhz == pytest.approx(1980)
    assert parked.power_w == pytest.approx(bare_w + 50, abs=1)
    assert world.truth().clock_mhz == 210
    assert world.truth().power_w == pytest.approx(bare_w + 50 * 0.7**2, abs=1)


def test_heat_builds_up_slowly_and_costs_leakage(world: World) -> None:
    world.run(1, core=0.8, mem=0.2)
    cool = world.truth()
    world.run(120, core=0.8, mem=0.2)
    warm = world.truth()
    assert warm.temperature_c > cool.temperature_c + 20
    assert warm.power_w > cool.power_w + 2
    shown_c = pynvml.nvmlDeviceGetTemperature(world.nvml(), pynvml.NVML_TEMPERATURE_GPU)
    assert shown_c == round(warm.temperature_c)


def joules_of_changing_loads(library: Path, state: Path, asks: int) -> float:
    """Joules of loads that change every 50 ms, asked for so often in each of them."""
    emulator = Emulator.attach(library, state, "h100x1")
    emulator.use_virtual_clock(True)
    began_s = emulator.snapshot(0).now_s
    emulator.tick(math.ceil(10 * began_s + 1) / 10 - began_s)
    before_j = emulator.snapshot(0).energy_j
    for core, mem in [(1.0, 0.3), (0.0, 0.0), (0.3, 0.9)] * 50:
        emulator.set_load(0, core=core, mem=mem, valid_s=math.inf)
        for _ in range(asks):
            emulator.tick(0.05 / asks)
    return emulator.snapshot(0).energy_j - before_j


def test_the_truth_hardly_depends_on_how_often_it_is_asked_for(
    library: Path, tmp_path: Path
) -> None:
    often_j = joules_of_changing_loads(library, tmp_path / "often", 100)
    seldom_j = joules_of_changing_loads(library, tmp_path / "seldom", 1)
    assert often_j == pytest.approx(seldom_j, rel=1e-3)
