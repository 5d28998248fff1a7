"""Call everything the emulated library has, with good and bad arguments; run by a test."""

from __future__ import annotations

import contextlib
import ctypes
import math
import random
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pynvml

from steppe.emulator.hardware_faults import FAULTS
from steppe.emulator.library import Emulator
from steppe.errors import DeviceError

DEVICE_GETTERS = """
    Name UUID Serial VbiosVersion Index MinorNumber Brand Architecture NumGpuCores PciInfo
    PersistenceMode ComputeMode DisplayActive DisplayMode NumaNodeId CudaComputeCapability MigMode
    MaxMigDeviceCount EncoderUtilization DecoderUtilization FanSpeed CurrentDriverModel
    PowerManagementMode PowerManagementLimit EnforcedPowerLimit PowerManagementDefaultLimit
    PowerUsage PowerManagementLimitConstraints TotalEnergyConsumption PerformanceState PowerState
    CurrentClocksEventReasons SupportedClocksEventReasons SupportedMemoryClocks UtilizationRates
    MemoryInfo BAR1MemoryInfo ComputeRunningProcesses GraphicsRunningProcesses
    EccMode RemappedRows RetiredPagesPendingStatus SupportedEventTypes
"""


def attempt(call: Any, *arguments: object) -> None:
    """Make a call that may be refused."""
    try:
        call(*arguments)
    except (pynvml.NVMLError, DeviceError):
        return


def query(gpu: Any) -> None:
    for getter in DEVICE_GETTERS.split():
        attempt(getattr(pynvml, f"nvmlDeviceGet{getter}"), gpu)
    fields = [(field, scope) for field in range(70, 200) for scope in range(4)]
    pynvml.nvmlDeviceGetFieldValues(gpu, fields)
    for domain in range(6):
        attempt(pynvml.nvmlDeviceGetClockInfo, gpu, domain)
        attempt(pynvml.nvmlDeviceGetMaxClockInfo, gpu, domain)
        attempt(pynvml.nvmlDeviceGetTemperature, gpu, domain)
        attempt(pynvml.nvmlDeviceGetTemperatureThreshold, gpu, domain)
        attempt(pynvml.nvmlDeviceGetViolationStatus, gpu, domain)
    attempt(pynvml.nvmlDeviceGetMemoryInfo, gpu, pynvml.nvmlMemory_v2)
    for kind in range(3):
        attempt(pynvml.nvmlDeviceGetTotalEccErrors, gpu, kind, kind)
        attempt(pynvml.nvmlDeviceGetMemoryErrorCounter, gpu, kind, kind, 2 * kind + 1)
    watch(gpu)
    attempt(pynvml.nvmlDeviceGetProcessUtilization, gpu, 0)
    attempt(pynvml.nvmlDeviceGetProcessesUtilizationInfo, gpu, 0)
    for mhz in pynvml.nvmlDeviceGetSupportedMemoryClocks(gpu):
        attempt(pynvml.nvmlDeviceGetSupportedGraphicsClocks, gpu, mhz)
    for key in ("", "GPU-none", "00000000:10:00.0", "x" * 500):
        attempt(pynvml.nvmlDeviceGetHandleByPciBusId, key)
        attempt(pynvml.nvmlDeviceGetHandleByUUID, key)


def watch(gpu: Any) -> None:
    """Make event sets until there are no more, and wait with each of them."""
    events = []
    with contextlib.suppress(pynvml.NVMLError):
        while True:
            events.append(pynvml.nvmlEventSetCreate())
    for each in events:
        attempt(pynvml.nvmlDeviceRegisterEvents, gpu, 1 << (len(events) % 6), each)
        attempt(pynvml.nvmlDeviceRegisterEvents, gpu, 8, each)
        attempt(pynvml.nvmlEventSetWait_v2, each, 0)
        attempt(pynvml.nvmlEventSetFree, each)
        attempt(pynvml.nvmlEventSetWait_v2, each, 0)


