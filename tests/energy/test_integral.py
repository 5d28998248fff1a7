from __future__ import annotations

import contextlib
import itertools
import math
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steppe.energy.integral import PowerHistory
from steppe.energy.window import Quality
from steppe.errors import DeviceError

MAX_W = 800.0


def filled(*powers_w: float, step_s: float = 0.1) -> PowerHistory:
    history = PowerHistory(MAX_W)
    for index, power_w in enumerate(powers_w):
        history.add(index * step_s, power_w)
    return history


def test_a_steady_power_gives_its_energy() -> None:
    window = filled(*[300.0] * 21).window(0.5, 1.5)
    assert window.energy_j == pytest.approx(300.0)
    assert window.quality is Quality.INTEGRATED
    assert 0 < window.error_j < 300.0


def test_a_ramp_is_summed_by_the_trapezoid_rule() -> None:
    assert filled(0.0, 100.0, 200.0).window(0.0, 0.15).energy_j == pytest.approx(11.25)


@given(st.lists(st.floats(0, MAX_W), min_size=3, max_size=40), st.data())
def test_windows_that_touch_add_up(powers_w: list[float], data: st.DataObject) -> None:
    history = filled(*powers_w)
    times_s = st.floats(0.0, history.covered_until_s)
    a_s, b_s, c_s = sorted(data.draw(times_s) for _ in "abc")
    parts_j = history.window(a_s, b_s).energy_j + history.window(b_s, c_s).energy_j
    assert parts_j == pytest.approx(history.window(a_s, c_s).energy_j, abs=1e-6)


@pytest.mark.parametrize("spike_w", [math.nan, math.inf, -1.0, 4_294_967.0])
def test_a_spike_invents_no_joule(spike_w: float) -> None:
    history = filled(*[300.0] * 10)
    history.add(1.0, spike_w)
    history.add(1.1, 300.0)
    assert history.window(0.0, 1.1).energy_j == pytest.approx(330.0)


def test_a_long_gap_makes_an_estimate() -> None:
    history = filled(300.0, 300.0)
    history.add(5.0, 300.0)
    history.add(5.1, 300.0)
    assert history.window(0.0, 5.1).quality is Quality.ESTIMATED
    assert history.window(5.0, 5.1).quality is Quality.INTEGRATED


def test_an_emulated_gpu_is_called_emulated_whatever_its_sensor_does() -> None:
    history = PowerHistory(MAX_W, source=Quality.EMULATED)
    for at_s in (0.0, 0.1, 5.0):
        history.add(at_s, 300.0)
    assert {history.window(0.0, end_s).quality for end_s in (0.1, 5.0, 9.0)} == {Quality.EMULATED}


def test_the_last_power_holds_only_for_a_short_while() -> None:
    history = filled(*[300.0] * 11)
    window = history.window(1.0, 3600.0)
    assert window.quality is Quality.ESTIMATED
    assert window.energy_j == pytest.approx(300.0)


def test_what_may_have_been_drawn_since_the_last_reading_is_part_of_the_error() -> None:
    history = filled(100.0, 100.0, 100.0)
    until_s = history.covered_until_s
    known, unknown = history.window(0.0, until_s), history.window(0.0, until_s + 60.0)
    assert known.error_j < 10.0
    assert unknown.error_j > 60.0 * MAX_W
    assert known.wrong_inside
    assert unknown.wrong_inside


def test_a_window_before_the_first_reading_has_no_energy() -> None:
    with pytest.raises(DeviceError, match="no power reading covers"):
        filled(300.0, 300.0).window(-1.0, 0.1)


def test_old_readings_are_forgotten() -> None:
    history = PowerHistory(MAX_W, capacity=10)
    for index in range(100):
        history.add(index * 0.1, 300.0)
    assert history.window(9.5, 9.9).energy_j == pytest.approx(120.0)
    with pytest.raises(DeviceError):
        history.window(0.0, 9.9)


def test_readings_may_be_forgotten_while_another_thread_asks() -> None:
    history, stopped = PowerHistory(MAX_W, capacity=8), threading.Event()
    for index in range(9):
        history.add(index * 0.1, 300.0)

    def add() -> None:
        for index in itertools.count(9):
            if stopped.is_set():
                return
            history.add(index * 0.1, 300.0)

    usual_s = sys.getswitchinterval()
    thread = threading.Thread(target=add)
    sys.setswitchinterval(1e-6)
    try:
        thread.start()
        for _ in range(2000):
            end_s = history.covered_until_s
            with contextlib.suppress(DeviceError):  # forgotten already
                assert history.window(end_s - 0.15, end_s).energy_j == pytest.approx(45.0)
    finally:
        stopped.set()
        sys.setswitchinterval(usual_s)
        thread.join()
