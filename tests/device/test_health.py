"""The state of GPUs: memory errors, Xids, persistence, slow-downs, on emulated GPUs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pynvml
import pytest

from steppe.device.gpu import LimitReason
from steppe.device.health import GpuHealth, RemappedRows, XidEvent
from steppe.device.nvml import NvmlGpu, open_gpus
from steppe.device.nvml_health import XidEvents, read_health
from steppe.emulator.build import build_library
from steppe.emulator.library import Emulator

H100, V100, P40 = range(3)


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[Emulator]:
    made = Emulator.attach(build_library(), tmp_path / "gpus", "h100x1,v100x1,p40x1")
    made.use_virtual_clock(True)
    yield made
    pynvml.nvmlShutdown()


@pytest.fixture
def gpus(emulator: Emulator) -> tuple[NvmlGpu, ...]:
    return open_gpus()


def test_a_new_gpu_has_no_memory_faults(gpus: tuple[NvmlGpu, ...]) -> None:
    assert read_health(gpus[H100]) == GpuHealth(
        uuid=gpus[H100].uuid,
        ecc_is_on=True,
        corrected_errors=0,
        uncorrected_errors=0,
        lifetime_uncorrected_errors=0,
        remapped_rows=RemappedRows(0, 0, is_pending=False, has_failed=False),
        retirement_is_pending=None,
        persistence=True,
        reasons=frozenset({LimitReason.IDLE}),
    )
    assert read_health(gpus[H100]).memory_faults == ()


def test_what_a_gpu_does_not_say_is_none(gpus: tuple[NvmlGpu, ...]) -> None:
    health = read_health(gpus[P40])
    assert health.ecc_is_on is None
    assert health.uncorrected_errors is None
    assert health.remapped_rows is None
    assert health.memory_faults == ()


def test_uncorrectable_errors_are_memory_faults(
    gpus: tuple[NvmlGpu, ...], emulator: Emulator
) -> None:
    for index in (H100, V100):
        emulator.set_fault(index, "ecc", 2)
        assert read_health(gpus[index]).memory_faults == (
            "2 uncorrectable memory errors since the driver was loaded",
            "a memory row is remapped at the next reset: reset the GPU",
        )
    emulator.set_fault(H100, "remap_failed", 1)
    assert "replaced" in " ".join(read_health(gpus[H100]).memory_faults)


def test_corrected_errors_are_no_fault(gpus: tuple[NvmlGpu, ...], emulator: Emulator) -> None:
    emulator.set_fault(H100, "ecc_corrected", 5)
    health = read_health(gpus[H100])
    assert (health.corrected_errors, health.memory_faults) == (5, ())


def test_slowdowns_and_persistence_are_read(gpus: tuple[NvmlGpu, ...], emulator: Emulator) -> None:
    emulator.set_fault(H100, "reasons", pynvml.nvmlClocksEventReasonHwPowerBrakeSlowdown)
    emulator.set_fault(H100, "no_persistence", 1)
    emulator.tick(0.1)
    health = read_health(gpus[H100])
    assert health.slowdowns == {LimitReason.POWER_BRAKE}
    assert health.persistence is False


def test_an_xid_is_read_with_its_gpu_and_meaning(
    gpus: tuple[NvmlGpu, ...], emulator: Emulator
) -> None:
    with XidEvents(gpus, clock=lambda: 7.0) as events:
        assert events.watched == {gpu.uuid for gpu in gpus}
        assert events.wait(0.0) is None
        emulator.set_fault(V100, "xid", 79)
        emulator.set_fault(H100, "xid", 31)
        found = [events.wait(0.0), events.wait(0.0), events.wait(0.0)]
    lost, fault = XidEvent(gpus[V100].uuid, 79, 7.0), XidEvent(gpus[H100].uuid, 31, 7.0)
    assert found == [lost, fault, None]
    assert (lost.meaning, lost.needs_reset) == ("the GPU has fallen off the bus", True)
    assert not fault.needs_reset


def test_a_gpu_that_is_lost_is_not_watched(gpus: tuple[NvmlGpu, ...], emulator: Emulator) -> None:
    emulator.set_alive(H100, False)
    with XidEvents(gpus) as events:
        assert events.watched == {gpus[V100].uuid, gpus[P40].uuid}
