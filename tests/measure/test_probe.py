from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pynvml
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steppe.device.emulator.build import build_library
from steppe.device.emulator.library import Emulator
from steppe.device.nvml import NvmlGpu, open_gpus
from steppe.energy.counter import CounterHistory
from steppe.errors import InfeasibleError
from steppe.measure.probe import (
    EMULATED_LOADS,
    EmulatedProbe,
    ProbeWindow,
    fit_probes,
    probe_windows,
)

PEAK = (1e12, 1e14)
# The emulated L4: idle, static, core and memory watts, and its voltage (profiles.c).
IDLE_W, STATIC_W, CORE_W, MEM_W, KNEE_MHZ, KNEE_V, MAX_MHZ = 12, 10, 46, 6, 1000, 0.70, 2040


@given(st.floats(1e-12, 1e-10), st.floats(1e-13, 1e-11), st.floats(10, 300))
def test_exact_windows_give_the_costs_back(per_byte: float, per_flop: float, static: float) -> None:
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
def test_probes_that_tell_nothing_apart_are_refused(loads: list[tuple[float, float]]) -> None:
    windows = [ProbeWindow("x", 1000, b, f, 50.0) for b, f in loads]
    with pytest.raises(InfeasibleError, match="do not tell them apart"):
        fit_probes(windows)


class Card:
    """An emulated L4 in virtual time, metered like a real one."""

    def __init__(self, emulator: Emulator, gpu: NvmlGpu) -> None:
        self.emulator, self.gpu, self.now_s = emulator, gpu, 0.0
        self.history = CounterHistory(gpu.capabilities.max_w)

    def sleep(self, seconds: float) -> None:
        for _ in range(round(seconds / 0.02)):
            self.emulator.tick(0.02)
            self.now_s += 0.02
            self.history.add(self.now_s, self.gpu.energy_j(), self.gpu.power_w())

    def energy_j(self) -> tuple[float, float]:
        at_s = self.history.covered_until_s
        return at_s, self.history.counter_at(at_s)

    def set_load(self, core: float, mem: float) -> None:
        self.emulator.set_load(0, core=core, mem=mem, valid_s=math.inf)

    def probes(self) -> list[EmulatedProbe]:
        return [
            EmulatedProbe(
                name, core, mem, PEAK, self.set_load, lambda: self.emulator.speed(0), self.sleep
            )
            for name, core, mem in EMULATED_LOADS
        ]


@pytest.fixture
def card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Card]:
    library, state = build_library(), tmp_path / "gpus"
    monkeypatch.setenv("LD_LIBRARY_PATH", str(library.parent))
    monkeypatch.setenv("STEPPE_EMULATED_GPUS", "l4x1")
    monkeypatch.setenv("STEPPE_EMULATED_STATE", str(state))
    monkeypatch.setenv("STEPPE_EMULATED_PRIVILEGE", "1")
    emulator = Emulator.attach(library, state, "l4x1")
    emulator.use_virtual_clock(True)
    yield Card(emulator, open_gpus()[0])
    with contextlib.suppress(pynvml.NVMLError):
        while True:
            pynvml.nvmlShutdown()


def test_probes_recover_the_emulators_own_constants_within_three_percent(card: Card) -> None:
    windows = []
    for clock_mhz in (1020, 1530, 2040):
        at_mhz = card.gpu.set_clock_limit(clock_mhz)
        card.sleep(0.5)
        windows += probe_windows(card.probes(), at_mhz, card.energy_j, lambda: False, 4.0)
    fit = fit_probes(windows)
    assert fit.joules_per_byte == pytest.approx(MEM_W / PEAK[0], rel=0.03)
    found = zip(fit.clocks_mhz, fit.joules_per_flop, fit.static_w, strict=True)
    for clock_mhz, per_flop, static_w in found:
        above = max(0.0, (clock_mhz - KNEE_MHZ) / (MAX_MHZ - KNEE_MHZ))
        volt2 = (KNEE_V + (1 - KNEE_V) * above) ** 2
        assert per_flop == pytest.approx(CORE_W * volt2 / PEAK[1], rel=0.03)
        assert static_w == pytest.approx(IDLE_W + STATIC_W * volt2, rel=0.03)


def test_a_probe_that_throttles_is_left_out(card: Card) -> None:
    answers = iter([False, True, False])
    windows = probe_windows(card.probes()[:3], 2040, card.energy_j, lambda: next(answers), 1.0)
    assert [window.name for window in windows] == ["spin", "stream copy, half"]
    assert np.all([window.draw_w > 0 for window in windows])
