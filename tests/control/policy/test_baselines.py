from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steppe.control.plan import AwakeBounds
from steppe.control.policy.baselines import (
    ClocksAndReplicas,
    ClocksOnly,
    FullClocks,
    NameplateCeiling,
    PowerCapOnly,
    Reactive,
    ReplicasOnly,
)
from steppe.control.state import ReplicaState
from steppe.frontier.pareto import Frontier

AWAKE, ASLEEP = ReplicaState.AWAKE, ReplicaState.ASLEEP
budgets = st.floats(0, 400)


def test_full_clocks_ignore_the_budget(frontier: Frontier, fleets: Any) -> None:
    plan = FullClocks(frontier).decide(fleets.of([AWAKE, ASLEEP], 1.0).observation)
    assert plan.awake == (frontier.full, frontier.full)
    assert plan.draw_w == 2 * frontier.full.draw_w
    assert not plan.feasible


@settings(deadline=None)
@given(budgets)
def test_clocks_alone_keep_every_replica_awake_with_a_full_batch(
    frontier: Frontier, fleets: Any, budget_w: float
) -> None:
    plan = ClocksOnly(frontier).decide(fleets.of([AWAKE] * 4, budget_w).observation)
    batch = frontier.full_batch
    assert len(plan.awake) == 4
    assert {point.batch_limit for point in plan.awake} == {frontier.full.batch_limit}
    if 4 * batch.floor.draw_w <= budget_w:
        assert plan.draw_w <= budget_w + 1e-6
    else:
        assert plan.awake == (batch.floor,) * 4


@settings(deadline=None)
@given(budgets, st.floats(1, 90))
def test_a_power_cap_is_the_same_for_all_and_never_below_what_the_board_takes(
    frontier: Frontier, fleets: Any, budget_w: float, least_cap_w: float
) -> None:
    plan = PowerCapOnly(frontier, least_cap_w).decide(fleets.of([AWAKE] * 4, budget_w).observation)
    (point,) = set(plan.awake)
    batch = frontier.full_batch
    cap_w = max(least_cap_w, budget_w / 4)
    faster = [p for p in batch.points if p.output_tps > point.output_tps]
    assert point.draw_w <= cap_w or point == batch.floor
    assert all(p.draw_w > cap_w for p in faster)


@settings(deadline=None)
@given(budgets)
def test_replicas_alone_wake_as_many_at_the_full_point_as_the_budget_holds(
    frontier: Frontier, fleets: Any, budget_w: float
) -> None:
    plan = ReplicasOnly(frontier).decide(fleets.of([AWAKE] * 4, budget_w).observation)
    assert set(plan.awake) <= {frontier.full}
    awake = len(plan.awake)
    steady_w = awake * frontier.full.draw_w + (4 - awake) * frontier.asleep_w
    assert steady_w <= budget_w + 1e-9 or not awake
    one_more_w = steady_w + frontier.full.draw_w - frontier.asleep_w
    assert awake == 4 or one_more_w > budget_w - 1e-9


@given(watts=budgets, awake=st.integers(0, 4))
@settings(deadline=None)
def test_clocks_and_replicas_together_give_more_than_either_and_keep_batches_full(
    frontier: Frontier, fleets: Any, watts: float, awake: int
) -> None:
    observation = fleets.of([AWAKE] * awake + [ASLEEP] * (4 - awake), watts).observation
    plan = ClocksAndReplicas(frontier).decide(observation)
    assert {point.batch_limit for point in plan.awake} <= {frontier.full.batch_limit}
    assert plan.draw_w <= watts or not plan.feasible
    for other in (ReplicasOnly(frontier), ClocksOnly(frontier)):
        alone = other.decide(observation)
        if alone.draw_w <= watts and not alone.draining:
            assert plan.output_tps >= alone.output_tps * (1 - 1e-9)


def test_bounds_keep_fewer_replicas_awake_but_never_more_than_the_budget_holds(
    frontier: Frontier, fleets: Any
) -> None:
    policy = ReplicasOnly(frontier)
    observation = fleets.of([AWAKE] * 4, 3 * frontier.full.draw_w + frontier.asleep_w).observation
    assert [len(policy.decide_among(observation, AwakeBounds(n, n)).awake) for n in (1, 3, 4)] == [
        1,
        3,
        3,
    ]


@pytest.mark.parametrize(("budget_w", "awake"), [(0.0, 0), (99.0, 0), (250.0, 2), (1e4, 4)])
def test_the_nameplate_ceiling_counts_every_replica_at_its_limit(
    frontier: Frontier, fleets: Any, budget_w: float, awake: int
) -> None:
    plan = NameplateCeiling(frontier, 100.0).decide(fleets.of([AWAKE] * 4, budget_w).observation)
    assert plan.awake == (frontier.full,) * awake


def test_a_tiny_nameplate_never_keeps_a_replica_asleep(frontier: Frontier, fleets: Any) -> None:
    observation = fleets.of([AWAKE] * 4, 3000.0).observation
    assert NameplateCeiling(frontier, 1e-310).decide(observation).awake == (frontier.full,) * 4


@pytest.mark.parametrize(("waiting", "awake"), [(0, 1), (13, 2), (1000, 4)])
def test_reactive_scaling_follows_the_requests_whatever_the_budget(
    frontier: Frontier, fleets: Any, waiting: int, awake: int
) -> None:
    observation = fleets.of([AWAKE] * 4, 1.0, waiting).observation
    observation = replace(
        observation, replicas=tuple(replace(r, outstanding=0) for r in observation.replicas)
    )
    assert Reactive(frontier).decide(observation).awake == (frontier.full,) * awake


def test_replicas_that_leave_may_finish(frontier: Frontier, fleets: Any) -> None:
    observation = fleets.of(
        [AWAKE] * 3 + [ReplicaState.DRAINING], 3 * frontier.full.draw_w
    ).observation
    plan = ReplicasOnly(frontier).decide(observation)
    assert (len(plan.awake), plan.draining) == (2, 2)
