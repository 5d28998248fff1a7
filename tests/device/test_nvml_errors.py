"""The fault matrix: every NVML call that we use, times every class of error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pynvml
import pytest

from steppe.device.nvml import ATTEMPTS, NvmlGpu, open_gpus
from steppe.errors import (
    BackendUnavailableError,
    DeviceError,
    DeviceLostError,
    NoPermissionError,
    NotSupportedError,
    OutOfRangeError,
    TransientDeviceError,
)

CLASSES: dict[int, type[DeviceError]] = {
    pynvml.NVML_ERROR_NOT_SUPPORTED: NotSupportedError,
    pynvml.NVML_ERROR_NO_PERMISSION: NoPermissionError,
    pynvml.NVML_ERROR_INVALID_ARGUMENT: OutOfRangeError,
    pynvml.NVML_ERROR_TIMEOUT: TransientDeviceError,
    pynvml.NVML_ERROR_UNKNOWN: TransientDeviceError,
    pynvml.NVML_ERROR_GPU_IS_LOST: DeviceLostError,
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: BackendUnavailableError,
}
PASSING = pynvml.NVML_ERROR_TIMEOUT

# What needs the call: without it there is no number, and none is made up.
NEEDED: dict[str, Callable[[NvmlGpu], object]] = {
    "nvmlDeviceGetTotalEnergyConsumption": NvmlGpu.energy_j,
    "nvmlDeviceGetPowerUsage": NvmlGpu.sample,
    "nvmlDeviceGetFieldValues": NvmlGpu.sample,
    "nvmlDeviceGetClockInfo": NvmlGpu.sample,
    "nvmlDeviceGetPowerManagementLimit": NvmlGpu.power_limit_w,
    "nvmlDeviceGetEnforcedPowerLimit": NvmlGpu.enforced_power_limit_w,
    "nvmlDeviceSetGpuLockedClocks": lambda gpu: gpu.set_clock_limit(900),
    "nvmlDeviceResetGpuLockedClocks": NvmlGpu.reset_clock_limit,
    "nvmlDeviceSetPowerManagementLimit": lambda gpu: gpu.set_power_limit(300),
}

# Sensors that a sample can do without: the sensor is missing, the sample stands.
OPTIONAL = {
    "nvmlDeviceGetEnforcedPowerLimit": "power_limit_w",
    "nvmlDeviceGetTemperature": "temperature_c",
    "nvmlDeviceGetUtilizationRates": "utilisation",
}
CANNOT_NOW = (
    pynvml.NVML_ERROR_NOT_SUPPORTED,
    pynvml.NVML_ERROR_NO_PERMISSION,
    pynvml.NVML_ERROR_INVALID_ARGUMENT,
    PASSING,
    pynvml.NVML_ERROR_UNKNOWN,
)

# Calls of discovery: a GPU that cannot answer lacks the knob.
HIDDEN = {
    "nvmlDeviceGetPowerManagementLimitConstraints": ("power_limit_range_w", None),
    "nvmlDeviceGetPowerManagementDefaultLimit": ("default_power_limit_w", None),
    "nvmlDeviceGetSupportedMemoryClocks": ("sm_clocks_mhz", ()),
    "nvmlDeviceGetSupportedGraphicsClocks": ("sm_clocks_mhz", ()),
    "nvmlDeviceGetArchitecture": ("sm_clocks_mhz", ()),
    "nvmlDeviceGetMigMode": ("is_mig", False),
    "nvmlDeviceGetTotalEnergyConsumption": ("has_energy_counter", False),
    "nvmlDeviceGetFieldValues": ("has_instant_power", False),
}


@pytest.mark.parametrize("code", CLASSES)
@pytest.mark.parametrize("function", NEEDED)
def test_a_call_that_fails_raises_the_error_of_its_class(
    node: Any, function: str, code: int
) -> None:
    gpu = node.open()
    node.emulator.inject(function, error=code, index=node.h100)
    with pytest.raises(CLASSES[code]):
        NEEDED[function](gpu)
    node.emulator.clear_faults()
    NEEDED[function](gpu)


@pytest.mark.parametrize("function", NEEDED)
def test_an_error_that_passes_is_not_seen(node: Any, function: str) -> None:
    gpu = node.open()
    node.emulator.inject(function, error=PASSING, index=node.h100, count=ATTEMPTS - 1)
    NEEDED[function](gpu)


@pytest.mark.parametrize("code", CANNOT_NOW)
@pytest.mark.parametrize("function", OPTIONAL)
def test_a_sample_does_without_a_sensor_that_fails(node: Any, function: str, code: int) -> None:
    gpu = node.open()
    node.emulator.inject(function, error=code, index=node.h100)
    sample = gpu.sample()
    assert getattr(sample, OPTIONAL[function]) is None
    assert sample.power_w > 0


@pytest.mark.parametrize("function", OPTIONAL)
def test_a_sample_of_a_lost_gpu_raises_whichever_sensor_tells(node: Any, function: str) -> None:
    gpu = node.open()
    node.emulator.inject(function, error=pynvml.NVML_ERROR_GPU_IS_LOST, index=node.h100)
    with pytest.raises(DeviceLostError):
        gpu.sample()


@pytest.mark.parametrize(
    "code",
    [
        pynvml.NVML_ERROR_NOT_SUPPORTED,
        pynvml.NVML_ERROR_NO_PERMISSION,
        pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
    ],
)
@pytest.mark.parametrize("function", HIDDEN)
def test_a_knob_that_cannot_be_discovered_is_hidden(node: Any, function: str, code: int) -> None:
    node.emulator.inject(function, error=code, index=node.h100)
    attribute, absent = HIDDEN[function]
    assert getattr(node.open().capabilities, attribute) == absent


@pytest.mark.parametrize("function", HIDDEN)
def test_an_error_that_may_pass_never_hides_a_knob(node: Any, function: str) -> None:
    node.emulator.inject(function, error=PASSING, index=node.h100)
    with pytest.raises(TransientDeviceError):
        node.open()


@pytest.mark.parametrize("code", CLASSES)
def test_the_driver_failing_at_start_is_told_by_class(node: Any, code: int) -> None:
    node.emulator.inject("nvmlDeviceGetCount", error=code)
    with pytest.raises(CLASSES[code]):
        open_gpus()


def test_a_lost_gpu_is_lost_to_every_call(node: Any) -> None:
    gpu = node.open()
    node.emulator.set_alive(node.h100, False)
    for use in NEEDED.values():
        with pytest.raises(DeviceLostError):
            use(gpu)
