"""Emulated GPUs of one test, in virtual time, seen through plain pynvml."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pynvml
import pytest

from steppe.emulator.build import build_library
from steppe.emulator.library import Emulator, Snapshot

H100, SPARE_H100, P40, L4 = 0, 1, 2, 3
GPUS = "h100x2,p40x1,l4x1"


class World:
    """The GPUs H100, SPARE_H100, P40 and L4, their truth and their NVML handles."""

    h100, spare_h100, p40, l4 = H100, SPARE_H100, P40, L4
    gpus = GPUS

    def __init__(self, library: Path, state: Path) -> None:
        self.library = library
        self.state = state
        self.emulator = Emulator.attach(library, state, GPUS)
        self.emulator.use_virtual_clock(True)

    def nvml(self, index: int = H100) -> Any:
        return pynvml.nvmlDeviceGetHandleByIndex(index)

    def run(self, seconds: float, *, core: float, mem: float, index: int = H100) -> None:
        """Hold a load for some time; it stays on."""
        self.emulator.set_load(index, core=core, mem=mem, valid_s=math.inf)
        self.emulator.tick(seconds)

    def truth(self, index: int = H100) -> Snapshot:
        return self.emulator.snapshot(index)

    def instant_w(self, index: int = H100) -> float:
        field = pynvml.nvmlDeviceGetFieldValues(
            self.nvml(index), [pynvml.NVML_FI_DEV_POWER_INSTANT]
        )[0]
        assert field.nvmlReturn == pynvml.NVML_SUCCESS
        return float(field.value.uiVal) / 1e3

    def usage_w(self, index: int = H100) -> float:
        return float(pynvml.nvmlDeviceGetPowerUsage(self.nvml(index))) / 1e3

    def energy_j(self, index: int = H100) -> float:
        return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(self.nvml(index))) / 1e3

    def lock(self, max_mhz: int, index: int = H100) -> None:
        """Lock the clock and wait until the lock has taken hold."""
        pynvml.nvmlDeviceSetGpuLockedClocks(self.nvml(index), 210, max_mhz)
        self.emulator.tick(0.02)


@pytest.fixture(scope="session")
def library() -> Path:
    return build_library()


@pytest.fixture
def world(library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setenv("STEPPE_EMULATED_PRIVILEGE", "1")
    made = World(library, tmp_path / "gpus")
    pynvml.nvmlInit()
    yield made
    made.emulator.clear_faults()
    pynvml.nvmlShutdown()
