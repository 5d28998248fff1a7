"""What `steppe bench probe` runs on: a real GPU with kernels, or an emulated one with shares."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from steppe.device.nvml import NvmlGpu
from steppe.emulator.environment import activate, remove_state
from steppe.emulator.library import Emulator
from steppe.energy.meter import choose_gpus
from steppe.errors import ConfigError, InstallError
from steppe.fleet.stale_runs import gpus_file
from steppe.measure.probe.gpu_file import Board, Rates, nominal_rates
from steppe.measure.probe.probe import EMULATED_LOADS, EmulatedProbe, ProbeLoad
from steppe.measure.sweep.gpu_sensors import GpuSensors
from steppe.roofline.files import read_gpu_spec
from steppe.run.gpu_provenance import refuse_shared
from steppe.run.need_gpus import needing_gpus

INTENSITIES = (32.0, 512.0)
"""FLOP for each byte of the matmul probes: one is bound by memory, one by the matrix units."""
EMULATED_RATES = (1e12, 1e14, 1e14)
"""Bytes/s, 16-bit and fp8 FLOP/s of an emulated GPU that `configs/gpus` does not know."""
UNSEEN = "; NVML does not tell whether somebody else was on it"
CONTEXT_BYTES = 1 << 29
"""Memory of a CUDA context: about what torch takes for one, bytes."""


@dataclass(frozen=True, slots=True)
class KernelProbe:
    """A probe kernel on a real GPU, see `steppe_kernels.probe`."""

    workload: Any

    @property
    def name(self) -> str:
        """Kernel and shape."""
        return str(self.workload.name)

    def run(self, seconds: float) -> tuple[float, float]:
        """Launch it again and again; return the bytes/s and FLOP/s that were reached."""
        from steppe_kernels.probe import probe

        achieved = probe(self.workload, seconds)
        return achieved.bytes_per_s, achieved.flop_per_s


@dataclass(frozen=True, slots=True)
class Loads:
    """What runs on a GPU that holds a context: the probes of the fit, and those in fp8."""

    half: Sequence[ProbeLoad]
    fp8: Sequence[ProbeLoad]


@dataclass(frozen=True, slots=True)
class ProbeSubject:
    """A GPU that nobody uses.

    Attributes:
        card: The GPU.
        make_loads: Makes a context that stays, and the probes, those in fp8 if told so.
        nominal: The rates of an emulated GPU; None where the probes measure them.
        caveat: Why its bare draw may be somebody's, for people; empty when it cannot.
    """

    card: NvmlGpu
    make_loads: Callable[[bool], Loads]
    nominal: Rates | None
    caveat: str = ""


@contextmanager
def opened(index: int, emulated: str | None) -> Generator[ProbeSubject]:
    """Open a GPU that nobody uses."""
    if emulated is None:
        with needing_gpus("--emulated l4 probes an emulated one"):
            card = choose_gpus([index])[0]
        refuse_shared([card])
        unseen = GpuSensors([card]).most_processes() is None
        yield ProbeSubject(card, _kernel_probes, None, UNSEEN if unseen else "")
        return
    state = gpus_file(os.getpid())
    emulator = activate(emulated, 1, state)
    try:
        rates = emulated_rates(emulated)
        yield ProbeSubject(choose_gpus([0])[0], partial(emulated_loads, emulator, rates), rates)
    finally:
        remove_state(state)


def emulated_rates(profile: str) -> Rates:
    """Return the rates that an emulated GPU is said to have: those of its namesake in `configs`."""
    try:
        gpu = read_gpu_spec(profile)
    except ConfigError:
        return nominal_rates(*EMULATED_RATES, "round numbers")
    return nominal_rates(
        gpu.bandwidth_bps, gpu.half_flops, gpu.fp8_flops, f"configs/gpus/{profile.lower()}.yaml"
    )


def emulated_loads(
    emulator: Emulator, rates: Rates, fp8: bool, sleep: Callable[[float], None] = time.sleep
) -> Loads:
    """Hold a context on the first GPU of an emulator; return its probes, at nominal rates.

    Its shares of time know no precision: nothing runs in fp8, asked or not.
    """
    emulator.set_context(0, os.getpid(), CONTEXT_BYTES)
    peak = rates.bandwidth_bps.value, rates.half_flops.value

    def set_load(core: float, mem: float) -> None:
        emulator.set_load(0, core=core, mem=mem, valid_s=math.inf)

    def speed() -> float:
        return emulator.speed(0)

    probes = [
        EmulatedProbe(name, core, mem, peak, set_load, speed, sleep)
        for name, core, mem in EMULATED_LOADS
    ]
    return Loads(probes, ())


def _kernel_probes(fp8: bool) -> Loads:
    try:
        from steppe_kernels.matmul import fp8_workload, matmul_workload
        from steppe_kernels.paged_decode import decode_workload
        from steppe_kernels.spin import spin_workload
        from steppe_kernels.stream_copy import copy_workload
    except ImportError as error:
        raise InstallError(f"probe kernels need torch and triton, found: {error}") from error
    matmuls = [matmul_workload(flop_per_byte) for flop_per_byte in INTENSITIES]
    made = (spin_workload(), copy_workload(), *matmuls, decode_workload())
    fastest = [KernelProbe(fp8_workload(INTENSITIES[-1]))] if fp8 else []
    return Loads([KernelProbe(workload) for workload in made], fastest)


def board_of(card: NvmlGpu) -> Board:
    """Return what NVML tells of a GPU for its file.

    Raises:
        NotSupportedError: It tells of no board power limit.
    """
    can, (memory_bytes, architecture) = card.capabilities, card.board()
    enforced_w = card.enforced_power_limit_w()
    return Board(
        card=can.name,
        energy_source="emulated" if can.is_emulated else "measured",
        memory_bytes=memory_bytes,
        architecture=architecture,
        power_limit_w=can.default_power_limit_w or enforced_w,
        enforced_w=enforced_w,
        clocks_mhz=can.sm_clocks_mhz,
    )
