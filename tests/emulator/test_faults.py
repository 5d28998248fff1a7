"""Faults, lost GPUs and permissions."""

from __future__ import annotations

import time
from pathlib import Path

import pynvml
import pytest
from tests.emulator.conftest import World


def test_a_fault_hits_its_function_on_its_gpu_so_many_times(world: World) -> None:
    world.emulator.inject(
        "nvmlDeviceGetPowerUsage", error=pynvml.NVML_ERROR_TIMEOUT, index=world.h100, count=2
    )
    assert world.usage_w(world.spare_h100) > 0
    for _ in range(2):
        with pytest.raises(pynvml.NVMLError_Timeout):
            world.usage_w()
    assert world.usage_w() > 0


def test_a_fault_without_a_count_stays_until_it_is_cleared(world: World) -> None:
    world.emulator.inject("*", error=pynvml.NVML_ERROR_UNKNOWN)
    for _ in range(20):
        with pytest.raises(pynvml.NVMLError_Unknown):
            pynvml.nvmlDeviceGetCount()
    world.emulator.clear_faults()
    assert pynvml.nvmlDeviceGetCount() == 4


@pytest.mark.parametrize(
    "function", ["nvmlInit", "nvmlDeviceGetCount", "nvmlDeviceGetHandleByIndex"]
)
def test_a_fault_is_named_without_the_version_of_its_function(world: World, function: str) -> None:
    world.emulator.inject(function, error=pynvml.NVML_ERROR_DRIVER_NOT_LOADED, count=1)
    call = getattr(pynvml, function)
    arguments = (world.h100,) if function.endswith("Index") else ()
    with pytest.raises(pynvml.NVMLError_DriverNotLoaded):
        call(*arguments)


def test_a_call_can_be_late_without_failing(world: World) -> None:
    world.emulator.inject("nvmlDeviceGetPowerUsage", delay_s=0.03, count=1)
    start_s = time.perf_counter()
    assert world.usage_w() > 0
    assert time.perf_counter() - start_s >= 0.03


def test_a_lost_gpu_answers_nothing_until_it_is_back(world: World) -> None:
    spare = world.nvml(world.spare_h100)
    world.emulator.set_alive(world.spare_h100, False)
    with pytest.raises(pynvml.NVMLError_GpuIsLost):
        pynvml.nvmlDeviceGetPowerUsage(spare)
    with pytest.raises(pynvml.NVMLError_GpuIsLost):
        world.nvml(world.spare_h100)
    assert world.usage_w(world.h100) > 0
    world.emulator.set_alive(world.spare_h100, True)
    assert world.usage_w(world.spare_h100) > 0


@pytest.mark.parametrize("limit_mw", [100_000, 900_000])
def test_a_power_limit_out_of_range_is_refused(world: World, limit_mw: int) -> None:
    with pytest.raises(pynvml.NVMLError_InvalidArgument):
        pynvml.nvmlDeviceSetPowerManagementLimit(world.nvml(), limit_mw)
    assert pynvml.nvmlDeviceGetEnforcedPowerLimit(world.nvml()) == 700_000


def test_an_old_gpu_has_no_clock_lock(world: World) -> None:
    with pytest.raises(pynvml.NVMLError_NotSupported):
        pynvml.nvmlDeviceSetGpuLockedClocks(world.nvml(world.p40), 600, 900)


def test_a_symbolic_and_a_numeric_clock_do_not_mix(world: World) -> None:
    with pytest.raises(pynvml.NVMLError_InvalidArgument):
        pynvml.nvmlDeviceSetGpuLockedClocks(world.nvml(), 210, 0xFFFFFF02)
    with pytest.raises(pynvml.NVMLError_InvalidArgument):
        pynvml.nvmlDeviceSetGpuLockedClocks(world.nvml(), 900, 600)


def test_without_privilege_only_readings_are_allowed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEPPE_EMULATED_PRIVILEGE", "0")
    setters = [
        (pynvml.nvmlDeviceSetGpuLockedClocks, (210, 1200)),
        (pynvml.nvmlDeviceResetGpuLockedClocks, ()),
        (pynvml.nvmlDeviceSetPowerManagementLimit, (500_000,)),
        (pynvml.nvmlDeviceSetPersistenceMode, (1,)),
    ]
    for setter, arguments in setters:
        with pytest.raises(pynvml.NVMLError_NoPermission):
            setter(world.nvml(), *arguments)
    assert world.usage_w() > 0
    assert (world.truth().clock_sets, world.truth().power_limit_sets) == (0, 0)
    monkeypatch.setenv("STEPPE_EMULATED_PRIVILEGE", "1")
    world.lock(1200)
    assert world.truth().clock_sets == 1


def test_a_handle_of_another_state_is_refused(world: World, tmp_path: Path) -> None:
    old = world.nvml()
    type(world)(world.library, tmp_path / "other")
    with pytest.raises(pynvml.NVMLError_InvalidArgument):
        pynvml.nvmlDeviceGetPowerUsage(old)
    assert world.usage_w() > 0
