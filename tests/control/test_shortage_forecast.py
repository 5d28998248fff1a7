from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fixtures.fake_fleet import FakeFleet

from steppe.control.shortage_forecast import (
    UPDATE_S,
    PowerNeeds,
    Shortage,
    ShortageMonitor,
    ShortagePoints,
    first_shortage,
    forecast_shortages,
    power_needs,
)
from steppe.control.state import ReplicaState
from steppe.frontier.pareto import Frontier

AWAKE, ASLEEP, GONE = ReplicaState.AWAKE, ReplicaState.ASLEEP, ReplicaState.GONE
NEEDS = PowerNeeds(floor_w=40.0, serving_w=60.0, demand_w=100.0)


@dataclass
class Weather:
    """A budget that is `watts` and then `later_w`; notes when it was asked."""

    watts: float
    later_w: float
    turns_s: float
    asked_s: list[float] = field(default_factory=list)

    def ahead(self, now_s: float, horizon_s: float, step_s: float) -> Sequence[tuple[float, float]]:
        self.asked_s.append(now_s)
        times_s = [now_s + i * step_s for i in range(round(horizon_s / step_s))]
        return [(at_s, self.watts if at_s < self.turns_s else self.later_w) for at_s in times_s]


@pytest.fixture(scope="module")
def points(frontier: Frontier) -> ShortagePoints:
    return ShortagePoints(frontier, frontier)


def test_a_budget_for_all_that_is_asked_has_no_shortage() -> None:
    found = forecast_shortages(NEEDS, [(0.0, 100.0), (60.0, 100.0)])
    assert found.shortages == ()
    assert found.serves_in_s is None


def test_a_budget_below_the_sleeping_fleet_is_short_until_the_forecast_rises() -> None:
    coming = ((100.0, 10.0), (200.0, 5.0), (300.0, 39.0), (400.0, 40.0))
    found = forecast_shortages(NEEDS, coming)
    assert found.floor == Shortage(35.0, 0.0, 300.0)
    assert found.floor.is_here


def test_a_demand_beyond_the_budget_is_told_apart_from_the_floor() -> None:
    found = forecast_shortages(NEEDS, [(0.0, 70.0), (50.0, 101.0)])
    assert found.shortages == (("demand", Shortage(30.0, 0.0, 50.0)),)
    assert found.serves_in_s is None


def test_a_shortage_to_come_is_told_ahead_of_time() -> None:
    found = forecast_shortages(NEEDS, [(0.0, 100.0), (60.0, 1.0), (120.0, 100.0)])
    assert [level for level, _ in found.shortages] == ["floor", "demand"]
    assert found.floor == Shortage(39.0, 60.0, 120.0)
    assert not found.floor.is_here
    assert found.serves_in_s is None, "a replica serves meanwhile"


def test_a_shortage_without_an_end_in_the_forecast_has_none() -> None:
    found = forecast_shortages(NEEDS, [(0.0, 0.0), (10.0, 39.0)])
    assert found.floor == Shortage(40.0, 0.0, None)
    assert found.serves_in_s is None


def test_a_replica_serves_again_before_the_whole_demand_is_served() -> None:
    found = forecast_shortages(NEEDS, [(0.0, 50.0), (10.0, 60.0), (20.0, 100.0)])
    assert found.serves_in_s == 10.0
    assert found.demand == Shortage(50.0, 0.0, 20.0)


def test_a_fleet_needs_its_sleep_then_one_replica_then_the_demand(points: ShortagePoints) -> None:
    full = points.frontier.full
    observation = replace(
        FakeFleet.of([AWAKE, ASLEEP], 0.0).observation, demand_tps=2 * full.output_tps
    )
    found = power_needs(observation, points)
    assert found.floor_w == 2 * points.frontier.asleep_w
    assert found.serving_w == points.frontier.asleep_w + points.frontier.floor.draw_w
    assert found.demand_w == pytest.approx(2 * full.draw_w)


def test_what_no_watts_could_serve_is_no_need_of_power(points: ShortagePoints) -> None:
    observation = replace(FakeFleet.of([AWAKE] * 2, 0.0).observation, demand_tps=1e9)
    assert power_needs(observation, points).demand_w == pytest.approx(
        2 * points.frontier.full.draw_w
    )
    gone = replace(FakeFleet.of([GONE] * 2, 0.0).observation, demand_tps=1e9)
    idle_w = 2 * points.frontier.idle_w
    assert power_needs(gone, points) == PowerNeeds(idle_w, idle_w, idle_w)


