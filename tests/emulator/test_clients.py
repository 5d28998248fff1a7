"""What clients of NVML need from the library."""

from __future__ import annotations

import ctypes
import re
import subprocess
import sys
from pathlib import Path

import pynvml
import pytest
from tests.emulator.conftest import World

RAY_CALLS = """
    Init InitWithFlags Shutdown DeviceGetCount DeviceGetHandleByIndex DeviceGetHandleByUUID
    DeviceGetName DeviceGetUUID DeviceGetMigMode DeviceGetMaxMigDeviceCount DeviceGetMemoryInfo
    DeviceGetMigDeviceHandleByIndex DeviceGetUtilizationRates DeviceGetPowerUsage
    DeviceGetComputeRunningProcesses DeviceGetGraphicsRunningProcesses DeviceGetTemperature
    DeviceGetProcessesUtilizationInfo DeviceGetCudaComputeCapability DeviceGetPciInfo
"""
ZEUS_CALLS = """
    DeviceGetArchitecture DeviceGetC2cModeInfoV DeviceGetFieldValues DeviceGetTemperatureV
    DeviceGetTotalEnergyConsumption DeviceSetGpuLockedClocks DeviceResetGpuLockedClocks
    DeviceGetPowerManagementLimit DeviceGetPowerManagementDefaultLimit
    DeviceGetPowerManagementLimitConstraints DeviceSetPowerManagementLimit
    DeviceSetPersistenceMode DeviceSetMemoryLockedClocks DeviceResetMemoryLockedClocks
    DeviceGetSupportedMemoryClocks DeviceGetSupportedGraphicsClocks DeviceGetClockInfo
"""
NVITOP_CALLS = """
    DeviceIsMigDeviceHandle SystemGetDriverVersion SystemGetCudaDriverVersion DeviceGetFanSpeed
    DeviceGetEncoderUtilization DeviceGetDecoderUtilization DeviceGetDisplayActive
    DeviceGetCurrentDriverModel DeviceGetPersistenceMode DeviceGetPerformanceState
    DeviceGetTotalEccErrors DeviceGetComputeMode DeviceGetMaxClockInfo DeviceGetIndex
    DeviceGetProcessUtilization DeviceGetSerial DeviceGetHandleByPciBusId
"""
CODECARBON_CALLS = "DeviceGetEnforcedPowerLimit DeviceGetDisplayMode DeviceGetBAR1MemoryInfo"
OUR_CALLS = """
    DeviceGetCurrentClocksEventReasons DeviceGetSupportedClocksEventReasons DeviceGetNumGpuCores
    DeviceGetViolationStatus DeviceGetTemperatureThreshold DeviceGetP2PStatus SystemGetNVMLVersion
    DeviceGetTopologyCommonAncestor DeviceGetPcieThroughput DeviceGetCpuAffinity
"""
CALLS = " ".join((RAY_CALLS, ZEUS_CALLS, NVITOP_CALLS, CODECARBON_CALLS, OUR_CALLS)).split()


@pytest.mark.parametrize("call", CALLS)
def test_every_symbol_that_a_client_calls_is_there(library: Path, call: str) -> None:
    loaded = ctypes.CDLL(str(library))
    versions = (f"nvml{call}", f"nvml{call}_v2", f"nvml{call}_v3")
    assert any(hasattr(loaded, name) for name in versions)


def test_only_nvml_and_control_functions_are_exported(library: Path) -> None:
    names = subprocess.run(
        ["nm", "-D", "--defined-only", str(library)], capture_output=True, text=True, check=True
    ).stdout.split()[2::3]
    assert len(names) > 90
    assert [name for name in names if not re.match("nvml|nvemu_", name)] == []


def simple_getters() -> list[str]:
    """Return pynvml's functions that take only a handle and that the library has."""
    return [
        *("Name", "UUID", "Serial", "VbiosVersion", "Index", "MinorNumber", "Brand", "PciInfo"),
        *("Architecture", "NumGpuCores", "PersistenceMode", "ComputeMode", "DisplayActive"),
        *("DisplayMode", "NumaNodeId", "CudaComputeCapability", "MigMode", "MaxMigDeviceCount"),
        *("EncoderUtilization", "DecoderUtilization", "PowerManagementMode", "PowerUsage"),
        *("PowerManagementLimit", "EnforcedPowerLimit", "PowerManagementDefaultLimit"),
        *("PowerManagementLimitConstraints", "TotalEnergyConsumption", "PerformanceState"),
        *("CurrentClocksEventReasons", "SupportedClocksEventReasons", "PowerState"),
        *("SupportedMemoryClocks", "UtilizationRates", "MemoryInfo", "BAR1MemoryInfo"),
        *("ComputeRunningProcesses", "GraphicsRunningProcesses"),
    ]


@pytest.mark.parametrize("getter", simple_getters())
def test_every_getter_answers_through_pynvml(world: World, getter: str) -> None:
    world.emulator.set_context(world.h100, 77, 1 << 30)
    assert getattr(pynvml, f"nvmlDeviceGet{getter}")(world.nvml()) is not None


def test_gpus_are_found_by_uuid_bus_and_serial(world: World) -> None:
    gpu = world.nvml(world.l4)
    bus = pynvml.nvmlDeviceGetPciInfo(gpu).busId
    for find, key in (
        (pynvml.nvmlDeviceGetHandleByUUID, pynvml.nvmlDeviceGetUUID(gpu)),
        (pynvml.nvmlDeviceGetHandleByPciBusId, bus),
        (pynvml.nvmlDeviceGetHandleByPciBusId, bus[4:]),
        (pynvml.nvmlDeviceGetHandleBySerial, pynvml.nvmlDeviceGetSerial(gpu)),
    ):
        assert pynvml.nvmlDeviceGetIndex(find(key)) == world.l4
    with pytest.raises(pynvml.NVMLError_NotFound):
        pynvml.nvmlDeviceGetHandleByUUID("GPU-none")


def test_process_utilisation_shares_out_the_load(world: World) -> None:
    for pid in (21, 22):
        world.emulator.set_context(world.h100, pid, 1 << 30)
    world.run(1, core=0.8, mem=0.4)
    samples = pynvml.nvmlDeviceGetProcessesUtilizationInfo(world.nvml(), 0)
    assert [(s.pid, s.smUtil, s.memUtil) for s in samples] == [(21, 40, 20), (22, 40, 20)]
    older = pynvml.nvmlDeviceGetProcessUtilization(world.nvml(), 0)
    assert [(s.pid, s.smUtil, s.memUtil) for s in older] == [(21, 40, 20), (22, 40, 20)]


def test_a_struct_of_another_version_is_refused(world: World) -> None:
    reading = pynvml.c_nvmlTemperature_v1_t()
    reading.version = 0x02000000
    call = ctypes.CDLL(str(world.library)).nvmlDeviceGetTemperatureV
    assert call(world.nvml(), ctypes.byref(reading)) == 25


RAY = """
from ray._private.accelerators.nvidia_gpu import NvidiaGPUAcceleratorManager as Gpus
print(Gpus.get_current_node_num_accelerators(), Gpus.get_current_node_accelerator_type())
"""


def test_the_nvml_copy_inside_ray_sees_the_same_gpus(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", str(world.library.parent))
    monkeypatch.setenv("STEPPE_EMULATED_STATE", str(world.state))
    child = subprocess.run([sys.executable, "-c", RAY], capture_output=True, text=True, check=True)
    assert child.stdout.split() == ["4", "H100"]
