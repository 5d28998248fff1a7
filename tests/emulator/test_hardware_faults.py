"""Faults of the hardware of emulated GPUs, as plain NVML clients see them."""

from __future__ import annotations

from pathlib import Path

import pynvml
import pytest
from tests.emulator.conftest import World

from steppe.emulator.hardware_faults import FAULTS, VARIABLE
from steppe.emulator.library import Emulator
from steppe.errors import BackendUnavailableError, OutOfRangeError

CORRECTED, UNCORRECTED = (
    pynvml.NVML_MEMORY_ERROR_TYPE_CORRECTED,
    pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED,
)
SINCE_LOAD, LIFETIME = pynvml.NVML_VOLATILE_ECC, pynvml.NVML_AGGREGATE_ECC


def test_every_fault_that_is_named_can_be_set(world: World) -> None:
    for name in FAULTS:
        world.emulator.set_fault(world.h100, name, 1)


@pytest.mark.parametrize(
    ("name", "value"),
    [("abacus", 1), ("ecc", -1), ("ecc", 0.5), ("mig", 2), ("counter_scale", -1), ("neighbour", 2)],
)
def test_a_fault_that_makes_no_sense_is_refused(world: World, name: str, value: float) -> None:
    with pytest.raises(OutOfRangeError, match="set_fault"):
        world.emulator.set_fault(world.h100, name, value)


def test_uncorrectable_errors_are_counted_and_wait_for_a_remap(world: World) -> None:
    world.emulator.set_fault(world.h100, "ecc", 3)
    gpu, spare = world.nvml(), world.nvml(world.spare_h100)
    for counter in (SINCE_LOAD, LIFETIME):
        assert pynvml.nvmlDeviceGetTotalEccErrors(gpu, UNCORRECTED, counter) == 3
        assert pynvml.nvmlDeviceGetTotalEccErrors(gpu, CORRECTED, counter) == 0
        assert pynvml.nvmlDeviceGetTotalEccErrors(spare, UNCORRECTED, counter) == 0
    dram = pynvml.NVML_MEMORY_LOCATION_DRAM
    assert pynvml.nvmlDeviceGetMemoryErrorCounter(gpu, UNCORRECTED, SINCE_LOAD, dram) == 3
    assert pynvml.nvmlDeviceGetRemappedRows(gpu) == (0, 1, 1, 0)
    assert pynvml.nvmlDeviceGetRemappedRows(spare) == (0, 0, 0, 0)


def test_a_gpu_without_ecc_has_no_counts(world: World) -> None:
    with pytest.raises(pynvml.NVMLError_NotSupported):
        pynvml.nvmlDeviceGetTotalEccErrors(world.nvml(world.p40), UNCORRECTED, SINCE_LOAD)
    with pytest.raises(OutOfRangeError):
        world.emulator.set_fault(world.p40, "ecc", 1)
    assert pynvml.nvmlDeviceGetEccMode(world.nvml()) == [1, 1]
    world.emulator.set_fault(world.h100, "ecc_off", 1)
    assert pynvml.nvmlDeviceGetEccMode(world.nvml()) == [0, 0]
    with pytest.raises(pynvml.NVMLError_NotSupported):
        pynvml.nvmlDeviceGetTotalEccErrors(world.nvml(), UNCORRECTED, SINCE_LOAD)


def test_an_xid_reaches_every_client_that_watches_its_gpu(world: World) -> None:
    events = [pynvml.nvmlEventSetCreate() for _ in range(3)]
    xids = pynvml.nvmlEventTypeXidCriticalError
    for watching in events[:2]:
        pynvml.nvmlDeviceRegisterEvents(world.nvml(world.h100), xids, watching)
    pynvml.nvmlDeviceRegisterEvents(world.nvml(world.l4), xids, events[2])
    world.emulator.set_fault(world.h100, "xid", 79)
    for watching in events[:2]:
        found = pynvml.nvmlEventSetWait_v2(watching, 0)
        assert (found.eventType, found.eventData) == (xids, 79)
        uuid = pynvml.nvmlDeviceGetUUID(found.device)
        assert uuid == pynvml.nvmlDeviceGetUUID(world.nvml(world.h100))
    for watching in events:
        with pytest.raises(pynvml.NVMLError_Timeout):
            pynvml.nvmlEventSetWait_v2(watching, 1)
        pynvml.nvmlEventSetFree(watching)


def test_an_uncorrectable_error_is_an_xid_as_well(world: World) -> None:
    events = pynvml.nvmlEventSetCreate()
    both = pynvml.nvmlEventTypeXidCriticalError | pynvml.nvmlEventTypeDoubleBitEccError
    pynvml.nvmlDeviceRegisterEvents(world.nvml(), both, events)
    world.emulator.set_fault(world.h100, "ecc", 1)
    first, second = (pynvml.nvmlEventSetWait_v2(events, 0) for _ in range(2))
    assert first.eventType == pynvml.nvmlEventTypeDoubleBitEccError
    assert (second.eventType, second.eventData) == (pynvml.nvmlEventTypeXidCriticalError, 48)
    pynvml.nvmlEventSetFree(events)


