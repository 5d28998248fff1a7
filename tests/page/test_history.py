"""The points that a gateway keeps for its charts."""

from __future__ import annotations

import pytest
from tests.page.ticks import fleet_state

from steppe.page.history import MOST_POINTS, History
from steppe.page.points import COLUMNS, point_of_tick, together


def add(history: History, t_s: float, draw_w: float = 400.0, tokens: int = 800) -> None:
    state = fleet_state(t_s)
    tick = {**state["tick"], **state["power"], "t_s": t_s, "draw_w": draw_w}
    history.add(
        {**tick, "energy_j": draw_w, "output_tokens": tokens}, state["plan"], at_s=state["at"]
    )


def test_a_tick_is_shown_as_it_is_in_the_record() -> None:
    state = fleet_state(5.0)
    point = point_of_tick({**state["tick"], **state["power"], "t_s": 5.0}, state["plan"], 1.0, 9.0)
    assert dict(zip(COLUMNS, point.row(), strict=True)) == {
        "t_s": 5.0,
        "at_s": 9.0,
        "supply_w": 612.5,
        "budget_w": 500.0,
        "draw_w": 414.25,
        "most_draw_w": 414.25,
        "awake": 2,
        "batch_limit": 32,
        "clock_mhz": 1050.0,
        "output_tps": 800.0,
        "demand_tps": 900.0,
        "waiting": 7,
        "running": 32,
        "joules_per_token": 0.5178,
    }


def test_two_spans_together_have_the_mean_over_time_and_the_highest_draw() -> None:
    state = fleet_state(1.0)
    tick = {**state["tick"], **state["power"], "t_s": 1.0, "energy_j": 100.0, "draw_w": 100.0}
    short = point_of_tick(tick, state["plan"], 1.0, 1.0)
    later = {**tick, "t_s": 4.0, "energy_j": 900.0, "draw_w": 300.0}
    both = together(short, point_of_tick(later, state["plan"], 3.0, 4.0))
    assert (both.t_s, both.width_s, both.energy_j) == (4.0, 4.0, 1000.0)
    assert both.draw_w == pytest.approx(250.0)
    assert both.most_draw_w == 300.0
    assert both.joules_per_token == pytest.approx(1000.0 / 1600)


def test_the_sums_of_a_run_do_not_depend_on_the_points_that_are_kept() -> None:
    history = History(span_s=600.0)
    for second in range(1, 4001):
        add(history, float(second), draw_w=600.0 if second % 10 == 0 else 400.0)
    assert history.totals.span_s == pytest.approx(4000.0)
    assert history.totals.energy_j == pytest.approx(3600 * 400.0 + 400 * 600.0)
    assert history.totals.output_tokens == 4000 * 800
    assert history.totals.over_budget_j == pytest.approx(400 * 100.0)


def test_the_whole_run_keeps_few_points_that_reach_its_begin_and_its_peaks() -> None:
    history = History(span_s=600.0)
    for second in range(1, 10_001):
        add(history, float(second), draw_w=900.0 if second == 37 else 400.0)
    run = history.shown()["run"]
    assert MOST_POINTS // 2 < len(run["t_s"]) <= 2 * MOST_POINTS
    assert run["t_s"][-1] == 10_000.0
    assert run["t_s"][0] < 30.0
    assert max(run["most_draw_w"]) == 900.0


def test_a_short_run_is_shown_as_finely_as_its_ticks() -> None:
    history = History(span_s=3600.0)
    for second in range(1, 601):
        add(history, float(second))
    assert len(history.shown()["recent"]["t_s"]) == 600


def test_the_recent_points_reach_back_over_their_span() -> None:
    history = History(span_s=3600.0)
    for second in range(1, 8001):
        add(history, float(second))
    recent = history.shown()["recent"]
    assert len(recent["t_s"]) == MOST_POINTS
    assert recent["t_s"][-1] - recent["t_s"][0] == pytest.approx(3600.0, rel=0.01)


def test_a_tick_that_came_before_is_not_added_again() -> None:
    history = History(span_s=60.0)
    add(history, 1.0)
    add(history, 1.0)
    add(history, 0.5)
    assert history.totals.output_tokens == 800
    assert len(history.shown()["run"]["t_s"]) == 1
