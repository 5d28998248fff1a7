from __future__ import annotations

import bisect
import math
import random
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steppe.energy.counter import CounterHistory, Quality
from steppe.errors import DeviceError

MAX_W = 800.0
PERIOD_S = 0.1


@dataclass
class Gpu:
    """A load that changes in steps, and a counter of whole millijoules that ticks now and then."""

    period_s: float = PERIOD_S
    phase_s: float = 0.037
    now_s: float = 0.0
    power_w: float = 300.0
    truth: list[tuple[float, float]] = field(default_factory=lambda: [(0.0, 0.0)])

    def run(self, seconds: float) -> None:
        """Go on at the present power."""
        self.now_s += seconds
        self.truth.append((self.now_s, self.truth[-1][1] + self.power_w * seconds))

    def energy_at(self, at_s: float) -> float:
        after = min(bisect.bisect_right(self.truth, (at_s, math.inf)), len(self.truth) - 1)
        (a_s, a_j), (b_s, b_j) = self.truth[after - 1], self.truth[after]
        return a_j + (b_j - a_j) * (at_s - a_s) / (b_s - a_s)

    def counter_j(self) -> float:
        ticks = math.floor((self.now_s - self.phase_s) / self.period_s)
        return (
            math.floor(self.energy_at(max(0.0, ticks * self.period_s + self.phase_s)) * 1e3) / 1e3
        )


def poll(gpu: Gpu, history: CounterHistory, seconds: float, *, poll_s: float = 0.01) -> None:
    """Read the counter and the power for a while."""
    for _ in range(round(seconds / poll_s)):
        gpu.run(poll_s)
        history.add(gpu.now_s, gpu.counter_j(), gpu.power_w)


def test_a_steady_draw_is_found_exactly() -> None:
    gpu, history = Gpu(), CounterHistory(MAX_W)
    poll(gpu, history, 3.0)
    window = history.window(0.5, 2.5)
    assert window.energy_j == pytest.approx(600.0, rel=0.005)
    assert window.quality is Quality.COUNTER
    assert window.mean_w == pytest.approx(300.0, rel=0.005)
    assert history.period_s == pytest.approx(PERIOD_S, rel=0.02)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.floats(0.02, 0.5), st.floats(0.003, 0.3))
def test_the_true_energy_is_always_within_the_bound(
    seed: int, period_s: float, poll_s: float
) -> None:
    rng = random.Random(seed)
    gpu = Gpu(period_s, rng.uniform(0.0, period_s))
    history = CounterHistory(MAX_W)
    for _ in range(200):
        gpu.power_w = rng.uniform(0.0, MAX_W)
        gpu.run(rng.uniform(0.1, 1.9) * poll_s)
        history.add(gpu.now_s, gpu.counter_j())
    first_s = gpu.truth[1][0]
    for _ in range(50):
        start_s, end_s = sorted(rng.uniform(first_s, gpu.now_s) for _ in "se")
        window = history.window(start_s, end_s)
        true_j = gpu.energy_at(end_s) - gpu.energy_at(start_s)
        assert abs(window.energy_j - true_j) <= window.error_j + 1e-6
        is_covered = end_s <= history.covered_until_s
        assert window.quality is (Quality.COUNTER if is_covered else Quality.ESTIMATED)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32))
def test_windows_that_touch_add_up(seed: int) -> None:
    rng = random.Random(seed)
    gpu, history = Gpu(), CounterHistory(MAX_W)
    for _ in range(30):
        gpu.power_w = rng.uniform(0.0, MAX_W)
        poll(gpu, history, 0.1)
    cuts_s = sorted(rng.uniform(0.01, history.covered_until_s) for _ in range(12))
    parts = [history.window(a, b) for a, b in pairwise(cuts_s)]
    whole = history.window(cuts_s[0], cuts_s[-1])
    assert sum(part.energy_j for part in parts) == pytest.approx(whole.energy_j, abs=1e-9)
    assert all(part.energy_j >= 0 for part in parts)


def test_a_slow_reading_widens_the_bound_but_never_breaks_it() -> None:
    rng = random.Random(3)
    gpu, history = Gpu(), CounterHistory(MAX_W)
    for _ in range(300):
        gpu.power_w = rng.uniform(0.0, MAX_W)
        gpu.run(0.01)
        before_s = gpu.now_s
        gpu.run(rng.uniform(0.0, 0.02))
        counter_j = gpu.counter_j()
        gpu.run(rng.uniform(0.0, 0.02))
        history.add(before_s, counter_j, read_s=gpu.now_s - before_s)
    for _ in range(200):
        start_s, end_s = sorted(rng.uniform(0.1, history.covered_until_s) for _ in "se")
        window = history.window(start_s, end_s)
        true_j = gpu.energy_at(end_s) - gpu.energy_at(start_s)
        assert abs(window.energy_j - true_j) <= window.error_j


