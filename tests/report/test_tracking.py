from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fixtures.made_run import MadeRun, make_run

from steppe.report.records import ReplicaTick, TickRecord
from steppe.report.tracking import (
    PowerTrace,
    held_s,
    over_budget,
    relative_mae,
    settle_times_s,
    track,
    unused_while_waiting_j,
)

watts = st.floats(min_value=1.0, max_value=1e5)
windows = st.lists(st.tuples(watts, watts, st.booleans()), min_size=1, max_size=30)
Windows = list[tuple[float, float, bool]]


def trace_of(rows: Windows, width_s: float = 1.0, begin_s: float = 0.0) -> PowerTrace:
    budget_w, draw_w, waiting = zip(*rows, strict=True)
    return PowerTrace(
        end_s=begin_s + np.cumsum(np.full(len(rows), width_s)),
        width_s=np.full(len(rows), width_s),
        budget_w=np.array(budget_w, dtype=np.float64),
        draw_w=np.array(draw_w, dtype=np.float64),
        waiting=np.array(waiting),
        at_ceiling=np.zeros(len(rows), dtype=np.bool_),
        at_floor=np.zeros(len(rows), dtype=np.bool_),
    )


def stepped(budget_w: Sequence[float], draw_w: Sequence[float]) -> PowerTrace:
    return trace_of([(b, d, True) for b, d in zip(budget_w, draw_w, strict=True)])


def tick(t_s: float, budget_w: float, draw_w: float, waiting: int) -> TickRecord:
    return TickRecord(t_s, budget_w, draw_w, budget_w, 0.0, 0.0, draw_w, 0, waiting, 0, ())


@pytest.mark.parametrize(
    ("waiting", "engine_queue", "waits"), [(0, 0, False), (0, 4, False), (0, 5, True), (1, 0, True)]
)
def test_requests_queued_in_the_engines_count_as_waiting_beyond_two_for_each_awake_replica(
    waiting: int, engine_queue: int, waits: bool
) -> None:
    awake = ReplicaTick("replica", "awake", 1200, 16, 30.0, 9.0)
    replicas = (awake, awake, replace(awake, state="asleep"))
    queued = replace(tick(1.0, 100.0, 60.0, waiting), engine_queue=engine_queue, replicas=replicas)
    trace = PowerTrace.from_ticks([queued])
    assert trace.waiting.tolist() == [waits]
    assert unused_while_waiting_j(trace) == (40.0 if waits else 0.0)


@given(windows)
def test_perfect_tracking_has_no_error(rows: Windows) -> None:
    trace = trace_of([(budget_w, budget_w, waiting) for budget_w, _, waiting in rows])
    over = over_budget(trace, meter_delay_s=0.5)
    assert relative_mae(trace) == (0 if trace.waiting.any() else None)
    assert (over.energy_j, over.time_s, over.max_fraction) == (0, 0, 0)
    assert unused_while_waiting_j(trace) == 0
    assert not settle_times_s(trace).any()


@given(windows, st.floats(min_value=0.01, max_value=100))
def test_shares_and_times_do_not_depend_on_the_scale_and_joules_follow_it(
    rows: Windows, factor: float
) -> None:
    trace = trace_of(rows)
    scaled = trace_of([(factor * b, factor * d, waiting) for b, d, waiting in rows])
    over, scaled_over = over_budget(trace, 1.0), over_budget(scaled, 1.0)
    assert relative_mae(scaled) == pytest.approx(relative_mae(trace))
    assert scaled_over.max_fraction == pytest.approx(over.max_fraction, abs=1e-9)
    assert scaled_over.energy_j == pytest.approx(factor * over.energy_j, abs=1e-6)
    assert unused_while_waiting_j(scaled) == pytest.approx(
        factor * unused_while_waiting_j(trace), abs=1e-6
    )


@given(windows, windows)
def test_joules_of_two_halves_add_up_without_a_meter_delay(first: Windows, second: Windows) -> None:
    halves = trace_of(first), trace_of(second, begin_s=float(len(first)))
    whole = trace_of(first + second)
    over = [over_budget(half, 0.0) for half in halves]
    assert over_budget(whole, 0.0).energy_j == pytest.approx(sum(half.energy_j for half in over))
    assert over_budget(whole, 0.0).time_s == pytest.approx(sum(half.time_s for half in over))
    assert unused_while_waiting_j(whole) == pytest.approx(
        sum(unused_while_waiting_j(half) for half in halves)
    )


@given(windows, st.floats(0, 5), st.floats(0, 5))
def test_a_longer_meter_delay_never_counts_more(
    rows: Windows, delay_s: float, more_s: float
) -> None:
    trace = trace_of(rows)
    short, long = over_budget(trace, delay_s), over_budget(trace, delay_s + more_s)
    assert long.energy_j <= short.energy_j + 1e-6
    assert long.time_s <= short.time_s + 1e-6


