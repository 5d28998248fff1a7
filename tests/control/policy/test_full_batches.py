"""When `follow_budget` prefers full batches to smaller ones that give a little more."""

from __future__ import annotations

import math
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from tests.fixtures.fake_fleet import FakeFleet

from steppe.control.plan import AwakeBounds, Plan
from steppe.control.policy.goals import MOVING_GAIN, STAYING_GAIN, FollowBudget, largest_batches
from steppe.control.policy.planner import Need, Planner, PlanTarget
from steppe.control.state import Observation, ReplicaState
from steppe.frontier.pareto import Frontier
from steppe.roofline.point import OperatingPoint

AWAKE, ASLEEP = ReplicaState.AWAKE, ReplicaState.ASLEEP
LARGEST = 16


def best(frontier: Frontier, observation: Observation, need: Need | None = None) -> Plan:
    """Return the best plan with batches of any size."""
    target = PlanTarget(need, AwakeBounds(0, len(observation.replicas)))
    planner = Planner(frontier, frontier.drain.draw_w)
    return planner.plan(observation, observation.gpu_budget_w, target)


def follow(frontier: Frontier) -> FollowBudget:
    return FollowBudget(frontier, frontier.drain.draw_w)


def is_full(plan: Plan) -> bool:
    return {point.batch_limit for point in plan.awake} == {LARGEST}


@given(
    states=st.lists(st.sampled_from([AWAKE, ASLEEP]), min_size=1, max_size=6),
    watts=st.floats(0, 500),
)
def test_full_batches_give_nearly_as_much_and_draw_no_more_than_the_budget(
    frontier: Frontier, states: list[ReplicaState], watts: float
) -> None:
    observation = FakeFleet.of(states, watts).observation
    plan, any_size = follow(frontier).decide(observation), best(frontier, observation)
    gain = STAYING_GAIN if len(plan.awake) == states.count(AWAKE) else MOVING_GAIN
    assert plan == any_size or (is_full(plan) and plan.draw_w <= watts + 1e-6)
    assert plan.output_tps >= any_size.output_tps * (1 - gain) - 1e-6


def test_some_replicas_sleep_instead_of_small_batches_in_all(frontier: Frontier) -> None:
    watts = 10 * largest_batches(frontier).floor.draw_w - 5.0
    observation = FakeFleet.of([AWAKE] * 10, watts).observation
    assert not is_full(best(frontier, observation))
    assert is_full(follow(frontier).decide(observation))
    # The budget is stronger than the bounds.
    assert is_full(follow(frontier).best_plan(observation, watts, AwakeBounds(10, 10)))


@given(watts=st.floats(0, 400), least=st.integers(0, 6))
def test_as_many_stay_awake_as_the_watts_cover(watts: float, least: int) -> None:
    slow, fast = OperatingPoint(600, 16, 100.0, 50.0), OperatingPoint(1200, 16, 150.0, 60.0)
    frontier = Frontier.of([slow, fast], asleep_w=16.0, idle_w=20.0, source="modelled")
    planner = Planner(frontier, slow.draw_w)
    fewer_fast = planner.within(watts, 6, AwakeBounds(0, 6))
    plan = planner.within(watts, 6, AwakeBounds(least, 6))
    fit = max(0, math.floor((watts - 6 * 16.0) / (slow.draw_w - 16.0)))
    assert len(plan.awake) == max(len(fewer_fast.awake), min(least, fit))
    assert plan.draw_w <= watts + 1e-6 or not plan.feasible


def test_where_both_are_about_as_good_the_number_of_awake_replicas_stays(
    frontier: Frontier,
) -> None:
    watts = 2 * largest_batches(frontier).floor.draw_w - 0.5
    for awake in (1, 2):
        states = [AWAKE] * awake + [ASLEEP] * (2 - awake)
        observation = FakeFleet.of(states, watts).observation
        assert len(best(frontier, observation).awake) == 2
        assert len(follow(frontier).decide(observation).awake) == awake


def test_while_no_request_waits_the_plan_is_the_cheapest(frontier: Frontier) -> None:
    observation = replace(FakeFleet.of([AWAKE], 300.0, waiting=0).observation, demand_tps=20.0)
    cheapest = best(frontier, observation, Need(25.0, observation.outstanding))
    assert not is_full(cheapest)
    assert follow(frontier).decide(observation) == cheapest


def test_each_clock_has_the_largest_batch_of_the_frontier(frontier: Frontier) -> None:
    full = largest_batches(frontier)
    clocks = {point.clock_mhz for point in frontier.candidates}
    assert {point.batch_limit for point in full.candidates} == {LARGEST}
    assert {point.clock_mhz for point in full.candidates} == clocks
