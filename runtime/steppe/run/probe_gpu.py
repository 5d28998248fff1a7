"""Probe a GPU for `steppe bench probe`: a real one with kernels, or an emulated one with loads."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from steppe.device.inventory import has_admin_capability
from steppe.device.nvml import NvmlGpu
from steppe.emulator.environment import activate, remove_state
from steppe.emulator.library import Emulator
from steppe.energy.meter import EnergyTotal, choose_gpus
from steppe.errors import ConfigError, InstallError
from steppe.fleet.stale_runs import gpus_file
from steppe.measure.probe.gpu_file import (
    REST_S,
    Board,
    Probed,
    Rates,
    RestDraw,
    measured_rates,
    nominal_rates,
)
from steppe.measure.probe.probe import (
    EMULATED_LOADS,
    EmulatedProbe,
    ProbeLoad,
    ProbeMeter,
    ProbeWindow,
    fit_probes,
    probe_windows,
)
from steppe.measure.probe.probe import SETTLE_S as LOAD_S
from steppe.measure.sweep.gpu_sensors import GpuSensors
from steppe.measure.sweep.grid import spread_clocks
from steppe.measure.sweep.idle import SETTLE_S
from steppe.measure.sweep.point import THROTTLES
from steppe.roofline.files import read_gpu_spec
from steppe.run.gpu_provenance import refuse_shared
from steppe.run.missing_gpus import explaining_missing_gpus

INTENSITIES = (32.0, 512.0)
"""FLOP for each byte of the matmul probes: one is bound by memory, one by the matrix units."""
EMULATED_RATES = (1e12, 1e14, 1e14)
"""Bytes/s, 16-bit and fp8 FLOP/s of an emulated GPU that `configs/gpus` lacks."""
LOWEST_SHARE = 0.4
"""Lowest clock limit to probe, share of the highest."""
UNSEEN = "; NVML does not list the processes on it, so another may have been there"
CONTEXT_BYTES = 1 << 29
"""Memory of a CUDA context, about as much as torch takes, bytes."""


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
class ProbeLoads:
    """Probes on a GPU that holds a context: those of the fit, and those in fp8."""

    half: Sequence[ProbeLoad]
    fp8: Sequence[ProbeLoad]


@dataclass(frozen=True, slots=True)
class ProbeSubject:
    """A GPU that no other process uses.

    Attributes:
        card: The GPU.
        make_loads: Makes a context that stays, and the probes; the argument asks for fp8, too.
        nominal: The rates of an emulated GPU; None where the probes measure them.
        caveat: Why its bare draw may be that of another process; empty when it cannot.
    """

    card: NvmlGpu
    make_loads: Callable[[bool], ProbeLoads]
    nominal: Rates | None
    caveat: str = ""


@contextmanager
def open_subject(index: int, emulated: str | None) -> Generator[ProbeSubject]:
    """Open a GPU that no other process uses.

    Args:
        index: Its NVML index.
        emulated: Profile of a new emulated GPU to open instead.

    Raises:
        UsageError: Another process uses it, or it is not here.
        BackendUnavailableError: This host has no GPU driver.
    """
    if emulated is None:
        with explaining_missing_gpus("--emulated l4 probes an emulated one"):
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
    """Return the nominal rates of an emulated GPU: those of its namesake in `configs`."""
    try:
        gpu = read_gpu_spec(profile)
    except ConfigError:
        return nominal_rates(*EMULATED_RATES, "round numbers")
    return nominal_rates(
        gpu.bandwidth_bps, gpu.half_flops, gpu.fp8_flops, f"configs/gpus/{profile.lower()}.yaml"
    )


def emulated_loads(
    emulator: Emulator, rates: Rates, fp8: bool, sleep: Callable[[float], None] = time.sleep
) -> ProbeLoads:
    """Hold a context on the first GPU of an emulator; return its probes, at nominal rates.

    Shares of time have no precision, so nothing runs in fp8.
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
    return ProbeLoads(probes, ())


def _kernel_probes(fp8: bool) -> ProbeLoads:
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
    return ProbeLoads([KernelProbe(workload) for workload in made], fastest)