def test_a_window_that_ends_after_the_last_tick_is_an_estimate() -> None:
    gpu, history = Gpu(), CounterHistory(MAX_W)
    poll(gpu, history, 1.0)
    window = history.window(0.5, gpu.now_s)
    assert window.quality is Quality.ESTIMATED
    assert window.energy_j == pytest.approx(150.0, rel=0.05)
    assert abs(window.energy_j - 150.0) <= window.error_j


def test_a_window_without_readings_has_no_energy_and_not_zero() -> None:
    gpu, history = Gpu(), CounterHistory(MAX_W)
    with pytest.raises(DeviceError, match="no reading covers"):
        history.window(0.0, 1.0)
    gpu.run(5.0)
    poll(gpu, history, 1.0)
    with pytest.raises(DeviceError, match="no reading covers"):
        history.window(4.0, 6.0)


def test_nothing_is_covered_before_the_first_reading() -> None:
    assert CounterHistory(MAX_W).covered_until_s == -math.inf


@pytest.mark.parametrize("spike_j", [math.nan, math.inf, -5.0, 1.8e16, 0.0, 1e6])
def test_a_spike_of_the_counter_invents_no_joule(spike_j: float) -> None:
    gpu, history = Gpu(), CounterHistory(MAX_W)
    gpu.run(10.0)
    poll(gpu, history, 1.5)
    gpu.run(0.01)
    history.add(gpu.now_s, spike_j, gpu.power_w)
    poll(gpu, history, 1.5)
    window = history.window(10.5, 12.5)
    assert window.energy_j == pytest.approx(600.0, rel=0.005)
    assert window.quality is Quality.COUNTER


def test_a_counter_that_starts_anew_splits_the_window_and_says_so() -> None:
    gpu, history = Gpu(), CounterHistory(MAX_W)
    poll(gpu, history, 2.0)
    lost_j = gpu.counter_j()
    for _ in range(200):
        gpu.run(0.01)
        history.add(gpu.now_s, gpu.counter_j() - lost_j, gpu.power_w)
    window = history.window(1.0, 3.0)
    assert window.quality is Quality.ESTIMATED
    assert window.energy_j == pytest.approx(600.0, rel=0.03)
    assert abs(window.energy_j - 600.0) <= window.error_j
    assert history.window(0.2, 1.8).quality is Quality.COUNTER
    assert history.window(2.3, 3.7).quality is Quality.COUNTER
    assert window.wrong_inside
    assert not history.window(0.2, 1.8).wrong_inside


def test_what_a_counter_showed_is_told_by_its_own_zero() -> None:
    gpu, history = Gpu(), CounterHistory(MAX_W)
    gpu.run(10.0)
    poll(gpu, history, 1.0)
    assert history.counter_at(10.5) == pytest.approx(3150.0, rel=0.01)
    lost_j = gpu.counter_j()
    for _ in range(200):
        gpu.run(0.01)
        history.add(gpu.now_s, gpu.counter_j() - lost_j, gpu.power_w)
    assert history.counter_at(12.5) == pytest.approx(450.0, abs=300.0 * PERIOD_S)
    assert history.counter_at(10.5) == 0.0


def test_without_power_readings_a_hole_is_charged_with_what_the_counter_saw() -> None:
    gpu, history = Gpu(), CounterHistory(MAX_W)
    for _ in range(200):
        gpu.run(0.01)
        history.add(gpu.now_s, gpu.counter_j())
    lost_j = gpu.counter_j()
    for _ in range(200):
        gpu.run(0.01)
        history.add(gpu.now_s, gpu.counter_j() - lost_j)
    window = history.window(1.0, 3.0)
    assert 570.0 <= window.energy_j <= 601.0
    assert abs(window.energy_j - 600.0) <= window.error_j


def test_a_frozen_counter_is_an_estimate_by_the_power_readings() -> None:
    gpu, history = Gpu(), CounterHistory(MAX_W)
    poll(gpu, history, 2.0)
    frozen_j = gpu.counter_j()
    for _ in range(500):
        gpu.run(0.01)
        history.add(gpu.now_s, frozen_j, gpu.power_w)
    window = history.window(3.0, 6.0)
    assert window.quality is Quality.ESTIMATED
    assert window.energy_j == pytest.approx(900.0, rel=0.02)
    poll(gpu, history, 2.0)
    assert history.window(1.0, 8.0).quality is Quality.ESTIMATED
    assert history.window(1.0, 8.0).energy_j == pytest.approx(2100.0, rel=0.02)
    assert history.window(7.5, 8.5).quality is Quality.COUNTER


