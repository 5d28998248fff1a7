from __future__ import annotations

import math
import threading
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fixtures.virtual_gpu import VirtualGpu

from steppe.errors import DeviceError, InfeasibleError
from steppe.measure.probe.probe import (
    EMULATED_LOADS,
    SETTLE_S,
    EmulatedProbe,
    ProbeWindow,
    fit_probes,
    probe_windows,
)

PEAK = (1e12, 1e14)
# The emulated L4: idle, static, core and memory watts, and its voltage (profiles.c).
IDLE_W, STATIC_W, CORE_W, MEM_W, KNEE_MHZ, KNEE_V, MAX_MHZ = 12, 10, 46, 6, 1000, 0.70, 2040


@given(st.floats(1e-12, 1e-10), st.floats(1e-13, 1e-11), st.floats(10, 300))
def test_exact_windows_give_the_true_costs(per_byte: float, per_flop: float, static: float) -> None:
    loads = [(0.0, 0.0), (1e12, 0.0), (1e11, 5e13), (5e11, 2e13)]
    windows = [
        ProbeWindow("x", clock, b, f, static * clock / 1000 + per_byte * b + per_flop * f)
        for clock in (1000, 2000)
        for b, f in loads
    ]
    fit = fit_probes(windows)
    assert fit.joules_per_byte == pytest.approx(per_byte, rel=1e-6)
    assert fit.joules_per_flop == pytest.approx((per_flop, per_flop), rel=1e-6)
    assert fit.static_w == pytest.approx((static, 2 * static), rel=1e-6)
    assert fit.error < 1e-6
    draw_w = static * 1.5 + per_byte * 1e11 + per_flop * 1e12
    assert fit.draw_w(1500, 1e11, 1e12) == pytest.approx(draw_w, rel=1e-6)


@pytest.mark.parametrize("loads", [[], [(0.0, 0.0), (1e12, 0.0)], [(1e12, 1e12)] * 5])
def test_probes_that_do_not_separate_costs_are_refused(
    loads: list[tuple[float, float]],
) -> None:
    windows = [ProbeWindow("x", 1000, b, f, 50.0) for b, f in loads]
    with pytest.raises(InfeasibleError, match="do not separate them"):
        fit_probes(windows)


def probes_of(card: VirtualGpu) -> list[EmulatedProbe]:
    def set_load(core: float, mem: float) -> None:
        card.emulator.set_load(0, core=core, mem=mem, valid_s=math.inf)

    return [
        EmulatedProbe(name, core, mem, PEAK, set_load, lambda: card.emulator.speed(0), card.sleep)
        for name, core, mem in EMULATED_LOADS
    ]


def test_probes_recover_the_emulators_constants_within_three_percent(
    virtual_l4: VirtualGpu,
) -> None:
    windows = []
    for clock_mhz in (1020, 1530, 2040):
        at_mhz = virtual_l4.gpu.set_clock_limit(clock_mhz)
        virtual_l4.sleep(0.5)
        windows += probe_windows(probes_of(virtual_l4), at_mhz, virtual_l4, 4.0)
    fit = fit_probes(windows)
    assert fit.joules_per_byte == pytest.approx(MEM_W / PEAK[0], rel=0.03)
    found = zip(fit.clocks_mhz, fit.joules_per_flop, fit.static_w, strict=True)
    for clock_mhz, per_flop, static_w in found:
        above = max(0.0, (clock_mhz - KNEE_MHZ) / (MAX_MHZ - KNEE_MHZ))
        volt2 = (KNEE_V + (1 - KNEE_V) * above) ** 2
        assert per_flop == pytest.approx(CORE_W * volt2 / PEAK[1], rel=0.03)
        assert static_w == pytest.approx(IDLE_W + STATIC_W * volt2, rel=0.03)


def test_a_window_ends_with_its_load_however_long_the_meter_waits(virtual_l4: VirtualGpu) -> None:
    virtual_l4.sleep(0.5)
    for window in probe_windows(probes_of(virtual_l4), MAX_MHZ, virtual_l4, 0.5):
        name, core, mem = next(load for load in EMULATED_LOADS if load[0] == window.name)
        draw_w = IDLE_W + STATIC_W + core * CORE_W + mem * MEM_W
        assert window.draw_w == pytest.approx(draw_w, rel=0.03), name
        assert virtual_l4.gpu.power_w() < STATIC_W + IDLE_W


class HeldGpu:
    """A GPU that draws 50 W, and whose clock is held down while some kernels run."""

    def __init__(self) -> None:
        self.at_s, self.is_held, self.looked = 0.0, False, threading.Event()

    def now_s(self) -> float:
        return self.at_s

    def energy_j(self, at_s: float) -> float:
        return 50.0 * at_s

    def throttled(self) -> bool:
        is_held = self.is_held
        self.looked.set()
        return is_held


@dataclass
class Kernel:
    """A load that ends by itself; in its window it waits until throttling is checked."""

    name: str
    gpu: HeldGpu
    holds: bool

    def run(self, seconds: float) -> tuple[float, float]:
        self.gpu.is_held = self.holds
        self.gpu.looked.clear()
        assert seconds == SETTLE_S or self.gpu.looked.wait(10)
        self.gpu.at_s += seconds
        self.gpu.is_held = False
        return 1.0, 1.0


def test_a_probe_that_is_throttled_while_it_runs_is_left_out() -> None:
    gpu = HeldGpu()
    loads = [Kernel("spin", gpu, False), Kernel("matmul", gpu, True), Kernel("copy", gpu, False)]
    windows = probe_windows(loads, MAX_MHZ, gpu, 1.0)
    assert [window.name for window in windows] == ["spin", "copy"]
    assert [window.draw_w for window in windows] == [50.0, 50.0]


def test_a_gpu_that_fails_while_a_probe_runs_is_an_error() -> None:
    class Lost(HeldGpu):
        def throttled(self) -> bool:
            self.looked.set()
            raise DeviceError("asked for a reading, found no GPU")

    gpu = Lost()
    with pytest.raises(DeviceError, match="found no GPU"):
        probe_windows([Kernel("spin", gpu, False)], MAX_MHZ, gpu, 1.0)