def board_of(card: NvmlGpu) -> Board:
    """Return a GPU's data from NVML for its file.

    Raises:
        NotSupportedError: It has no board power limit.
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


@dataclass(frozen=True, slots=True)
class ProbePlan:
    """How to probe.

    Attributes:
        clocks_mhz: Clock limits to set, MHz; empty where they cannot be set.
        window_s: Length of a metered window, s.
    """

    clocks_mhz: tuple[int, ...]
    window_s: float


@dataclass(frozen=True, slots=True)
class ProbeControls:
    """The clock limit of a GPU under probes, its meter, and a way to wait.

    Attributes:
        meter: Meter of the GPU.
        sleep: Waits, s.
        set_clock: Sets the clock limit, MHz.
        on_clock: Called with the number of clocks that are done, and of all, before each clock and
            after the last.
    """

    meter: ProbeMeter
    sleep: Callable[[float], None]
    set_clock: Callable[[int], object]
    on_clock: Callable[[int, int], None] = lambda done, total: None


@dataclass(frozen=True, slots=True)
class GpuProbeMeter:
    """Meter of one GPU of this host while probes run on it.

    Attributes:
        card: The GPU.
        joules: Its energy since the meter began.
    """

    card: NvmlGpu
    joules: EnergyTotal

    def now_s(self) -> float:
        """Return the time, s."""
        return time.monotonic()

    def energy_j(self, at_s: float) -> float:
        """Return the energy until an instant just past, J; waits for the counter to cover it."""
        return self.joules.read_at(at_s).energy_j

    def throttled(self) -> bool:
        """Return whether heat or the board power limit holds the clock down now."""
        return bool(self.card.sample().reasons & THROTTLES)


def probe_clocks(card: NvmlGpu, count: int) -> tuple[int, ...]:
    """Return the clock limits to probe, MHz; none where they cannot be set, one is the highest."""
    clocks = card.capabilities.sm_clocks_mhz if has_admin_capability() else ()
    return clocks[-1:] if count == 1 else spread_clocks(clocks, count, LOWEST_SHARE)


def probe_gpu(subject: ProbeSubject, controls: ProbeControls, plan: ProbePlan) -> Probed:
    """Measure a GPU without work, then without and with each load, at every clock.

    Raises:
        DeviceError: It does not answer, or has no board power limit.
        InfeasibleError: Too few probes ran without being throttled.
    """
    board = board_of(subject.card)
    bare_w = _rest_w(controls)
    loads = subject.make_loads(board.has_fp8)
    controls.sleep(LOAD_S)
    context_w = max(0.0, _rest_w(controls) - bare_w)
    rest = RestDraw(bare_w, context_w, subject.card.sm_clock_mhz(), subject.caveat)
    windows, fp8_windows = _windows(subject.card, loads, controls, plan)
    fit = fit_probes(windows)
    highest_mhz = (board.clocks_mhz or fit.clocks_mhz)[-1]
    rates = subject.nominal or measured_rates(windows, fp8_windows, highest_mhz)
    return Probed(board, rest, rates, fit)


def _windows(
    card: NvmlGpu, loads: ProbeLoads, controls: ProbeControls, plan: ProbePlan
) -> tuple[list[ProbeWindow], list[ProbeWindow]]:
    """Meter the probes of the fit and those in fp8 at every clock."""
    half, fp8 = [], []
    clocks_mhz = plan.clocks_mhz or (0,)
    for done, clock_mhz in enumerate(clocks_mhz):
        controls.on_clock(done, len(clocks_mhz))
        if clock_mhz:
            controls.set_clock(clock_mhz)
            controls.sleep(SETTLE_S)
        at_mhz = clock_mhz or _busy_clock_mhz(card, loads.half[0])
        half += probe_windows(loads.half, at_mhz, controls.meter, plan.window_s)
        fp8 += probe_windows(loads.fp8, at_mhz, controls.meter, plan.window_s)
    controls.on_clock(len(clocks_mhz), len(clocks_mhz))
    return half, fp8


def _rest_w(controls: ProbeControls) -> float:
    begin_s = controls.meter.now_s()
    controls.sleep(REST_S)
    end_s = controls.meter.now_s()
    begin_j, end_j = controls.meter.energy_j(begin_s), controls.meter.energy_j(end_s)
    return (end_j - begin_j) / (end_s - begin_s)


def _busy_clock_mhz(card: NvmlGpu, load: ProbeLoad) -> int:
    """Return the clock of a GPU at work without a limit, MHz; idle, it may be lower."""
    load.run(LOAD_S)
    return card.sm_clock_mhz()
