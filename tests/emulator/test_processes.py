"""Several processes, one set of GPUs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pynvml
import pytest
from tests.emulator.conftest import World

CHILD = """
import json, pynvml
pynvml.nvmlInit()
gpu = pynvml.nvmlDeviceGetHandleByIndex(0)
pynvml.nvmlDeviceSetGpuLockedClocks(gpu, 210, 1200)
print(json.dumps({
    "count": pynvml.nvmlDeviceGetCount(),
    "uuid": pynvml.nvmlDeviceGetUUID(gpu),
    "energy_mj": pynvml.nvmlDeviceGetTotalEnergyConsumption(gpu),
    "driver": pynvml.nvmlSystemGetDriverVersion(),
}))
"""

HAMMER = """
import pynvml
pynvml.nvmlInit()
gpu = pynvml.nvmlDeviceGetHandleByIndex(0)
print("up", flush=True)
while True:
    pynvml.nvmlDeviceGetTotalEnergyConsumption(gpu)
    pynvml.nvmlDeviceSetGpuLockedClocks(gpu, 345, 1200)
"""


def environment(world: World) -> dict[str, str]:
    return {
        **os.environ,
        "LD_LIBRARY_PATH": str(world.library.parent),
        "STEPPE_EMULATED_GPUS": world.gpus,
        "STEPPE_EMULATED_STATE": str(world.state),
    }


def test_another_process_sees_and_moves_the_same_gpu(world: World) -> None:
    world.run(10, core=1.0, mem=0.3)
    child = subprocess.run(
        [sys.executable, "-c", CHILD],
        env=environment(world),
        capture_output=True,
        text=True,
        check=True,
    )
    seen = json.loads(child.stdout)
    assert seen["count"] == 4
    assert seen["uuid"] == pynvml.nvmlDeviceGetUUID(world.nvml())
    assert seen["energy_mj"] / 1e3 == world.energy_j()
    assert seen["driver"].endswith(".EMU")
    world.emulator.tick(0.1)
    assert world.truth().clock_lock_mhz == (210, 1200), "a clock lock outlives its process"


def test_processes_killed_inside_calls_block_nobody(world: World) -> None:
    for _ in range(3):
        child = subprocess.Popen(
            [sys.executable, "-c", HAMMER], env=environment(world), stdout=subprocess.PIPE
        )
        assert child.stdout is not None
        child.stdout.readline()
        sets_before = world.truth().clock_sets
        while world.truth().clock_sets < sets_before + 1000:
            pass
        child.kill()
        child.communicate()
        start_s = time.perf_counter()
        assert world.energy_j() >= 0
        assert time.perf_counter() - start_s < 10


@pytest.mark.parametrize(
    ("variable", "value"),
    [("STEPPE_EMULATED_STATE", None), ("STEPPE_EMULATED_GPUS", "h100x1,zebra9x1")],
)
def test_without_state_or_known_gpus_no_driver_is_loaded(
    world: World, variable: str, value: str | None
) -> None:
    variables = environment(world)
    variables["STEPPE_EMULATED_STATE"] += "-new"
    variables.pop(variable)
    if value is not None:
        variables[variable] = value
    child = subprocess.run(
        [sys.executable, "-c", "import pynvml; pynvml.nvmlInit()"],
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "NVMLError_DriverNotLoaded" in child.stderr