@given(windows)
def test_without_a_delay_the_over_draw_is_the_plain_integral(rows: Windows) -> None:
    trace = trace_of(rows, width_s=0.5)
    excess_w = np.maximum(0, trace.draw_w - trace.budget_w)
    over = over_budget(trace, 0.0)
    assert over.energy_j == pytest.approx(0.5 * excess_w.sum(), abs=1e-9)
    assert over.time_s == pytest.approx(0.5 * np.count_nonzero(excess_w))
    assert over.max_fraction == pytest.approx((excess_w / trace.budget_w).max())


def test_only_what_follows_the_meter_delay_counts_as_over() -> None:
    trace = stepped([100, 50, 50, 50], [100, 100, 100, 50])
    assert over_budget(trace, 0.0).time_s == pytest.approx(2.0)
    assert over_budget(trace, 0.25).time_s == pytest.approx(1.75)
    assert over_budget(trace, 0.25).energy_j == pytest.approx(1.75 * 50)
    assert over_budget(trace, 1.0).time_s == pytest.approx(1.0)
    assert over_budget(trace, 2.0).time_s == 0


def test_a_delay_does_not_excuse_a_draw_above_every_recent_budget() -> None:
    assert over_budget(stepped([100, 50], [100, 120]), 5.0).energy_j == pytest.approx(20.0)


def test_drawing_on_a_budget_of_nothing_has_no_fraction() -> None:
    over = over_budget(stepped([0, 0], [10, 10]), 0.0)
    assert over.max_fraction is None
    assert over.energy_j == pytest.approx(20.0)


def test_only_windows_with_waiting_requests_or_an_excess_are_scored() -> None:
    trace = trace_of([(100, 10, False), (100, 90, True), (100, 130, False)])
    assert relative_mae(trace) == pytest.approx((10 + 30) / 200)
    assert unused_while_waiting_j(trace) == pytest.approx(10.0)


def test_time_at_the_ceiling_or_the_floor_is_counted_apart() -> None:
    ticks = [
        tick(1.0, 100, 90, waiting=1),
        replace(tick(2.0, 100, 40, waiting=1), bound="ceiling"),
        replace(tick(3.0, 100, 40, waiting=0), bound="ceiling"),
        replace(tick(5.0, 100, 130, waiting=0), bound="floor"),
    ]
    tracking = track(ticks, meter_delay_s=0.0)
    assert tracking["relative_mae"] == pytest.approx(0.1)
    assert (tracking["at_ceiling_s"], tracking["at_floor_s"]) == (1.0, 2.0)
    assert tracking["over_budget_j"] == pytest.approx(60.0), "bound or not, it was drawn"


def test_a_step_to_a_budget_above_the_ceiling_settles_at_once() -> None:
    ticks = [tick(1.0, 50, 50, 1), *(tick(t, 100, 70, 1) for t in (2.0, 3.0))]
    assert settle_times_s(PowerTrace.from_ticks(ticks)).tolist() == [2.0]
    bound = [ticks[0], *(replace(tick, bound="ceiling") for tick in ticks[1:])]
    assert settle_times_s(PowerTrace.from_ticks(bound)).tolist() == [0.0]


def test_a_run_in_which_nothing_waits_within_its_budget_has_no_error_and_no_excess() -> None:
    tracking = track([tick(1.0, 100, 50, 0), tick(2.0, 100, 60, 0)], meter_delay_s=0.1)
    assert tracking["relative_mae"] is None
    assert (tracking["over_budget_j"], tracking["over_budget_s"]) == (0, 0)


def test_no_error_is_relative_to_a_budget_of_nothing() -> None:
    assert relative_mae(stepped([0, 0], [10, 10])) is None
    assert relative_mae(stepped([0, 100], [10, 100])) == pytest.approx(0.1)


def test_settling_ends_where_the_draw_stays_within_two_percent() -> None:
    draw_w = [100, 90, 70, 50.5, 60, 51, 49, 50]
    assert settle_times_s(stepped([100] + [50] * 7, draw_w)).tolist() == [4.0]


def test_a_change_below_ten_percent_is_no_step() -> None:
    assert settle_times_s(stepped([100, 91, 91], [100, 0, 0])).size == 0
    assert settle_times_s(stepped([110, 99, 99], [110, 99, 99])).tolist() == [0.0]


def test_a_step_overtaken_by_the_next_settles_with_it() -> None:
    trace = stepped([100, 80, 60, 60, 60], [100, 100, 100, 80, 60])
    assert settle_times_s(trace).tolist() == [3.0, 2.0]


def test_a_step_that_never_settles_counts_until_the_end() -> None:
    assert settle_times_s(stepped([100, 50, 50, 50], [100, 100, 90, 80])).tolist() == [3.0]


