"""Windows that are asked for one after the other while the meter goes on reading."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steppe.energy.counter import CounterHistory, Quality
from steppe.energy.window import EnergyWindow

MAX_W = 800.0
PERIOD_S = 0.1
STEP_S = 0.005


@dataclass
class BusyHost:
    """A GPU that draws as it likes, and a poller that now and then is held up."""

    rng: random.Random
    history: CounterHistory = field(default_factory=lambda: CounterHistory(MAX_W))
    now_s: float = 0.0
    power_w: float = 300.0
    true_j: list[float] = field(default_factory=lambda: [0.0])
    published_j: float = 0.0
    zero_j: float = 0.0

    def true_at(self, at_s: float) -> float:
        step, share = divmod(at_s / STEP_S, 1.0)
        before_j, after_j = self.true_j[int(step)], self.true_j[min(int(step) + 1, self.steps)]
        return before_j + share * (after_j - before_j)

    @property
    def steps(self) -> int:
        return len(self.true_j) - 1

    def read(self) -> None:
        """Wait for the next reading and take it; it may come late, and be slow."""
        held_up = self.rng.random() < 0.05
        for _ in range(self.rng.randint(10, 60) if held_up else 4):
            if self.rng.random() < 0.02:
                self.power_w = self.rng.choice((70.0, 300.0, MAX_W))
            self.true_j.append(self.true_j[-1] + self.power_w * STEP_S)
            if self.steps % round(PERIOD_S / STEP_S) == 0:
                self.published_j = self.true_j[-1]
        self.now_s = self.steps * STEP_S
        power_w = self.power_w if self.rng.random() < 0.5 else None
        read_s = self.rng.choice((0.0, 0.0005, 0.01))
        self.history.add(self.now_s, self.published_j - self.zero_j, power_w, read_s)

    def windows(self, readings: int) -> list[EnergyWindow]:
        """Ask for each window as it becomes covered, as a node does."""
        self.read()
        cut_s, windows = self.history.covered_until_s, []
        for reading in range(readings):
            self.read()
            if reading % 10 == 9:
                windows.append(self.history.window(cut_s, self.history.covered_until_s))
                cut_s = windows[-1].end_s
        return windows


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32))
def test_windows_that_end_at_the_last_tick_add_up_to_the_whole(seed: int) -> None:
    host = BusyHost(random.Random(seed))
    windows = host.windows(400)
    whole = host.history.window(windows[0].start_s, windows[-1].end_s)
    assert sum(window.energy_j for window in windows) == pytest.approx(whole.energy_j, abs=1e-6)
    assert {window.quality for window in windows} == {Quality.COUNTER}


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32))
def test_the_bound_holds_for_windows_that_end_at_the_last_tick(seed: int) -> None:
    host = BusyHost(random.Random(seed))
    for window in host.windows(400)[1:]:
        true_j = host.true_at(window.end_s) - host.true_at(window.start_s)
        assert abs(window.energy_j - true_j) <= window.error_j + 1e-6


@pytest.mark.parametrize("seed", range(5))
def test_a_counter_that_starts_anew_changes_no_window_before_it(seed: int) -> None:
    host = BusyHost(random.Random(seed))
    before = host.windows(100)[-1]
    host.zero_j = host.published_j
    host.windows(100)
    assert host.history.window(before.start_s, before.end_s) == before
