from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from steppe.config import ControlSection
from steppe.control.plan import Plan
from steppe.control.policy.choose import PoolFacts, make_policy
from steppe.control.policy.policies import FollowBudget
from steppe.control.policy.sticky_batch_limits import (
    LEAST_GAIN,
    LEAST_GAIN_OF_ONE,
    StickyBatchLimits,
    at_limit,
)
from steppe.control.state import Observation, ReplicaState
from steppe.frontier.pareto import Frontier
from steppe.roofline.point import OperatingPoint

AWAKE, ASLEEP = ReplicaState.AWAKE, ReplicaState.ASLEEP


def policies(frontier: Frontier) -> tuple[StickyBatchLimits, FollowBudget]:
    """Return the policy and the one that it asks."""
    inner = FollowBudget(frontier, frontier.drain.draw_w)
    return StickyBatchLimits(inner, frontier), inner


def at_limits(observation: Observation, *limits: int) -> Observation:
    """Return what is observation when the replicas have these batch limits."""
    pairs = zip(observation.replicas, limits, strict=True)
    return replace(observation, replicas=tuple(replace(r, batch_limit=limit) for r, limit in pairs))


def limits_of(plan: Plan) -> Counter[int]:
    return Counter(point.batch_limit for point in plan.awake)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    limits=st.lists(st.sampled_from([1, 2, 4, 8, 16, 99]), min_size=1, max_size=6),
    watts=st.floats(0, 500),
    waiting=st.integers(0, 1),
)
def test_a_plan_is_nearly_as_good_as_the_best_and_draws_no_more_than_the_budget(
    frontier: Frontier, fleets: Any, limits: list[int], watts: float, waiting: int
) -> None:
    policy, inner = policies(frontier)
    observation = at_limits(fleets.of([AWAKE] * len(limits), watts, waiting).observation, *limits)
    plan, best = policy.decide(observation), inner.decide(observation)
    assert (len(plan.awake), plan.draining) == (len(best.awake), best.draining)
    least_gain = max(LEAST_GAIN, LEAST_GAIN_OF_ONE / len(limits))
    assert plan.output_tps >= best.output_tps * (1 - least_gain)
    assert plan == best or (plan.draw_w <= watts and limits_of(plan) == Counter(limits))
    draws_w = [point.draw_w for point in plan.awake]
    assert draws_w == sorted(draws_w, reverse=True)


points = st.builds(
    OperatingPoint,
    clock_mhz=st.sampled_from([600, 1200, 1800]),
    batch_limit=st.sampled_from([1, 4, 16]),
    output_tps=st.floats(1, 1000),
    draw_w=st.floats(20, 100),
    tpot_s=st.floats(0.01, 0.2),
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    found=st.lists(points, min_size=1, max_size=9),
    limits=st.lists(st.sampled_from([1, 4, 16]), min_size=1, max_size=3),
    watts=st.floats(0, 300),
)
def test_points_that_others_beat_are_good_enough_to_keep_limits(
    fleets: Any, found: list[OperatingPoint], limits: list[int], watts: float
) -> None:
    frontier = Frontier.of(found, asleep_w=10, idle_w=15, source="modelled")
    facts = PoolFacts(frontier, len(limits), 0.1, 300.0, lambda now_s, *_: [(now_s, watts)])
    observation = at_limits(fleets.of([AWAKE] * len(limits), watts).observation, *limits)
    plan = make_policy(ControlSection(), facts).decide(observation)
    assert not plan.awake or plan.draw_w <= watts


def alternating() -> Frontier:
    """Return points that are nearly as good with one batch limit as with the other."""
    points = [
        OperatingPoint(600 + 90 * step, limit, 100.0 + 6 * step + more, 40.0 + 3 * step + more / 2)
        for step in range(10)
        for limit, more in ((8, 0.0), (16, 0.3))
    ]
    return Frontier.of(points, asleep_w=16.0, idle_w=20.0, source="modelled")


@pytest.mark.parametrize("replicas", [1, 2, 4])
def test_batch_limits_rest_while_a_budget_trembles(fleets: Any, replicas: int) -> None:
    changes = {}
    for policy in policies(alternating()):
        observation, count = fleets.of([AWAKE] * replicas, 0.0).observation, 0
        for watt in range(400):
            budget_w = replicas * 50.0 + watt % 7
            plan = policy.decide(replace(observation, gpu_budget_w=budget_w))
            count += limits_of(plan) != Counter(r.batch_limit for r in observation.replicas)
            observation = at_limits(observation, *limits_of(plan).elements())
        changes[type(policy)] = count
    assert changes[StickyBatchLimits] <= 2
    assert changes[FollowBudget] > 100


def test_where_nobody_waits_and_where_others_wake_the_plan_stays_the_best(
    frontier: Frontier, fleets: Any
) -> None:
    policy, inner = policies(frontier)
    for states, waiting in (([AWAKE] * 2, 0), ([AWAKE, ASLEEP], 9)):
        observation = at_limits(fleets.of(states, 140.0, waiting).observation, 8, 8)
        assert policy.decide(observation) == inner.decide(observation)


@pytest.mark.parametrize("limit", [3, 1000])
def test_a_limit_that_no_point_has_gives_no_frontier(frontier: Frontier, limit: int) -> None:
    assert at_limit(frontier, limit) is None
