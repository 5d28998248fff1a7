from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steppe.control.tick_times import LEAST_WINDOW_S, BudgetReading, TickTimes

LEAD_S = 0.2


def stepped(at_s: float, before_w: float, after_w: float) -> Callable[[float], float]:
    return lambda now_s: after_w if now_s >= at_s else before_w


def ticks(times: TickTimes, until_s: float) -> list[float]:
    """Return when the loop ticks, s."""
    found = [0.0]
    while found[-1] < until_s:
        found.append(times.after(found[-1]))
    return found


def test_a_steady_budget_is_looked_at_once_a_period() -> None:
    times = TickTimes(lambda _: 100.0, 1.0, LEAD_S)
    assert ticks(times, 5.0) == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    assert times.fall_w(3.0) == 0.0


def test_a_period_of_the_least_window_is_kept() -> None:
    times = TickTimes(lambda _: 100.0, LEAST_WINDOW_S, LEAD_S)
    assert ticks(times, 0.9) == pytest.approx([0.1 * n for n in range(10)])


def test_a_loop_that_wakes_a_little_late_misses_few_ticks() -> None:
    times, now_s = TickTimes(lambda _: 100.0, LEAST_WINDOW_S, LEAD_S), 0.0
    for _ in range(100):
        now_s = times.after(now_s) + 0.001
    assert 10.0 <= now_s < 11.5


def test_a_tick_just_a_window_before_the_next_leaves_none_out() -> None:
    times = TickTimes(lambda _: 100.0, 1.0, LEAD_S)
    assert times.after(0.9) == pytest.approx(1.0)
    assert times.after(0.95) == 2.0


def test_a_cut_is_followed_ahead_of_time_and_looked_at_again_when_it_comes() -> None:
    times = TickTimes(stepped(2.6, 100.0, 70.0), 1.0, LEAD_S)
    found = ticks(times, 4.0)
    assert found == pytest.approx([0.0, 1.0, 2.0, 2.4, 2.6, 3.0, 4.0], abs=1e-3)
    falls_w = [times.fall_w(at_s) for at_s in found]
    assert falls_w == [0.0, 0.0, 0.0, 30.0, 0.0, 0.0, 0.0]


def test_a_rise_is_followed_when_it_comes() -> None:
    times = TickTimes(stepped(2.6, 70.0, 100.0), 1.0, LEAD_S)
    found = ticks(times, 4.0)
    assert found == pytest.approx([0.0, 1.0, 2.0, 2.6, 3.0, 4.0], abs=1e-3)
    assert times.fall_w(2.5) == 0.0


@pytest.mark.parametrize("after_w", [70.0, 130.0])
def test_clocks_are_held_in_the_second_before_a_step(after_w: float) -> None:
    times = TickTimes(stepped(2.6, 100.0, after_w), 1.0, LEAD_S)
    waiting = [at_s for at_s in ticks(times, 4.0) if not times.fall_w(at_s)]
    assert [at_s for at_s in waiting if times.holds_clocks(at_s)] == [2.0]


def test_a_budget_that_glides_is_followed_once_a_period() -> None:
    times = TickTimes(lambda now_s: 100.0 - 5.0 * now_s, 1.0, LEAD_S)
    assert ticks(times, 4.0) == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert times.fall_w(1.0) == 0.0


def test_a_plan_looks_ahead_where_the_budget_falls_fast() -> None:
    times = TickTimes(lambda now_s: 100.0 - 12.0 * now_s, 1.0, LEAD_S)
    assert times.fall_w(0.0) == pytest.approx(12.0 * (LEAD_S + LEAST_WINDOW_S))


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.floats(0.15, 3.0), st.floats(0, 500)), max_size=8),
    st.floats(0.3, 2.0),
    st.floats(0.0, 0.5),
)
def test_ticks_are_neither_too_close_nor_too_far_apart(
    steps: list[tuple[float, float]], period_s: float, lead_s: float
) -> None:
    begins, at_s = [(0.0, 300.0)], 0.5
    for after_s, watts in steps:
        at_s += after_s
        begins.append((at_s, watts))

    def budget_w(now_s: float) -> float:
        return max(step for step in begins if step[0] <= max(0.0, now_s))[1]

    times = TickTimes(budget_w, period_s, lead_s)
    found = ticks(times, at_s + 3 * period_s)
    gaps_s = [after - before for before, after in pairwise(found)]
    assert min(gaps_s) >= LEAST_WINDOW_S - 1e-9
    assert max(gaps_s) <= period_s + LEAST_WINDOW_S + 1e-9


@given(st.floats(0.5, 6.0), st.floats(10, 90))
def test_the_limits_are_down_before_a_cut_is_there(at_s: float, after_w: float) -> None:
    times = TickTimes(stepped(at_s, 100.0, after_w), 1.0, LEAD_S)
    followed_s = next(t for t in ticks(times, 8.0) if times.fall_w(t) > 0 or t >= at_s)
    assert at_s - 2 * LEAD_S - LEAST_WINDOW_S <= followed_s <= at_s - LEAD_S + 1e-3


@pytest.mark.parametrize("after_w", [50.0, 150.0])
def test_a_look_that_sees_a_step_of_a_signal_does_not_wait_for_the_next_tick(
    after_w: float,
) -> None:
    times = TickTimes(lambda _: after_w, 1.0, LEAD_S)
    assert times.has_stepped(BudgetReading(3.85, 100.0), times.read_budget(3.95), next_s=4.0)
    assert not times.has_stepped(BudgetReading(3.85, after_w), times.read_budget(3.95), next_s=4.0)


@pytest.mark.parametrize(("apart_s", "is_step"), [(0.05, True), (0.1, True), (0.3, False)])
def test_a_ramp_is_no_step_because_a_look_came_late(apart_s: float, is_step: bool) -> None:
    ramp = TickTimes(lambda now_s: 1000.0 + 300.0 * (now_s - 10.0), 1.0, LEAD_S)
    before = ramp.read_budget(10.0)
    assert not ramp.has_stepped(before, ramp.read_budget(10.0 + apart_s), next_s=11.0)
    after = BudgetReading(10.0 + apart_s, 1100.0)
    assert ramp.has_stepped(before, after, next_s=11.0) is is_step


def test_a_look_amid_a_rise_that_is_known_waits_for_its_end() -> None:
    times = TickTimes(
        lambda now_s: min(150.0, max(100.0, 100.0 + 1e4 * (now_s - 3.5))), 1.0, LEAD_S
    )
    next_s = times.after(3.0)
    assert next_s == pytest.approx(3.505, abs=1e-3)
    before = times.read_budget(3.402)
    assert not times.has_stepped(before, times.read_budget(3.502), next_s)
    # Where it takes longer, power must not lie idle until its end.
    assert times.has_stepped(before, times.read_budget(3.502), next_s=3.7)


def test_a_look_amid_a_cut_does_not_wait() -> None:
    times = TickTimes(
        lambda now_s: 100.0 if now_s < 3.5 else 80.0 if now_s < 3.51 else 50.0, 1.0, 0.0
    )
    assert times.has_stepped(times.read_budget(3.405), times.read_budget(3.505), next_s=3.51)