def test_a_counter_that_lies_does_so_from_then_on(world: World) -> None:
    world.run(10.0, core=0.5, mem=0.5)
    before_j, true_j = world.energy_j(), world.truth().energy_j
    assert before_j == pytest.approx(true_j, abs=0.01)
    world.emulator.set_fault(world.h100, "counter_scale", 0.6)
    assert world.energy_j() == before_j
    world.emulator.tick(10.0)
    counted_j, drawn_j = world.energy_j() - before_j, world.truth().energy_j - true_j
    assert counted_j == pytest.approx(0.6 * drawn_j, rel=1e-6)
    assert world.instant_w() == pytest.approx(drawn_j / 10.0, rel=0.01)


def test_a_neighbour_draws_power_and_is_in_the_process_list(world: World) -> None:
    world.run(10.0, core=0.2, mem=0.2)
    alone_w = world.truth().power_w
    world.emulator.set_context(world.h100, 4711, 1 << 30)
    world.emulator.set_neighbour(world.h100, 4712, core=0.3, mem=0.3)
    world.emulator.tick(10.0)
    assert world.truth().power_w > alone_w + 30
    listed = pynvml.nvmlDeviceGetComputeRunningProcesses(world.nvml())
    assert {process.pid for process in listed} == {4711, 4712}
    used = pynvml.nvmlDeviceGetProcessUtilization(world.nvml(), 0)
    assert {process.pid: process.smUtil for process in used}[4712] == 30
    assert pynvml.nvmlDeviceGetUtilizationRates(world.nvml()).gpu == 50
    assert world.truth().core_load == 0.2
    world.emulator.clear_context(world.h100, 4712)
    world.emulator.tick(10.0)
    assert world.truth().power_w == pytest.approx(alone_w, rel=0.01)


def test_one_gpu_can_lack_permission(world: World) -> None:
    world.emulator.set_fault(world.h100, "no_permission", 1)
    with pytest.raises(pynvml.NVMLError_NoPermission):
        pynvml.nvmlDeviceSetGpuLockedClocks(world.nvml(), 210, 990)
    with pytest.raises(pynvml.NVMLError_NoPermission):
        pynvml.nvmlDeviceSetPowerManagementLimit(world.nvml(), 500_000)
    pynvml.nvmlDeviceSetGpuLockedClocks(world.nvml(world.spare_h100), 210, 990)


@pytest.mark.parametrize(
    ("reason", "share"),
    [
        (pynvml.nvmlClocksEventReasonHwPowerBrakeSlowdown, 0.5),
        (pynvml.nvmlClocksEventReasonHwThermalSlowdown, 0.5),
        (pynvml.nvmlClocksEventReasonSwThermalSlowdown, 0.7),
    ],
)
def test_a_slowdown_cuts_the_clock_and_is_reported(world: World, reason: int, share: float) -> None:
    world.run(1.0, core=0.3, mem=0.3)
    full_mhz = world.truth().clock_mhz
    world.emulator.set_fault(world.h100, "reasons", reason)
    world.emulator.tick(1.0)
    assert pynvml.nvmlDeviceGetCurrentClocksEventReasons(world.nvml()) & reason
    assert world.truth().clock_mhz == pytest.approx(share * full_mhz)


def test_new_gpus_get_the_faults_of_the_environment(
    library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "1:ecc=2,*:mig=1,0:neighbour=0.5")
    emulator = Emulator.attach(library, tmp_path / "gpus", "h100x2")
    pynvml.nvmlInit()
    first, second = (pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(2))
    assert pynvml.nvmlDeviceGetTotalEccErrors(first, UNCORRECTED, SINCE_LOAD) == 0
    assert pynvml.nvmlDeviceGetTotalEccErrors(second, UNCORRECTED, SINCE_LOAD) == 2
    assert pynvml.nvmlDeviceGetMigMode(first) == [1, 1]
    assert [p.pid for p in pynvml.nvmlDeviceGetComputeRunningProcesses(first)] == [1]
    assert emulator.snapshot(1).contexts == 0
    pynvml.nvmlShutdown()


@pytest.mark.parametrize("spec", ["ecc=2", "2:ecc=2", "0:abacus=1", "0:ecc=many"])
def test_faults_that_cannot_be_read_are_refused(
    library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec: str
) -> None:
    monkeypatch.setenv(VARIABLE, spec)
    with pytest.raises(BackendUnavailableError):
        Emulator.attach(library, tmp_path / "gpus", "h100x2")
