from __future__ import annotations

import os
import subprocess
import sys

import pynvml
import pytest
from tests.fixtures.emulated_node import EmulatedNode

from steppe.device import nvml_codes
from steppe.device.gpu import LimitReason
from steppe.device.nvml import open_gpus
from steppe.errors import (
    BackendUnavailableError,
    DeviceLostError,
    NoPermissionError,
    NotSupportedError,
    OutOfRangeError,
    TransientDeviceError,
)


def test_gpus_come_in_pci_order_with_distinct_uuids(node: EmulatedNode) -> None:
    gpus = open_gpus()
    assert [gpu.index for gpu in gpus] == [0, 1, 2]
    assert len({gpu.uuid for gpu in gpus}) == 3


def test_a_new_gpu_tells_what_it_can_do(node: EmulatedNode) -> None:
    can = node.open().capabilities
    assert can.name == "NVIDIA H100 80GB HBM3"
    assert can.has_energy_counter
    assert can.has_instant_power
    assert not can.has_module_scope
    assert can.power_limit_range_w == (200, 700)
    assert can.default_power_limit_w == 700
    assert (can.sm_clocks_mhz[0], can.sm_clocks_mhz[-1]) == (210, 1980)
    assert can.max_w > 700


def test_an_old_gpu_hides_what_it_lacks(node: EmulatedNode) -> None:
    gpu = node.open(node.p40)
    assert not gpu.capabilities.has_energy_counter
    assert not gpu.capabilities.has_instant_power
    with pytest.raises(NotSupportedError):
        gpu.energy_j()
    assert not gpu.capabilities.has_clock_limit
    with pytest.raises(NotSupportedError, match="asked for 900 MHz"):
        gpu.set_clock_limit(900)
    assert gpu.sample().power_w == gpu.sample().average_power_w


def test_an_emulated_gpu_says_so(node: EmulatedNode) -> None:
    assert node.open().is_emulated


def test_a_sample_agrees_with_the_truth(node: EmulatedNode) -> None:
    node.work(3.0)
    sample, truth = node.open().sample(), node.truth()
    assert sample.power_w == pytest.approx(truth.power_w, rel=0.02)
    assert sample.sm_clock_mhz == round(truth.clock_mhz)
    assert sample.power_limit_w == 700
    assert sample.temperature_c == pytest.approx(truth.temperature_c, abs=1)
    assert sample.utilisation == 1.0


def test_an_idle_gpu_gives_idleness_as_the_reason(node: EmulatedNode) -> None:
    assert node.open().sample().reasons == {LimitReason.IDLE}


def test_a_busy_gpu_at_its_power_limit_says_so(node: EmulatedNode) -> None:
    gpu = node.open()
    gpu.set_power_limit(300)
    node.work(2.0)
    assert LimitReason.POWER_LIMIT in gpu.sample().reasons


def test_the_counter_is_in_joules(node: EmulatedNode) -> None:
    gpu = node.open()
    before_j, true_before_j = gpu.energy_j(), node.truth().energy_j
    node.work(10.0)
    assert gpu.energy_j() - before_j == pytest.approx(
        node.truth().energy_j - true_before_j, rel=0.02
    )


def test_a_clock_limit_takes_the_next_lower_clock_and_leaves_the_floor_low(
    node: EmulatedNode,
) -> None:
    assert node.open().set_clock_limit(1207) == 1200
    node.wait(0.1)
    assert node.truth().clock_lock_mhz == (210, 1200)


@pytest.mark.parametrize(("asked_mhz", "accepted_mhz"), [(0, 210), (99_999, 1980)])
def test_a_clock_limit_outside_the_table_is_clamped(
    node: EmulatedNode, asked_mhz: int, accepted_mhz: int
) -> None:
    assert node.open().set_clock_limit(asked_mhz) == accepted_mhz


