"""The fault matrix: every NVML call that we use, times every class of error.

What Steppe does, by call:

- NEEDED: raises the error of its class, and makes up no number;
- OPENING: the host does not start (its error by class), or does without a GPU that is lost, that
  we may not open, or whose error may pass;
- OPTIONAL, REASONS: the sensor is missing from the sample, which stands;
- HIDDEN: the knob is hidden, or the GPU is not opened where the error may pass;
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pynvml
import pytest
from tests.fixtures.emulated_node import EmulatedNode

from steppe.device import nvml
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
    pynvml.NVML_ERROR_FUNCTION_NOT_FOUND: NotSupportedError,
    pynvml.NVML_ERROR_NO_PERMISSION: NoPermissionError,
    pynvml.NVML_ERROR_INVALID_ARGUMENT: OutOfRangeError,
    pynvml.NVML_ERROR_TIMEOUT: TransientDeviceError,
    pynvml.NVML_ERROR_IN_USE: TransientDeviceError,
    pynvml.NVML_ERROR_UNKNOWN: TransientDeviceError,
    pynvml.NVML_ERROR_GPU_IS_LOST: DeviceLostError,
    pynvml.NVML_ERROR_RESET_REQUIRED: DeviceLostError,
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED: BackendUnavailableError,
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: BackendUnavailableError,
}
PASSING, NOT_OURS = pynvml.NVML_ERROR_TIMEOUT, pynvml.NVML_ERROR_NO_PERMISSION
LOST = (pynvml.NVML_ERROR_GPU_IS_LOST, pynvml.NVML_ERROR_RESET_REQUIRED)
LEFT_OUT = [
    code for code, kind in CLASSES.items() if kind in (DeviceLostError, TransientDeviceError)
]

# Without these no GPU is opened. The first three are asked of the host, not of a GPU.
HOST = ("nvmlInit", "nvmlDeviceGetCount", "nvmlSystemGetDriverVersion")
OPENING = (*HOST, "nvmlDeviceGetHandleByIndex", "nvmlDeviceGetUUID", "nvmlDeviceGetName")

# What needs the call: without it there is no number, and none is made up.
NEEDED: dict[str, Callable[[NvmlGpu], object]] = {
    "nvmlDeviceGetTotalEnergyConsumption": NvmlGpu.energy_j,
    "nvmlDeviceGetMemoryInfo": NvmlGpu.board,
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
REASONS = "nvmlDeviceGetCurrentClocksEventReasons"
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
    node: EmulatedNode, function: str, code: int
) -> None:
    gpu = node.open()
    node.emulator.inject(function, error=code, index=node.h100)
    with pytest.raises(CLASSES[code]):
        NEEDED[function](gpu)
    node.emulator.clear_faults()
    NEEDED[function](gpu)


@pytest.mark.parametrize("function", NEEDED)
def test_an_error_that_passes_is_not_seen(node: EmulatedNode, function: str) -> None:
    gpu = node.open()
    node.emulator.inject(function, error=PASSING, index=node.h100, count=ATTEMPTS - 1)
    NEEDED[function](gpu)


@pytest.mark.parametrize("code", CANNOT_NOW)
@pytest.mark.parametrize("function", OPTIONAL)
def test_a_sample_does_without_a_sensor_that_fails(
    node: EmulatedNode, function: str, code: int
) -> None:
    gpu = node.open()
    node.emulator.inject(function, error=code, index=node.h100)
    sample = gpu.sample()
    assert getattr(sample, OPTIONAL[function]) is None
    assert sample.power_w > 0


@pytest.mark.parametrize("function", OPTIONAL)
def test_a_sample_of_a_lost_gpu_raises_whichever_sensor_tells(
    node: EmulatedNode, function: str
) -> None:
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
def test_a_knob_that_cannot_be_discovered_is_hidden(
    node: EmulatedNode, function: str, code: int
) -> None:
    node.emulator.inject(function, error=code, index=node.h100)
    attribute, absent = HIDDEN[function]
    assert getattr(node.open().capabilities, attribute) == absent


@pytest.mark.parametrize("function", HIDDEN)
def test_an_error_that_passes_hides_no_knob(node: EmulatedNode, function: str) -> None:
    known = node.open().capabilities
    node.emulator.inject(function, error=PASSING, index=node.h100, count=ATTEMPTS - 1)
    assert node.open().capabilities == known


@pytest.mark.parametrize("code", CLASSES)
@pytest.mark.parametrize("function", OPENING)
def test_a_failure_at_start_is_told_by_class_or_leaves_one_gpu_out(
    node: EmulatedNode, function: str, code: int
) -> None:
    node.emulator.inject(function, error=code, index=None if function in HOST else node.h100)
    if code in (*LEFT_OUT, NOT_OURS) and function not in HOST:
        assert [gpu.index for gpu in open_gpus()] == [node.spare, node.p40]
    elif code in LOST and function == "nvmlSystemGetDriverVersion":
        assert open_gpus() == ()
    else:
        with pytest.raises(CLASSES[code]):
            open_gpus()


@pytest.mark.parametrize("code", LEFT_OUT)
@pytest.mark.parametrize("function", HIDDEN)
def test_a_gpu_that_fails_while_it_is_opened_is_left_out(
    node: EmulatedNode, function: str, code: int
) -> None:
    node.emulator.inject(function, error=code, index=node.h100)
    assert [gpu.index for gpu in open_gpus()] == [node.spare, node.p40]


@pytest.mark.parametrize("code", [PASSING, NOT_OURS])
def test_a_host_none_of_whose_gpus_can_be_opened_is_no_host_without_gpus(
    node: EmulatedNode, code: int
) -> None:
    for index in (node.h100, node.spare, node.p40):
        node.emulator.inject("nvmlDeviceGetName", error=code, index=index)
    with pytest.raises(CLASSES[code]):
        open_gpus()


@pytest.mark.parametrize("code", CANNOT_NOW)
def test_a_sample_does_without_the_reasons_of_the_clock(node: EmulatedNode, code: int) -> None:
    gpu = node.open()
    node.emulator.inject(REASONS, error=code, index=node.h100)
    assert gpu.sample().reasons == frozenset()
    node.emulator.clear_faults()
    assert gpu.sample().reasons != frozenset()


def test_the_matrix_names_every_call_that_we_make() -> None:
    source = Path(nvml.__file__).read_text()
    calls = set(re.findall(r"pynvml\.(nvml[A-Z]\w+)", source))
    covered = {*NEEDED, *OPENING, *OPTIONAL, *HIDDEN, REASONS}
    assert calls == covered


def test_a_lost_gpu_is_lost_to_every_call(node: EmulatedNode) -> None:
    gpu = node.open()
    node.emulator.set_alive(node.h100, False)
    for use in NEEDED.values():
        with pytest.raises(DeviceLostError):
            use(gpu)