def control(gpu: Any, rng: random.Random) -> None:
    odd = [0, 1, 134, 209, 210, 1199, 1200, 3000, 0xFFFFFF01, 0xFFFFFFFF]
    for low in odd:
        attempt(pynvml.nvmlDeviceSetGpuLockedClocks, gpu, low, rng.choice(odd))
    for limit_mw in (0, 40_000, 300_000, 0xFFFFFFFF):
        attempt(pynvml.nvmlDeviceSetPowerManagementLimit, gpu, limit_mw)
    attempt(pynvml.nvmlDeviceResetGpuLockedClocks, gpu)
    attempt(pynvml.nvmlDeviceSetMemoryLockedClocks, gpu, 1000, 2000)
    attempt(pynvml.nvmlDeviceSetPersistenceMode, gpu, 1)


def disturb(emulator: Emulator, index: int, rng: random.Random) -> None:
    def load() -> None:
        core, mem, valid_s = rng.uniform(-0.2, 1.2), rng.random(), rng.choice([0, 0.03, 1e30])
        emulator.set_load(index, core=core, mem=mem, valid_s=valid_s)

    attempt(load)
    for pid in (rng.randrange(40), -1, 1 << 40):
        attempt(emulator.set_context, index, pid, rng.choice([0, 1 << 30, 1 << 62]))
    attempt(emulator.clear_context, index, rng.randrange(40))
    attempt(emulator.spike, index, rng.choice([0.0, 1e300]), 2)
    attempt(emulator.freeze, index, rng.random() < 0.3)
    attempt(emulator.reset_counter, index)
    for name in (*FAULTS, "abacus"):
        attempt(emulator.set_fault, index, name, rng.choice([0, 1, 0.5, 79, -1, 1e300, math.nan]))

    def neighbour() -> None:
        emulator.set_neighbour(index, rng.randrange(1, 40), core=rng.uniform(-0.1, 1.1), mem=0.5)

    attempt(neighbour)
    for name in ("idle_w", "power_period_s", "power_window_s", "energy_period_s", "abacus"):
        attempt(emulator.set_constant, index, name, rng.choice([0.07, 1e-12, 1e9, float("nan")]))
    attempt(emulator.inject, rng.choice(["*", "nvmlDeviceGetName", "_v2", "x" * 99]))
    attempt(emulator.tick, rng.choice([0.0, 1e-9, 0.0371, 2.0, float("nan"), -1.0]))
    emulator.clear_faults()


def call_with_nothing(library: Path) -> None:
    """Pass null pointers where results should go, and handles that are none."""
    loaded = ctypes.CDLL(str(library))
    nothing = ctypes.c_void_p(None)
    handle = pynvml.nvmlDeviceGetHandleByIndex(0)
    for getter in DEVICE_GETTERS.split():
        for name in (f"nvmlDeviceGet{getter}", f"nvmlDeviceGet{getter}_v3"):
            if hasattr(loaded, name):
                function = getattr(loaded, name)
                assert function(handle, nothing, nothing, nothing) != 0
                assert function(nothing, nothing, nothing, nothing) != 0
                assert function(ctypes.c_void_p(1), nothing, nothing) != 0


def main(library: Path, state: Path) -> None:
    rng = random.Random(7)
    emulator = Emulator.attach(library, state, "l4x2,v100x1,a100x1,h100x1,h200x1,b200x1,p40x1")
    emulator.use_virtual_clock(True)
    pynvml.nvmlInit()
    for _ in range(5):
        for index in range(emulator.gpu_count):
            gpu = pynvml.nvmlDeviceGetHandleByIndex(index)
            query(gpu)
            control(gpu, rng)
            disturb(emulator, index, rng)
            emulator.snapshot(index)
    for counter_j in (1e300, float("nan"), 1e14):
        shown = {"counter_j": counter_j, "instant_w": 1e300, "average_w": 0.0, "clock_mhz": 900.0}
        attempt(partial(emulator.show, 0, **shown))
    emulator.tick(1.0)
    query(pynvml.nvmlDeviceGetHandleByIndex(0))
    call_with_nothing(library)
    emulator.use_virtual_clock(False)
    query(pynvml.nvmlDeviceGetHandleByIndex(0))
    pynvml.nvmlShutdown()
    sys.stdout.write("all calls made\n")


main(Path(sys.argv[1]), Path(sys.argv[2]))
