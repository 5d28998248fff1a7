"""Joules per byte, joules per FLOP and static watts of a GPU, from probes at known rates.

At one SM clock a GPU that is kept busy draws

    draw = static(f) + e_byte * bytes/s + e_flop(f) * FLOP/s

Memory has its own clock, so a byte costs the same at every SM clock; the cost of a FLOP depends on
the voltage at that clock. Probes that move bytes only, compute only, both, and neither (a spin)
separate the three terms. Least squares of the relative error, no coefficient below 0. This is the
energy roofline of Choi et al. (IPDPS 2013) with a static draw and an energy per FLOP for each
clock. A probe warms the GPU, which raises leakage a little; that is counted as the probe's draw.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.optimize import nnls

from steppe.errors import InfeasibleError

SETTLE_S = 2.0
WINDOW_S = 5.0
CHECK_S = 0.1
"""Time between two checks for throttling while a probe runs, s."""


@dataclass(frozen=True, slots=True)
class ProbeWindow:
    """One probe at one clock.

    Attributes:
        name: What ran.
        clock_mhz: SM clock, MHz.
        bytes_per_s: Bytes moved, bytes/s.
        flop_per_s: Operations, FLOP/s.
        draw_w: Mean draw, W.
    """

    name: str
    clock_mhz: int
    bytes_per_s: float
    flop_per_s: float
    draw_w: float


@dataclass(frozen=True, slots=True)
class ProbeFit:
    """Energy cost of a GPU's work.

    Attributes:
        joules_per_byte: J for a byte between memory and chip.
        clocks_mhz: Probed SM clocks, rising, MHz.
        joules_per_flop: J for a FLOP at each of them.
        static_w: Draw of a busy GPU that moves and computes nothing, at each of them, W.
        error: Largest relative error of the draw over the windows.
    """

    joules_per_byte: float
    clocks_mhz: tuple[int, ...]
    joules_per_flop: tuple[float, ...]
    static_w: tuple[float, ...]
    error: float

    def draw_w(self, clock_mhz: float, bytes_per_s: float, flop_per_s: float) -> float:
        """Return the draw at any clock within the probed ones, W."""
        static_w = float(np.interp(clock_mhz, self.clocks_mhz, self.static_w))
        per_flop = float(np.interp(clock_mhz, self.clocks_mhz, self.joules_per_flop))
        return static_w + self.joules_per_byte * bytes_per_s + per_flop * flop_per_s


class ProbeLoad(Protocol):
    """A load that uses one resource at a known rate."""

    @property
    def name(self) -> str:
        """Name of the load."""
        ...

    def run(self, seconds: float) -> tuple[float, float]:
        """Run for so long; return the bytes/s and FLOP/s that were reached."""
        ...


class ProbeMeter(Protocol):
    """Readings of a GPU while probes run on it."""

    def now_s(self) -> float:
        """Return the time, s."""
        ...

    def energy_j(self, at_s: float) -> float:
        """Return the energy until an instant just past, J; may wait until it is known.

        Instants must not decrease from call to call.
        """
        ...

    def throttled(self) -> bool:
        """Return whether heat or the board power limit holds the clock down now."""
        ...


def probe_windows(
    loads: Sequence[ProbeLoad], clock_mhz: int, meter: ProbeMeter, window_s: float = WINDOW_S
) -> list[ProbeWindow]:
    """Run every probe at the present clock and meter it; leave out those that throttle the GPU.

    Args:
        loads: The probes.
        clock_mhz: The SM clock that was set, MHz.
        meter: Meter of the GPU.
        window_s: Length of a metered window, s.

    Raises:
        DeviceError: The GPU does not answer.
    """
    windows = []
    for load in loads:
        load.run(SETTLE_S)
        with _watching_throttles(meter) as throttled:
            begin_s = meter.now_s()
            bytes_per_s, flop_per_s = load.run(window_s)
            end_s = meter.now_s()
        # Read both ends after the load: the GPU would rest while the meter waits.
        begin_j, end_j = meter.energy_j(begin_s), meter.energy_j(end_s)
        if not throttled.result():
            draw_w = (end_j - begin_j) / (end_s - begin_s)
            windows.append(ProbeWindow(load.name, clock_mhz, bytes_per_s, flop_per_s, draw_w))
    return windows


@contextmanager
def _watching_throttles(meter: ProbeMeter) -> Generator[Future[bool]]:
    """Check the GPU inside a block; the result is whether its clock was held down."""
    is_over = threading.Event()

    def check() -> bool:
        is_throttled = False
        while not is_over.wait(CHECK_S):
            is_throttled = meter.throttled() or is_throttled
        return is_throttled

    with ThreadPoolExecutor(1) as pool:
        throttled = pool.submit(check)
        try:
            yield throttled
        finally:
            is_over.set()


def fit_probes(windows: Sequence[ProbeWindow]) -> ProbeFit:
    """Fit the energy roofline.

    Raises:
        InfeasibleError: At some clock fewer than three probes ran, or their rates do not
            separate bytes, FLOP and static draw.
    """
    clocks = sorted({window.clock_mhz for window in windows})
    terms = np.zeros((len(windows), 1 + 2 * len(clocks)))
    draws = np.array([window.draw_w for window in windows])
    scale_b = max((window.bytes_per_s for window in windows), default=0.0) or 1.0
    scale_f = max((window.flop_per_s for window in windows), default=0.0) or 1.0
    for row, window in enumerate(windows):
        at = clocks.index(window.clock_mhz)
        terms[row, 0] = window.bytes_per_s / scale_b
        terms[row, 1 + at] = window.flop_per_s / scale_f
        terms[row, 1 + len(clocks) + at] = 1.0
    if not len(windows) or np.linalg.matrix_rank(terms) < terms.shape[1]:
        raise InfeasibleError(
            f"asked for joules per byte and per FLOP at {len(clocks)} clocks, "
            f"found {len(windows)} probes that do not separate them"
        )
    weighted = terms / draws[:, None]
    solution, _ = nnls(weighted, np.ones(len(windows)))
    count = len(clocks)
    return ProbeFit(
        joules_per_byte=float(solution[0]) / scale_b,
        clocks_mhz=tuple(clocks),
        joules_per_flop=tuple((solution[1 : 1 + count] / scale_f).tolist()),
        static_w=tuple(solution[1 + count :].tolist()),
        error=float(np.max(np.abs(weighted @ solution - 1))),
    )


@dataclass(frozen=True, slots=True)
class EmulatedProbe:
    """A load of an emulated GPU, which is set, not run: shares of compute and memory time.

    Attributes:
        name: The kernel that it stands for.
        core: Share of compute time in use, 0 to 1.
        mem: Share of memory-bandwidth time in use, 0 to 1.
        peak: Bytes/s and FLOP/s of the emulated GPU at its highest clock.
        set_load: Sets core and memory shares.
        speed: Returns the clock relative to the highest.
        sleep: Waits, s.
    """

    name: str
    core: float
    mem: float
    peak: tuple[float, float]
    set_load: Callable[[float, float], None]
    speed: Callable[[], float]
    sleep: Callable[[float], None] = time.sleep

    def run(self, seconds: float) -> tuple[float, float]:
        """Hold the load for so long, and return its rates; compute scales with the clock."""
        self.set_load(self.core, self.mem)
        self.sleep(seconds)
        rates = self.mem * self.peak[0], self.core * self.speed() * self.peak[1]
        self.set_load(0.0, 0.0)
        return rates


SPIN = 1e-6
"""Share of the core that an emulated spin uses: busy, but almost without a rate."""
EMULATED_LOADS = (
    ("spin", SPIN, 0.0),
    ("stream copy", SPIN, 1.0),
    ("stream copy, half", SPIN, 0.5),
    ("matmul", 0.6, 0.1),
    ("matmul, half", 0.3, 0.05),
    ("paged decode", 0.15, 0.85),
)
"""Name, core and memory share of the probes of an emulated GPU."""
