"""Board power limits from the budget."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steppe.control.power_limits import (
    AFTERWARDS_S,
    HEADROOM,
    RISE_SHARE,
    LimitedGpu,
    PowerLimiter,
    PowerSchedule,
    divide,
    follow,
    least_limits_w,
    most_awake,
)

CLOSE_W = 1e-6
WATTS = st.floats(0.0, 1000.0)


@st.composite
def gpu_lists(draw: st.DrawFn) -> list[LimitedGpu]:
    found = []
    for number in range(draw(st.integers(1, 12))):
        lowest_w = draw(st.floats(50.0, 300.0))
        highest_w = lowest_w + draw(st.floats(0.0, 700.0))
        found.append(LimitedGpu(f"{number}", lowest_w, highest_w, draw(WATTS), draw(st.booleans())))
    return found


def counted_w(gpus: list[LimitedGpu], limits_w: dict[str, float]) -> float:
    """Return what the GPUs may draw: their limits, and of sleeping ones their draw."""
    return math.fsum(
        min(limits_w[gpu.name], gpu.expected_w) if gpu.asleep else limits_w[gpu.name]
        for gpu in gpus
    )


def serving(expected_w: float, count: int = 4) -> list[LimitedGpu]:
    """Return H100s with the same expected draw."""
    return [LimitedGpu(f"{number}", 200.0, 700.0, expected_w) for number in range(count)]


@given(gpu_lists(), st.floats(0.0, 20_000.0))
def test_limits_sum_to_the_budget_at_most_wherever_the_lowest_limits_allow_it(
    gpus: list[LimitedGpu], budget_w: float
) -> None:
    limits_w = divide(gpus, budget_w)
    assert counted_w(gpus, limits_w) <= max(budget_w, least_limits_w(gpus)) + CLOSE_W


@given(gpu_lists(), st.floats(0.0, 20_000.0))
def test_each_limit_is_within_the_range_of_its_gpu(gpus: list[LimitedGpu], budget_w: float) -> None:
    limits_w = divide(gpus, budget_w)
    for gpu in gpus:
        assert gpu.lowest_w <= limits_w[gpu.name] <= gpu.highest_w + CLOSE_W
        assert not gpu.asleep or limits_w[gpu.name] == gpu.lowest_w


@given(gpu_lists(), st.floats(0.0, 20_000.0))
def test_no_watt_is_withheld_that_a_serving_gpu_could_use(
    gpus: list[LimitedGpu], budget_w: float
) -> None:
    limits_w = divide(gpus, budget_w)
    is_full = all(g.asleep or limits_w[g.name] >= g.highest_w - CLOSE_W for g in gpus)
    used_w = counted_w(gpus, limits_w)
    assert is_full or used_w >= max(budget_w, least_limits_w(gpus)) - CLOSE_W


@given(gpu_lists())
def test_the_plan_gets_its_draw_and_headroom_where_the_budget_allows_it(
    gpus: list[LimitedGpu],
) -> None:
    needed_w = math.fsum(gpu.least_w if gpu.asleep else gpu.needed_w for gpu in gpus)
    limits_w = divide(gpus, needed_w + CLOSE_W)
    for gpu in gpus:
        wanted_w = min(HEADROOM * gpu.expected_w, gpu.highest_w)
        assert gpu.asleep or limits_w[gpu.name] >= wanted_w - CLOSE_W


@given(gpu_lists(), st.floats(0.0, 20_000.0), st.floats(0.0, 5000.0))
def test_a_lower_budget_raises_no_limit(
    gpus: list[LimitedGpu], budget_w: float, less_w: float
) -> None:
    before_w, after_w = divide(gpus, budget_w + less_w), divide(gpus, budget_w)
    assert all(after_w[gpu.name] <= before_w[gpu.name] + CLOSE_W for gpu in gpus)


@given(gpu_lists(), st.floats(0.0, 20_000.0), st.floats(0.0, 20_000.0))
def test_limits_fall_at_once_and_rise_in_steps_beyond_what_the_plan_needs(
    gpus: list[LimitedGpu], budget_before_w: float, budget_w: float
) -> None:
    before_w, target_w = divide(gpus, budget_before_w), divide(gpus, budget_w)
    limits_w = follow(gpus, before_w, target_w)
    for gpu in gpus:
        limit_w, rise_w = limits_w[gpu.name], RISE_SHARE * (gpu.highest_w - gpu.lowest_w)
        assert gpu.lowest_w - CLOSE_W <= limit_w <= target_w[gpu.name]
        assert limit_w <= max(gpu.needed_w, before_w[gpu.name] + rise_w)
        assert limit_w >= min(gpu.needed_w, target_w[gpu.name])


def test_points_that_draw_less_than_is_true_leave_the_sum_of_limits_at_the_budget() -> None:
    limits_w = divide(serving(300.0), 2000.0)
    assert limits_w == {gpu.name: pytest.approx(500.0) for gpu in serving(300.0)}


def test_a_plan_above_the_budget_is_cut_in_proportion() -> None:
    gpus = [*serving(400.0, 1), LimitedGpu("big", 200.0, 700.0, 600.0)]
    assert divide(gpus, 700.0) == pytest.approx({"0": 300.0, "big": 400.0})


@given(st.integers(1, 40), st.floats(20.0, 300.0), st.floats(0.0, 1.0), st.floats(0.0, 20_000.0))
def test_as_many_replicas_may_be_awake_as_the_lowest_limits_allow(
    replicas: int, lowest_w: float, asleep_share: float, budget_w: float
) -> None:
    asleep_w = asleep_share * lowest_w

    def least_w(awake: int) -> float:
        gpus = [
            LimitedGpu(f"{number}", lowest_w, 700.0, asleep_w, number >= awake)
            for number in range(replicas)
        ]
        return least_limits_w(gpus)

    most = most_awake(budget_w, replicas, lowest_w, asleep_w)
    assert 0 <= most <= replicas
    assert not most or least_w(most) <= budget_w * (1 + 1e-6) + CLOSE_W
    assert most == replicas or least_w(most + 1) > budget_w * (1 - 1e-6) - CLOSE_W


def falling_w(at_s: float) -> float:
    """Return a budget that falls by 100 W/s from 2400 W."""
    return max(0.0, 2400.0 - 100.0 * at_s)


def sum_at(schedule: PowerSchedule, after_s: float) -> float:
    """Return the sum of the limits of a schedule at a time, W."""
    step = max(index for index, at_s in enumerate(schedule.after_s) if at_s <= after_s)
    return math.fsum(limits_w[step] for limits_w in schedule.limits_w.values())


def test_a_schedule_follows_a_budget_that_is_known_to_fall() -> None:
    limiter = PowerLimiter(falling_w, 1.0, 3.0)
    schedule = limiter.schedule(serving(580.0), 0.0)
    for tenth in range(30):
        after_s = tenth / 10
        assert sum_at(schedule, after_s) <= 1.01 * max(falling_w(after_s), 800.0)
    assert sum_at(schedule, 0.9) > 0.9 * falling_w(0.9), "no lower than the budget requires"


def test_a_signal_that_fell_is_assumed_to_go_on_falling_once_ticks_stay_out() -> None:
    now = [0.0]

    def signal_w(_: float) -> float:  # of a live signal, only the present value is known
        return falling_w(now[0])

    limiter = PowerLimiter(signal_w, 1.0, 3.0)
    for second in range(5):
        now[0] = float(second)
        schedule = limiter.schedule(serving(580.0), now[0])
    assert sum_at(schedule, 1.4) == pytest.approx(2000.0, rel=0.01)
    for tenth in range(15, 30):
        after_s = tenth / 10
        assert sum_at(schedule, after_s) <= 1.01 * max(falling_w(4.0 + after_s), 800.0)


def test_without_ticks_all_limits_fall_to_the_lowest_and_stay_for_a_while() -> None:
    schedule = PowerLimiter(lambda _: 2400.0, 1.0, 3.0).schedule(serving(580.0), 0.0)
    assert sum_at(schedule, 2.9) == pytest.approx(2400.0)
    assert sum_at(schedule, 3.0) == 800.0
    assert schedule.keep_s == 3.0 + AFTERWARDS_S


@given(gpu_lists(), st.lists(st.floats(0.0, 8000.0), min_size=1, max_size=8))
def test_no_limit_of_a_schedule_rises(gpus: list[LimitedGpu], budgets_w: list[float]) -> None:
    limiter = PowerLimiter(lambda at_s: budgets_w[int(at_s) % len(budgets_w)], 1.0, 3.0)
    for second in range(3):
        schedule = limiter.schedule(gpus, float(second))
        for limits_w in schedule.limits_w.values():
            assert len(limits_w) == len(schedule.after_s)
            assert all(after_w <= before_w for before_w, after_w in pairwise(limits_w))
