from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from steppe.control.plan import AwakeBounds, Plan
from steppe.control.policy.full_batches import MOVING_GAIN, STAYING_GAIN, FullBatches, full_batches
from steppe.control.policy.planner import Planner
from steppe.control.policy.policies import FollowBudget
from steppe.control.state import ReplicaState
from steppe.frontier.pareto import Frontier
from steppe.roofline.point import OperatingPoint

AWAKE, ASLEEP = ReplicaState.AWAKE, ReplicaState.ASLEEP
LARGEST = 16


def policies(frontier: Frontier) -> tuple[FullBatches, FollowBudget]:
    """Return the policy and the one that it asks."""
    drain_w = frontier.drain.draw_w
    inner = FollowBudget(frontier, drain_w)
    return FullBatches(inner, FollowBudget(full_batches(frontier), drain_w)), inner


def is_full(plan: Plan) -> bool:
    return {point.batch_limit for point in plan.awake} == {LARGEST}


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    states=st.lists(st.sampled_from([AWAKE, ASLEEP]), min_size=1, max_size=6),
    watts=st.floats(0, 500),
)
def test_full_batches_give_nearly_as_much_and_draw_no_more_than_the_budget(
    frontier: Frontier, fleets: Any, states: list[ReplicaState], watts: float
) -> None:
    policy, inner = policies(frontier)
    observation = fleets.of(states, watts).observation
    plan, best = policy.decide(observation), inner.decide(observation)
    stays = len(plan.awake) == states.count(AWAKE)
    gain = STAYING_GAIN if stays else MOVING_GAIN
    assert plan == best or (is_full(plan) and plan.draw_w <= watts + 1e-6)
    assert plan.output_tps >= best.output_tps * (1 - gain) - 1e-6


def test_replicas_sleep_rather_than_all_get_small_batches(frontier: Frontier, fleets: Any) -> None:
    policy, inner = policies(frontier)
    observation = fleets.of(
        [AWAKE] * 10, 10 * full_batches(frontier).floor.draw_w - 5.0
    ).observation
    assert not is_full(inner.decide(observation))
    assert is_full(policy.decide(observation))
    assert is_full(policy.decide_among(observation, AwakeBounds(10, 10)))  # the budget is stronger


@settings(deadline=None)
@given(watts=st.floats(0, 400), least=st.integers(0, 6))
def test_of_more_than_the_budget_holds_as_many_stay_awake_as_it_does(
    watts: float, least: int
) -> None:
    slow, fast = OperatingPoint(600, 16, 100.0, 50.0), OperatingPoint(1200, 16, 150.0, 60.0)
    frontier = Frontier.of([slow, fast], asleep_w=16.0, idle_w=20.0, source="modelled")
    planner = Planner(frontier, slow.draw_w)
    best = planner.within(watts, 6, AwakeBounds(0, 6))  # fewer of the fast ones
    plan = planner.within(watts, 6, AwakeBounds(least, 6))
    fit = max(0, math.floor((watts - 6 * 16.0) / (slow.draw_w - 16.0)))
    assert len(plan.awake) == max(len(best.awake), min(least, fit))
    assert plan.draw_w <= watts + 1e-6 or not plan.feasible


def test_where_both_are_about_as_good_as_many_stay_awake_as_are(
    frontier: Frontier, fleets: Any
) -> None:
    policy, inner = policies(frontier)
    watts = 2 * full_batches(frontier).floor.draw_w - 0.5
    one, two = (
        fleets.of([AWAKE, ASLEEP], watts).observation,
        fleets.of([AWAKE] * 2, watts).observation,
    )
    assert len(inner.decide(one).awake) == len(inner.decide(two).awake) == 2
    assert len(policy.decide(one).awake) == 1
    assert len(policy.decide(two).awake) == 2


def test_where_nobody_waits_the_plan_stays_the_cheapest(frontier: Frontier, fleets: Any) -> None:
    policy, inner = policies(frontier)
    observation = replace(fleets.of([AWAKE], 300.0, waiting=0).observation, demand_tps=20.0)
    assert not is_full(inner.decide(observation))
    assert policy.decide(observation) == inner.decide(observation)


def test_each_clock_has_the_largest_batch_that_the_frontier_has_for_it(frontier: Frontier) -> None:
    full = full_batches(frontier)
    clocks = {point.clock_mhz for point in frontier.candidates}
    assert {point.batch_limit for point in full.candidates} == {LARGEST}
    assert {point.clock_mhz for point in full.candidates} == clocks