def test_a_draw_below_the_budget_has_settled_when_nothing_waits() -> None:
    trace = trace_of([(50, 50, False), (100, 50, False), (100, 50, False)])
    assert settle_times_s(trace).tolist() == [0.0]


def test_the_first_window_is_no_longer_than_the_second() -> None:
    ticks = [tick(30.0, 100, 100, 0), tick(31.0, 100, 100, 0), tick(33.0, 100, 100, 0)]
    assert PowerTrace.from_ticks(ticks).width_s.tolist() == [1.0, 1.0, 2.0]


def test_an_error_counts_for_as_long_as_it_lasts() -> None:
    ticks = [tick(1.0, 100, 100, 1), tick(2.0, 100, 90, 1), tick(2.5, 100, 70, 1)]
    trace = PowerTrace.from_ticks(ticks)
    assert relative_mae(trace) == pytest.approx((0 + 10 + 0.5 * 30) / 250)


def test_going_down_ahead_of_a_cut_is_not_held_against_the_step_before() -> None:
    ahead = [tick(1.0, 100, 100, 1), tick(2.0, 100, 100, 1), tick(2.2, 100, 80, 1)]
    cut = [tick(3.0, 70, 70, 1), tick(4.0, 70, 70, 1)]
    up = [tick(4.1, 100, 70, 1), tick(5.0, 100, 100, 1), tick(5.2, 100, 80, 1)]
    again = [tick(6.0, 70, 70, 1), tick(7.0, 70, 70, 1)]
    times_s = settle_times_s(PowerTrace.from_ticks([*ahead, *cut, *up, *again]))
    assert times_s.tolist() == pytest.approx([0.0, 0.1, 0.0])


def test_settling_takes_whole_windows() -> None:
    at_once = [(b, b) for b in [100.0, 70.0] * 9]
    late = [(100.0, 100.0), (70.0, 90.0), (70.0, 80.0), (70.0, 72.0), (70.0, 70.0)]
    rows = enumerate([*at_once, *late], start=1)
    ticks = [tick(float(t_s), budget_w, draw_w, 1) for t_s, (budget_w, draw_w) in rows]
    assert track(ticks, meter_delay_s=0.1)["settle_p95_s"] == 3.0


def test_a_step_is_held_until_the_next_one_or_the_end() -> None:
    flat, steps = [100.0] * 3, [100.0, 70.0, 70.0, 70.0, 100.0, 100.0]
    assert held_s(stepped(steps, steps)) == 2.0
    assert held_s(stepped(steps[:4], steps[:4])) == 3.0
    assert held_s(stepped(flat, flat)) is None


def test_a_run_without_ticks_has_nothing_to_score() -> None:
    tracking = track([], meter_delay_s=1.0)
    assert tracking["relative_mae"] is None
    assert tracking["over_budget_j"] is None
    assert tracking["over_budget_s"] is None
    assert tracking["max_over_fraction"] is None
    assert tracking["settle_p95_s"] is None
    assert tracking["pjm_score"] is None


def test_a_made_run_is_scored_within_its_noise(made_run: MadeRun) -> None:
    tracking = track(made_run.ticks, meter_delay_s=1.0)
    assert tracking["relative_mae"] == pytest.approx(0.03, abs=0.02)
    assert tracking["meter_delay_s"] == 1.0
    assert tracking["pjm_score"] is not None
    assert tracking["pjm_score"] > 0.9


def test_a_run_is_scored_like_the_sum_of_its_halves() -> None:
    ticks = make_run(600, 2).ticks
    whole = track(ticks, 0.0)
    parts = [track(ticks[:300], 0.0), track(ticks[300:], 0.0)]
    joules = sum(part["over_budget_j"] or 0.0 for part in parts)
    assert whole["over_budget_j"] == pytest.approx(joules)


def test_what_the_sleeping_fleet_draws_above_a_budget_of_nothing_is_counted_apart() -> None:
    serving = [replace(tick(float(s), 100.0, 98.0, 4), bound=None) for s in range(1, 11)]
    asleep = [replace(tick(float(s), 0.0, 30.0, 4), bound="floor") for s in range(11, 31)]
    found = track([*serving, *asleep], 0.0)
    assert found["relative_mae"] == pytest.approx(0.02)
    assert found["at_floor_s"] == 20.0
    assert found["over_budget_j"] == found["over_at_floor_j"] == pytest.approx(600.0)


def test_what_a_fleet_draws_above_its_budget_in_its_range_is_not_at_the_floor() -> None:
    over = [replace(tick(float(s), 50.0, 60.0, 4), bound=None) for s in range(1, 11)]
    found = track(over, 0.0)
    assert found["over_budget_j"] == pytest.approx(100.0)
    assert found["over_at_floor_j"] == 0.0
