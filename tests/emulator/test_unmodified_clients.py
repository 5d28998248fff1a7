"""Unmodified pynvml, nvitop and codecarbon, in an environment of their own, beside Steppe.

The environment is made once, in the user's cache; that needs a package index. Time is virtual,
so that everybody reads at the same instant. codecarbon looks for a GPU only where a program
called nvidia-smi runs, whatever it says; the emulator has none, so an empty one is on its path.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.emulator.conftest import World

from steppe.device.nvml import open_gpus

PACKAGES = ("nvidia-ml-py==13.615.71", "nvitop==1.7.2", "codecarbon==3.3.2")
INSTALL_S = 50.0

PYNVML = """
import json, pynvml
pynvml.nvmlInit()
def look(i):
    gpu = pynvml.nvmlDeviceGetHandleByIndex(i)
    try:
        energy_j = pynvml.nvmlDeviceGetTotalEnergyConsumption(gpu) / 1e3
    except pynvml.NVMLError_NotSupported:
        energy_j = None
    return [pynvml.nvmlDeviceGetUUID(gpu), pynvml.nvmlDeviceGetName(gpu),
            pynvml.nvmlDeviceGetClockInfo(gpu, pynvml.NVML_CLOCK_SM), energy_j]
print(json.dumps([look(i) for i in range(pynvml.nvmlDeviceGetCount())]))
"""
NVITOP = """
import json
from nvitop import Device
print(json.dumps([
    [gpu.uuid(), gpu.name(), gpu.clock_infos().sm, gpu.power_usage() / 1e3,
     gpu.gpu_utilization(), gpu.power_limit() / 1e3]
    for gpu in Device.all()
]))
"""
# Says when it has begun, and ends when it is told that time has passed; codecarbon takes no
# measurement within 50 ms of the last one.
CODECARBON = """
import json, sys, time
from codecarbon import OfflineEmissionsTracker
tracker = OfflineEmissionsTracker(
    country_iso_code="FRA", measure_power_secs=3600, save_to_file=False, log_level="critical",
    allow_multiple_runs=True)
tracker.start()
print("begun", flush=True)
sys.stdin.readline()
time.sleep(0.1)
tracker.stop()
data = tracker.final_emissions_data
print(json.dumps([data.gpu_count, data.gpu_model, data.gpu_energy * 3.6e6]))
"""


@pytest.fixture(scope="session")
def client_python() -> Path:
    """Return the Python of the clients' environment, made if it is not in the cache yet."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    tag = "-".join(package.replace("==", "-") for package in PACKAGES)
    folder = cache / "steppe" / "nvml-clients" / f"py{sys.version_info.minor}-{tag}"
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        _install(folder, python)
        (folder / "complete").touch()
    return python


def _install(folder: Path, python: Path) -> None:
    uv = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    if uv:
        steps = [
            [uv, "venv", "-q", "--python", sys.executable, str(folder)],
            [uv, "pip", "install", "-q", "--python", str(python), *PACKAGES],
        ]
    else:
        steps = [
            [sys.executable, "-m", "venv", str(folder)],
            [str(python), "-m", "pip", "install", "-q", *PACKAGES],
        ]
    for step in steps:
        try:
            subprocess.run(step, capture_output=True, text=True, check=True, timeout=INSTALL_S)
        except subprocess.CalledProcessError as error:
            last = error.stderr.strip().splitlines()[-1:] or ["no message"]
            pytest.skip(f"cannot install {', '.join(PACKAGES)}: {last[0]}")
        except subprocess.TimeoutExpired:
            pytest.skip(f"cannot install {', '.join(PACKAGES)} within {INSTALL_S:.0f} s")


@pytest.fixture
def clients(
    world: World, client_python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """Put a load on the emulated GPUs, and let children see them."""
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for name, value in (
        ("PATH", f"{tmp_path}:{os.environ['PATH']}"),
        ("LD_LIBRARY_PATH", str(world.library.parent)),
        ("STEPPE_EMULATED_STATE", str(world.state)),
        ("PYTHONNOUSERSITE", "1"),
    ):
        monkeypatch.setenv(name, value)
    world.lock(1200)
    world.emulator.set_load(world.h100, core=0.8, mem=0.4, valid_s=math.inf)
    world.emulator.tick(3.35)
    return client_python


def run(python: Path, *arguments: str) -> str:
    command = [str(python), *arguments]
    child = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert child.returncode == 0, child.stderr
    return child.stdout


@contextmanager
def begun(python: Path, code: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [str(python), "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "begun\n"
        yield child


@pytest.mark.slow
def test_pynvml_sees_the_gpus_clocks_and_joules_that_steppe_sees(clients: Path) -> None:
    ours = [
        [
            gpu.uuid,
            gpu.capabilities.name,
            gpu.sm_clock_mhz(),
            gpu.energy_j() if gpu.capabilities.has_energy_counter else None,
        ]
        for gpu in open_gpus()
    ]
    theirs = json.loads(run(clients, "-c", PYNVML))
    assert [row[:3] for row in theirs] == [row[:3] for row in ours]
    assert [row[3] for row in theirs] == pytest.approx([row[3] for row in ours], abs=1e-6)
    assert theirs[0][2] == 1200
    assert theirs[0][3] > 500


@pytest.mark.slow
def test_nvitop_sees_the_gpus_clocks_and_watts_that_steppe_sees(clients: Path) -> None:
    ours = []
    for gpu in open_gpus():
        sample = gpu.sample()
        use = round(100 * (sample.utilisation or 0))
        watts = [pytest.approx(sample.average_power_w, abs=1e-3), use, sample.power_limit_w]
        ours.append([gpu.uuid, gpu.capabilities.name, sample.sm_clock_mhz, *watts])
    assert json.loads(run(clients, "-c", NVITOP)) == ours
    table = run(clients, "-m", "nvitop", "-1")
    assert table.count("H100") >= 2
    assert "L4" in table


@pytest.mark.slow
def test_codecarbon_charges_the_joules_that_steppe_meters(world: World, clients: Path) -> None:
    gpus = [gpu for gpu in open_gpus() if gpu.capabilities.has_energy_counter]
    with begun(clients, CODECARBON) as child:
        before_j = [gpu.energy_j() for gpu in gpus]
        world.emulator.tick(60.0)
        ours_j = sum(gpu.energy_j() for gpu in gpus) - sum(before_j)
        answer, _ = child.communicate("go on\n", timeout=30)
    count, model, theirs_j = json.loads(answer.splitlines()[-1])
    assert count == len(open_gpus())
    assert "NVIDIA H100 80GB HBM3" in model
    assert theirs_j == pytest.approx(ours_j, rel=1e-3)
