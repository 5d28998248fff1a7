from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fixtures.fake_fleet import FakeFleet

from steppe.control.policy.goals import FollowBudget
from steppe.control.pools import Pool, PoolObservation, PoolPlan, ShareBudget
from steppe.control.reconcile import DrainRule, reconcile
from steppe.control.state import ReplicaState
from steppe.frontier.pareto import Frontier

AWAKE, ASLEEP = ReplicaState.AWAKE, ReplicaState.ASLEEP
states = st.lists(st.sampled_from(ReplicaState), min_size=1, max_size=5)


def pool_of(frontier: Frontier, name: str = "model", value: float = 1.0) -> Pool:
    return Pool(name, frontier, frontier.floor.draw_w, {"standard": value})


def decide(budget_w: float, *pools: PoolObservation) -> tuple[PoolPlan, ...]:
    names = {one.pool.name: FollowBudget(one.pool.frontier, one.pool.drain_w) for one in pools}
    return ShareBudget(names).decide(budget_w, pools)


@settings(deadline=None)
@given(st.lists(states, min_size=1, max_size=3), st.floats(0, 1000), st.integers(0, 1))
def test_the_pools_together_never_draw_more_than_the_budget(
    frontier: Frontier, found: list[list[ReplicaState]], budget_w: float, waiting: int
) -> None:
    pools = [
        PoolObservation(
            pool_of(frontier, f"model-{i}"),
            FakeFleet.of(each, 0.0, waiting).observation,
            {"standard": 100.0},
        )
        for i, each in enumerate(found)
    ]
    plans = decide(budget_w, *pools)
    assert sum(plan.pool_budget_w for plan in plans) <= budget_w + 1e-6
    for plan in plans:
        assert plan.plan.draw_w <= plan.pool_budget_w + 1e-6 or not plan.plan.feasible


@pytest.mark.parametrize("replicas", [3, 40])
def test_one_pool_alone_gets_the_plan_that_it_would_make_itself(
    frontier: Frontier, replicas: int
) -> None:
    budget_w = 0.6 * replicas * frontier.full.draw_w
    observation = FakeFleet.of([AWAKE] * replicas, budget_w).observation
    (plan,) = decide(budget_w, PoolObservation(pool_of(frontier), observation, {"standard": 100.0}))
    alone = FollowBudget(frontier, frontier.floor.draw_w).decide(observation)
    assert plan.pool_budget_w == pytest.approx(budget_w)
    assert plan.plan == alone


def test_the_pool_with_the_dearer_tokens_is_served_first(frontier: Frontier) -> None:
    observation = FakeFleet.of([AWAKE] * 2, 0.0).observation
    dear = PoolObservation(pool_of(frontier, "dear", 1000.0), observation, {})
    cheap = PoolObservation(pool_of(frontier, "cheap", 1.0), observation, {})
    tight_w = 2 * frontier.full.draw_w + 2 * frontier.asleep_w
    plans = decide(tight_w, cheap, dear)
    assert plans[0].plan.awake == ()
    assert plans[1].plan.awake == (frontier.full, frontier.full)


def test_a_pool_without_work_leaves_its_watts_to_the_others(frontier: Frontier) -> None:
    busy = PoolObservation(
        pool_of(frontier, "busy"), FakeFleet.of([AWAKE] * 2, 0.0).observation, {}
    )
    quiet = FakeFleet.of([AWAKE] * 2, 0.0, waiting=0).observation
    idle = replace(quiet, replicas=tuple(replace(r, outstanding=0) for r in quiet.replicas))
    rest = PoolObservation(pool_of(frontier, "rest"), replace(idle, demand_tps=0.0), {})
    budget_w = 2 * frontier.full.draw_w + frontier.floor.draw_w + frontier.asleep_w
    plans = decide(budget_w, busy, rest)
    assert plans[0].plan.awake == (frontier.full, frontier.full)


def test_below_their_floor_the_pools_share_what_there_is(frontier: Frontier) -> None:
    small = PoolObservation(pool_of(frontier, "small"), FakeFleet.of([ASLEEP], 0.0).observation, {})
    large = PoolObservation(
        pool_of(frontier, "large"), FakeFleet.of([ASLEEP] * 3, 0.0).observation, {}
    )
    plans = decide(2 * frontier.asleep_w, small, large)
    assert [plan.pool_budget_w for plan in plans] == pytest.approx(
        [0.5 * frontier.asleep_w, 1.5 * frontier.asleep_w]
    )
    assert not any(plan.plan.feasible for plan in plans)


def test_each_pool_is_reconciled_by_itself(frontier: Frontier) -> None:
    fleet = FakeFleet.of([AWAKE, ASLEEP], 0.0)
    (plan,) = decide(1000.0, PoolObservation(pool_of(frontier), fleet.observation, {}))
    rule = DrainRule(frontier.floor, 8.0)
    fleet.apply(reconcile(fleet.observation, plan.plan, rule))
    assert fleet.observation.counts.awake == 2
    assert reconcile(fleet.observation, plan.plan, rule) == []
