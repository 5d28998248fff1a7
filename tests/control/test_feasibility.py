from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steppe.control.feasibility import Shortage, first_shortage, outlook
from steppe.control.state import ReplicaState
from steppe.frontier.pareto import Frontier

AWAKE, ASLEEP = ReplicaState.AWAKE, ReplicaState.ASLEEP


def test_a_budget_for_all_that_is_asked_has_no_shortage(frontier: Frontier, fleets: Any) -> None:
    found = outlook(fleets.of([AWAKE] * 2, 1000.0).seen, frontier, ())
    assert (found.floor, found.demand) == (None, None)
    assert (found.feasible_now, found.short_w, found.until_s) == (True, 0.0, 0.0)


def test_a_budget_below_the_sleeping_fleet_is_short_until_the_forecast_rises(
    frontier: Frontier, fleets: Any
) -> None:
    seen = replace(fleets.of([ASLEEP] * 2, 10.0).seen, demand_tps=0.0, now_s=100.0)
    floor_w = 2 * frontier.asleep_w
    forecast = ((100.0, 10.0), (200.0, floor_w - 30.0), (300.0, floor_w - 1.0), (400.0, floor_w))
    found = outlook(seen, frontier, forecast)
    assert found.floor == Shortage(floor_w - 2.0, 0.0, 300.0)
    assert not found.feasible_now


def test_a_demand_beyond_the_budget_is_told_apart_from_the_floor(
    frontier: Frontier, fleets: Any
) -> None:
    seen = replace(fleets.of([AWAKE] * 2, 60.0).seen, demand_tps=2 * frontier.full.output_tps)
    found = outlook(seen, frontier, ((50.0, 2 * frontier.full.draw_w + 1.0),))
    assert found.floor is None
    assert found.demand is not None
    assert found.short_w == pytest.approx(2 * frontier.full.draw_w - 60.0)
    assert found.until_s == 50.0


def test_a_shortage_to_come_is_told_ahead_of_time(frontier: Frontier, fleets: Any) -> None:
    seen = fleets.of([AWAKE] * 2, 1000.0).seen
    found = outlook(seen, frontier, ((60.0, 1.0), (120.0, 1000.0)))
    assert found.feasible_now
    assert found.floor is not None
    assert (found.floor.begins_s, found.floor.until_s) == (60.0, 120.0)


def test_a_shortage_without_an_end_in_the_forecast_has_none(
    frontier: Frontier, fleets: Any
) -> None:
    found = outlook(fleets.of([ASLEEP], 0.0).seen, frontier, ((10.0, 1.0),))
    assert found.until_s is None


def test_what_no_watts_could_serve_is_no_shortage_of_power(frontier: Frontier, fleets: Any) -> None:
    seen = replace(fleets.of([AWAKE] * 2, 2 * frontier.full.draw_w + 1).seen, demand_tps=1e9)
    assert outlook(seen, frontier, ()).demand is None


@given(st.lists(st.floats(0, 100), min_size=1, max_size=20), st.floats(0, 100))
def test_the_first_shortage_is_where_the_budget_first_falls_below_the_need(
    budgets_w: list[float], needed_w: float
) -> None:
    coming = [(10.0 * i, w) for i, w in enumerate(budgets_w)]
    found = first_shortage(coming, needed_w)
    below = [at_s for at_s, w in coming if w < needed_w]
    if not below:
        assert found is None
        return
    assert found is not None
    assert found.begins_s == below[0]
    rises = [at_s for at_s, w in coming if at_s > below[0] and w >= needed_w]
    assert found.until_s == (rises[0] if rises else None)
    inside = [w for at_s, w in coming if below[0] <= at_s < (rises[0] if rises else 1e9)]
    assert found.short_w == needed_w - min(inside)
