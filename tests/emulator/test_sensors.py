"""What emulated GPUs say about themselves, apart from the truth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pynvml
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.emulator.conftest import World

share = st.floats(0, 1)
segments = st.lists(
    st.tuples(share, share, st.sampled_from([210, 700, 1200, 1500, 1980]), st.integers(1, 60)),
    min_size=1,
    max_size=8,
)
GRID_S = 0.005
JUST_AFTER_S = 1e-8
"""When the power of a step shows that a load or a lock has changed at its begin."""


@settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(plan=segments)
def test_the_counter_follows_the_truth_and_the_truth_is_the_integral(
    world: World, plan: list[Any]
) -> None:
    world.emulator.tick(1 - world.truth().now_s % 1)
    start_j = world.truth().energy_j
    integral_j = largest_w = 0.0
    shown_j = world.truth().counter_j
    for core, mem, clock_mhz, steps in plan:
        pynvml.nvmlDeviceSetGpuLockedClocks(world.nvml(), 210, clock_mhz)
        world.emulator.set_load(world.h100, core=core, mem=mem, valid_s=0.2)
        for _ in range(steps):
            world.emulator.tick(JUST_AFTER_S)
            begin_w = world.truth().power_w
            world.emulator.tick(GRID_S - JUST_AFTER_S)
            truth = world.truth()
            integral_j += (begin_w + truth.power_w) / 2 * GRID_S
            largest_w = max(largest_w, begin_w, truth.power_w)
            assert shown_j <= truth.counter_j <= truth.energy_j
            shown_j = truth.counter_j
    assert truth.energy_j - start_j == pytest.approx(integral_j, rel=1e-6)
    world.emulator.tick(0.099)
    last = world.truth()
    assert last.energy_j - last.counter_j <= 0.1 * max(largest_w, last.power_w)


def test_the_counter_is_published_every_tenth_of_a_second(world: World) -> None:
    world.emulator.tick(1 - world.truth().now_s % 1)
    seen = set()
    for _ in range(100):
        world.emulator.tick(0.01)
        seen.add(world.energy_j())
    assert len(seen) in {10, 11}


def test_the_power_sensor_misses_bursts_that_the_counter_sees(world: World) -> None:
    """The sensor looks 25 ms of every 100 ms; these bursts end before it looks."""
    world.run(1, core=0, mem=0)
    start = world.truth()
    sensed_j = 0.0
    for _ in range(50):
        world.run(0.02, core=1.0, mem=0.3)
        world.run(0.08, core=0, mem=0)
        sensed_j += world.instant_w() * 0.1
    end = world.truth()
    true_j = end.energy_j - start.energy_j
    assert end.counter_j - start.counter_j == pytest.approx(true_j, rel=0.02)
    assert sensed_j < 0.8 * true_j


def test_power_usage_is_a_one_second_average_on_hopper_and_one_sample_on_pascal(
    world: World,
) -> None:
    world.emulator.tick(5)
    for index in (world.h100, world.p40):
        world.emulator.set_load(index, core=1.0, mem=0.3, valid_s=9)
    world.emulator.tick(0.5)
    assert world.usage_w() < world.instant_w() - 100
    assert world.usage_w(world.p40) == pytest.approx(world.truth(world.p40).power_w, rel=0.02)
    world.emulator.tick(1.1)
    assert world.usage_w() == pytest.approx(world.instant_w(), rel=0.02)


def test_an_old_gpu_has_neither_counter_nor_power_fields(world: World) -> None:
    old = world.nvml(world.p40)
    with pytest.raises(pynvml.NVMLError_NotSupported):
        pynvml.nvmlDeviceGetTotalEnergyConsumption(old)
    field = pynvml.nvmlDeviceGetFieldValues(old, [pynvml.NVML_FI_DEV_POWER_INSTANT])[0]
    assert field.nvmlReturn == pynvml.NVML_ERROR_NOT_SUPPORTED


def test_a_frozen_gpu_shows_the_same_numbers_while_the_truth_goes_on(world: World) -> None:
    world.run(2, core=0.5, mem=0.5)
    world.emulator.freeze(world.h100, True)
    before = (world.energy_j(), world.instant_w(), world.usage_w(), world.truth().energy_j)
    world.run(5, core=1.0, mem=0.5)
    assert (world.energy_j(), world.instant_w(), world.usage_w()) == before[:3]
    assert world.truth().energy_j > before[3] + 1000
    world.emulator.freeze(world.h100, False)
    world.emulator.tick(0.2)
    assert world.energy_j() == pytest.approx(world.truth().energy_j, abs=80)


def test_a_reset_counter_starts_at_zero_while_the_truth_goes_on(world: World) -> None:
    world.run(10, core=1.0, mem=0.3)
    before_j = world.truth().energy_j
    world.emulator.reset_counter(world.h100)
    assert world.energy_j() == 0
    world.emulator.tick(10)
    gained_j = world.truth().energy_j - before_j
    assert world.energy_j() == pytest.approx(gained_j, abs=80)


def test_a_spike_shows_in_the_next_instant_readings_only(world: World) -> None:
    calm_w = world.instant_w()
    world.emulator.spike(world.h100, 4e6, 2)
    assert [world.instant_w() for _ in range(3)] == [4e6, 4e6, calm_w]
    world.emulator.spike(world.h100, 1e12, 1)
    assert world.instant_w() == (2**32 - 1) / 1e3, "what does not fit is the largest number"
    assert world.truth().power_w < 100


def test_field_times_count_from_1970(world: World, tmp_path: Path) -> None:
    field = pynvml.nvmlDeviceGetFieldValues(world.nvml(), [pynvml.NVML_FI_DEV_POWER_INSTANT])[0]
    assert field.timestamp / 1e6 == pytest.approx(tmp_path.stat().st_mtime, abs=10)


def test_memory_power_is_a_scope_of_its_own_where_there_is_one(world: World) -> None:
    world.run(1, core=0.0, mem=1.0)
    fields = [(pynvml.NVML_FI_DEV_POWER_INSTANT, scope) for scope in (0, 1, 2)]
    whole, module, memory = pynvml.nvmlDeviceGetFieldValues(world.nvml(), fields)
    assert 150_000 < memory.value.uiVal < whole.value.uiVal
    assert module.nvmlReturn == pynvml.NVML_ERROR_NOT_SUPPORTED