@pytest.mark.parametrize(("asked_w", "accepted_w"), [(50, 200), (350, 350), (9_999, 700)])
def test_a_power_limit_is_clamped_and_read_back(
    node: EmulatedNode, asked_w: float, accepted_w: float
) -> None:
    assert node.open().set_power_limit(asked_w) == accepted_w


def test_probing_for_control_changes_nothing(node: EmulatedNode) -> None:
    gpu = node.open()
    gpu.set_power_limit(300)
    gpu.probe_control()
    assert node.truth().power_limit_w == 300
    node.set_privilege(False)
    with pytest.raises(NoPermissionError):
        gpu.probe_control()


def test_without_privilege_the_meter_still_works(node: EmulatedNode) -> None:
    node.set_privilege(False)
    gpu = node.open()
    assert gpu.energy_j() >= 0
    assert gpu.sample().power_w > 0
    with pytest.raises(NoPermissionError):
        gpu.set_clock_limit(900)


def test_a_lost_gpu_is_left_out_and_the_others_work(node: EmulatedNode) -> None:
    node.emulator.set_alive(node.spare, False)
    assert [gpu.index for gpu in open_gpus()] == [0, 2]


def test_an_absurd_power_reading_is_no_reading(node: EmulatedNode) -> None:
    gpu = node.open()
    node.emulator.spike(node.h100, 4_000_000.0, 1)
    with pytest.raises(TransientDeviceError, match="W"):
        gpu.sample()
    assert gpu.sample().power_w < 1_000


def test_our_numbers_are_those_of_pynvml() -> None:
    meant = {
        pynvml.NVML_ERROR_NOT_SUPPORTED: NotSupportedError,
        pynvml.NVML_ERROR_FUNCTION_NOT_FOUND: NotSupportedError,
        pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH: NotSupportedError,
        pynvml.NVML_ERROR_DEPRECATED: NotSupportedError,
        pynvml.NVML_ERROR_NO_PERMISSION: NoPermissionError,
        pynvml.NVML_ERROR_INVALID_ARGUMENT: OutOfRangeError,
        pynvml.NVML_ERROR_FREQ_NOT_SUPPORTED: OutOfRangeError,
        pynvml.NVML_ERROR_GPU_IS_LOST: DeviceLostError,
        pynvml.NVML_ERROR_RESET_REQUIRED: DeviceLostError,
        pynvml.NVML_ERROR_UNINITIALIZED: BackendUnavailableError,
        pynvml.NVML_ERROR_DRIVER_NOT_LOADED: BackendUnavailableError,
        pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: BackendUnavailableError,
        pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: BackendUnavailableError,
        pynvml.NVML_ERROR_TIMEOUT: TransientDeviceError,
        pynvml.NVML_ERROR_IN_USE: TransientDeviceError,
        pynvml.NVML_ERROR_NOT_READY: TransientDeviceError,
        pynvml.NVML_ERROR_UNKNOWN: TransientDeviceError,
    }
    assert {code: nvml_codes.error_kind(code) for code in meant} == meant
    thermal = pynvml.nvmlClocksEventReasonSwThermalSlowdown
    brake = pynvml.nvmlClocksEventReasonHwPowerBrakeSlowdown
    assert nvml_codes.limit_reasons(thermal | brake) == {
        LimitReason.THERMAL,
        LimitReason.POWER_BRAKE,
    }


def test_without_a_driver_the_backend_is_unavailable() -> None:
    code = (
        "from steppe.device.nvml import open_gpus\n"
        "from steppe.errors import BackendUnavailableError\n"
        "try:\n    print(len(open_gpus()), 'GPUs')\n"
        "except BackendUnavailableError as error:\n    print('unavailable', error)\n"
    )
    clean = {name: value for name, value in os.environ.items() if name != "LD_LIBRARY_PATH"}
    result = subprocess.run(
        [sys.executable, "-c", code], env=clean, capture_output=True, text=True, check=True
    )
    assert result.stdout.startswith("unavailable nvmlInit") or "GPUs" in result.stdout