def test_a_frozen_counter_that_catches_up_is_believed_before_stale_power_readings() -> None:
    gpu, history = Gpu(), CounterHistory(MAX_W)
    poll(gpu, history, 2.0)
    frozen_j, frozen_w = gpu.counter_j(), gpu.power_w
    gpu.power_w = 150.0
    for _ in range(500):
        gpu.run(0.01)
        history.add(gpu.now_s, frozen_j, frozen_w)
    poll(gpu, history, 1.0)
    window = history.window(1.0, 7.5)
    assert window.energy_j == pytest.approx(300.0 + 5.5 * 150.0, rel=0.01)
    assert window.quality is Quality.ESTIMATED


def test_a_frozen_counter_without_power_readings_does_not_rise_for_ever() -> None:
    gpu, history = Gpu(), CounterHistory(MAX_W)
    for _ in range(100):
        gpu.run(0.01)
        history.add(gpu.now_s, gpu.counter_j())
    hour = history.window(0.5, 3600.0)
    assert hour.quality is Quality.ESTIMATED
    assert hour.energy_j < 500.0
    assert hour.error_j >= (MAX_W - 1.0) * 3599.0


def test_a_gpu_that_draws_nothing_is_not_frozen() -> None:
    gpu, history = Gpu(power_w=0.0), CounterHistory(MAX_W)
    poll(gpu, history, 3.0)
    gpu.power_w = 300.0
    poll(gpu, history, 1.0)
    window = history.window(1.0, history.covered_until_s)
    assert window.quality is Quality.COUNTER


def test_a_poller_that_was_held_up_loses_no_energy() -> None:
    gpu, history = Gpu(), CounterHistory(MAX_W)
    poll(gpu, history, 1.0)
    gpu.run(20.0)
    poll(gpu, history, 1.0)
    window = history.window(0.5, 21.5)
    assert window.energy_j == pytest.approx(6300.0, rel=0.005)
    assert window.quality is Quality.COUNTER


def test_an_emulated_counter_labels_every_window_so() -> None:
    gpu, history = Gpu(), CounterHistory(MAX_W, source=Quality.EMULATED)
    poll(gpu, history, 1.0)
    assert history.window(0.2, 0.8).quality is Quality.EMULATED
    assert history.window(0.2, 1.0).quality is Quality.EMULATED


def test_a_draw_above_the_stated_most_corrects_the_most() -> None:
    gpu, history = Gpu(power_w=600.0), CounterHistory(400.0)
    poll(gpu, history, 2.0)
    window = history.window(0.5, 1.5)
    assert window.energy_j == pytest.approx(600.0, rel=0.005)
    assert abs(window.energy_j - 600.0) <= window.error_j


def test_old_ticks_are_forgotten_and_new_ones_kept() -> None:
    gpu, history = Gpu(), CounterHistory(MAX_W, capacity=20)
    poll(gpu, history, 10.0)
    assert history.window(8.5, 9.5).energy_j == pytest.approx(300.0, rel=0.01)
    with pytest.raises(DeviceError, match="no reading covers"):
        history.window(0.5, 9.0)


def test_a_power_reading_with_each_tick_tells_when_the_load_stepped() -> None:
    with_power, without = CounterHistory(MAX_W), CounterHistory(MAX_W)
    gpu = Gpu(power_w=100.0)
    for power_w, seconds in ((100.0, 1.06), (700.0, 1.0)):
        gpu.power_w = power_w
        for _ in range(round(seconds / 0.01)):
            gpu.run(0.01)
            with_power.add(gpu.now_s, gpu.counter_j(), gpu.power_w)
            without.add(gpu.now_s, gpu.counter_j())
    true_j = gpu.energy_at(1.06) - gpu.energy_at(0.5)
    assert with_power.window(0.5, 1.06).energy_j == pytest.approx(true_j, abs=2.0)
    assert abs(without.window(0.5, 1.06).energy_j - true_j) > 10.0


def test_an_absurd_power_reading_moves_no_joule() -> None:
    gpu, history = Gpu(), CounterHistory(MAX_W)
    poll(gpu, history, 1.0)
    for _ in range(100):
        gpu.run(0.01)
        history.add(gpu.now_s, gpu.counter_j(), 4_294_967.0)
    assert history.window(1.2, 1.8).energy_j == pytest.approx(180.0, rel=0.01)


@pytest.mark.parametrize("phase_s", [0.02, 0.035, 0.05, 0.065, 0.08])
@pytest.mark.parametrize("away_s", [0.06, 0.116, 0.25])
def test_a_poller_that_was_held_up_knows_when_the_counter_ticked(
    phase_s: float, away_s: float
) -> None:
    gpu, history = Gpu(phase_s=phase_s), CounterHistory(MAX_W)
    poll(gpu, history, 2.0)
    gpu.run(0.1 - away_s % 0.1)
    history.add(gpu.now_s, gpu.counter_j(), gpu.power_w)
    gpu.run(away_s)
    history.add(gpu.now_s, gpu.counter_j(), gpu.power_w)
    window = history.window(1.0, gpu.now_s)
    assert window.energy_j == pytest.approx(300.0 * (gpu.now_s - 1.0), abs=300.0 * 0.012)