def test_without_a_demand_one_replica_is_needed(points: ShortagePoints) -> None:
    quiet = replace(FakeFleet.of([ASLEEP] * 3, 0.0).observation, demand_tps=0.0)
    found = power_needs(quiet, points)
    assert found.demand_w == found.serving_w > found.floor_w


def test_the_demand_is_served_at_points_that_keep_the_slo(frontier: Frontier) -> None:
    timed = Frontier(
        tuple(replace(p, tpot_s=p.batch_limit / p.output_tps) for p in frontier.points),
        frontier.asleep_w,
        frontier.idle_w,
        frontier.source,
    )
    tpots_s = sorted(point.tpot_s for point in timed.points)
    strict, loose = ShortagePoints.of(timed, tpots_s[0]), ShortagePoints.of(timed, tpots_s[-1])
    assert {point.tpot_s for point in strict.kept.points} == {tpots_s[0]}
    assert loose.kept.points == timed.points
    observation = replace(FakeFleet.of([AWAKE] * 2, 0.0).observation, demand_tps=1e9)
    assert power_needs(observation, strict).floor_w == power_needs(observation, loose).floor_w
    assert power_needs(observation, strict).serving_w == power_needs(observation, loose).serving_w


def test_an_slo_that_no_point_keeps_leaves_all_points(frontier: Frontier) -> None:
    slow = replace(frontier, points=tuple(replace(p, tpot_s=9.0) for p in frontier.points))
    assert ShortagePoints.of(slow, 1.0).kept == slow


def test_the_forecast_is_asked_for_once_in_a_while(points: ShortagePoints) -> None:
    weather = Weather(1000.0, 1000.0, 0.0)
    monitor = ShortageMonitor(points, weather.ahead)
    observation = FakeFleet.of([AWAKE] * 2, 1000.0).observation
    for tick in range(11):
        monitor.update(replace(observation, now_s=float(tick)))
    assert sorted(set(weather.asked_s)) == [0.0, UPDATE_S, 2 * UPDATE_S]


def test_the_time_until_a_shortage_runs_down_between_two_forecasts(points: ShortagePoints) -> None:
    monitor = ShortageMonitor(points, Weather(1000.0, 10.0, turns_s=600.0).ahead)
    observation = FakeFleet.of([AWAKE] * 2, 1000.0).observation
    found = [monitor.update(replace(observation, now_s=float(tick))).floor for tick in range(4)]
    assert [shortage and shortage.begins_in_s for shortage in found] == [600.0, 599.0, 598.0, 597.0]


def test_a_budget_that_fails_without_warning_is_forecast_anew(points: ShortagePoints) -> None:
    weather = Weather(1000.0, 1000.0, 0.0)
    monitor = ShortageMonitor(points, weather.ahead)
    observation = FakeFleet.of([AWAKE] * 2, 1000.0).observation
    monitor.update(observation)
    weather.watts = weather.later_w = 10.0
    found = monitor.update(replace(observation, now_s=1.0, gpu_budget_w=10.0))
    assert found.floor == Shortage(2 * points.frontier.asleep_w - 10.0, 0.0, None)


def test_a_step_in_the_next_minutes_is_seen_to_a_few_seconds(points: ShortagePoints) -> None:
    monitor = ShortageMonitor(points, Weather(10.0, 1000.0, turns_s=33.0).ahead)
    found = monitor.update(FakeFleet.of([ASLEEP] * 2, 10.0).observation)
    assert found.serves_in_s == 35.0


def test_what_others_draw_is_off_the_budget_now_and_in_the_forecast(points: ShortagePoints) -> None:
    serving_w = points.frontier.asleep_w + points.frontier.floor.draw_w
    monitor = ShortageMonitor(
        points, Weather(serving_w + 29.0, serving_w + 30.0, turns_s=100.0).ahead
    )
    found = monitor.update(FakeFleet.of([ASLEEP] * 2, serving_w + 29.0).observation, taken_w=30.0)
    assert (found.serving, found.serves_in_s) == (Shortage(1.0, 0.0, 100.0), 100.0)


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
    assert found.begins_in_s == below[0]
    rises = [at_s for at_s, w in coming if at_s > below[0] and w >= needed_w]
    assert found.ends_in_s == (rises[0] if rises else None)
    inside = [w for at_s, w in coming if below[0] <= at_s < (rises[0] if rises else 1e9)]
    assert found.short_w == needed_w - min(inside)
