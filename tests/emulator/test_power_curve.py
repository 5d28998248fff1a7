"""The emulated GPUs against their formula, their data sheets, and what real ones drew."""

from __future__ import annotations

import importlib.util
import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pynvml
import pytest

from power_curve import FixedLoad, PacedLoad, PowerCurve
from steppe.emulator.library import Emulator

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data" / "calibration"
PROFILES = ("l4", "v100", "a100", "h100", "h200", "b200")
V100 = PowerCurve(135, 1530, 0.12, 33, 48, 21.3, 216.3, 39.3, 1157, 0.71)
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data is absent")


class Bench:
    """One emulated GPU of each profile in virtual time, run until it rests."""

    def __init__(self, library: Path, state: Path) -> None:
        self.emulator = Emulator.attach(library, state, ",".join(f"{p}x1" for p in PROFILES))
        self.emulator.use_virtual_clock(True)

    def settle(self, profile: str, load: Any, clock_mhz: float, limit_w: float) -> float:
        """Return the power that a load comes to rest at, W."""
        index = PROFILES.index(profile)
        gpu = pynvml.nvmlDeviceGetHandleByIndex(index)
        pynvml.nvmlDeviceSetPowerManagementLimit(gpu, round(limit_w * 1e3))
        pynvml.nvmlDeviceSetGpuLockedClocks(gpu, 135, round(clock_mhz))
        for _ in range(12):
            core, mem = load.at(self.emulator.speed(index))
            self.emulator.set_load(index, core=core, mem=mem, valid_s=math.inf)
            self.emulator.tick(5)
        return self.emulator.snapshot(index).power_w

    def measured_w(self, profile: str, cell: Any) -> float:
        """Return the mean power of a measured cell on the emulated GPU, W."""
        index = PROFILES.index(profile)
        idle_w = 0.0
        if cell.busy < 1:
            self.emulator.set_context(index, os.getpid(), 1 << 30)
            idle_w = self.settle(profile, FixedLoad(0.0, 0.0), cell.clock_mhz, cell.limit_w)
        busy_w = self.settle(profile, cell.load, cell.clock_mhz, cell.limit_w)
        return float(cell.busy * busy_w + (1 - cell.busy) * idle_w)


@pytest.fixture
def rig(library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setenv("STEPPE_EMULATED_PRIVILEGE", "1")
    made = Bench(library, tmp_path / "gpus")
    pynvml.nvmlInit()
    yield made
    pynvml.nvmlShutdown()


@pytest.fixture(scope="module")
def fits() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fit_profiles", ROOT / "bench/fit_profiles.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("load", [FixedLoad(1.0, 0.2), FixedLoad(0.4, 1.0), PacedLoad(0.6, 0.4)])
@pytest.mark.parametrize(("clock_mhz", "limit_w"), [(1530, 300), (945, 300), (1380, 150)])
def test_the_curve_is_that_of_the_library(
    rig: Bench, load: Any, clock_mhz: float, limit_w: float
) -> None:
    curve_w, _ = V100.settled(load, clock_mhz, limit_w)
    assert rig.settle("v100", load, clock_mhz, limit_w) == pytest.approx(curve_w, rel=0.005)


@pytest.mark.parametrize("profile", PROFILES)
def test_a_gpu_idles_below_a_fifth_and_works_within_its_limit(rig: Bench, profile: str) -> None:
    gpu = pynvml.nvmlDeviceGetHandleByIndex(PROFILES.index(profile))
    most_w = pynvml.nvmlDeviceGetPowerManagementDefaultLimit(gpu) / 1e3
    most_mhz = pynvml.nvmlDeviceGetMaxClockInfo(gpu, pynvml.NVML_CLOCK_SM)
    assert rig.emulator.snapshot(PROFILES.index(profile)).power_w < 0.2 * most_w
    busy_w = rig.settle(profile, FixedLoad(1.0, 0.5), most_mhz, most_w)
    assert 0.85 * most_w < busy_w <= most_w + 0.1
    assert rig.settle(profile, FixedLoad(0.2, 0.8), most_mhz / 2, most_w) < 0.75 * most_w


def test_a_paced_load_takes_longer_at_a_low_clock() -> None:
    load = PacedLoad(0.6, 0.4)
    assert load.at(1.0) == pytest.approx((0.6, 0.4))
    assert load.at(0.5) == pytest.approx((0.75, 0.25))
    assert load.rate_at(0.5) == pytest.approx(1 / 1.6)


@needs_data
def test_the_v100_draws_what_the_sweep_measured(rig: Bench, fits: ModuleType) -> None:
    errors = errors_of(rig, "v100", fits.v100_cells(DATA))
    assert np.median(errors) < 0.018
    assert errors.max() < 0.045


@needs_data
def test_the_v100_follows_a_step_of_its_power_limit_as_measured(
    rig: Bench, fits: ModuleType
) -> None:
    gpu, index = pynvml.nvmlDeviceGetHandleByIndex(1), PROFILES.index("v100")
    rig.settle("v100", FixedLoad(1.0, 0.2), 1530, 280)
    for limit_w, (begin_s, end_s), allowed_w in (
        (200, (9.973, 10.4), 12.0),
        (280, (20.1, 20.9), 9.0),
    ):
        pynvml.nvmlDeviceSetPowerManagementLimit(gpu, limit_w * 1000)
        at_s, missed = begin_s, []
        for row in fits.read(DATA / "gridpilot_v100/E2_inner_loop__telemetry.csv"):
            if not begin_s < float(row["t_s"]) <= end_s:
                continue
            rig.emulator.tick(float(row["t_s"]) - at_s)
            at_s = float(row["t_s"])
            missed.append(rig.emulator.snapshot(index).power_w - float(row["power_w"]))
        assert math.sqrt(np.mean(np.square(missed))) < allowed_w


@needs_data
@pytest.mark.slow
def test_the_a100_draws_what_the_sweep_of_its_power_limit_measured(
    rig: Bench, fits: ModuleType
) -> None:
    errors = errors_of(rig, "a100", fits.fit_a100(DATA)[1])
    assert np.median(errors) < 0.030
    assert errors.max() < 0.08


@needs_data
@pytest.mark.slow
@pytest.mark.parametrize(
    ("profile", "median", "most"), [("h100", 0.066, 0.20), ("b200", 0.02, 0.09)]
)
def test_power_against_batch_is_as_measured(
    rig: Bench, fits: ModuleType, profile: str, median: float, most: float
) -> None:
    errors = errors_of(rig, profile, fits.batch_cells(DATA, profile))
    assert np.median(errors) < median
    assert errors.max() < most


def errors_of(rig: Bench, profile: str, cells: list[Any]) -> Any:
    return np.array([abs(rig.measured_w(profile, c) / c.measured_w - 1) for c in cells])
