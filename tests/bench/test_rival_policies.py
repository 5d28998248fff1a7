"""What other systems do about power, as the benchmarks compare it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fixtures.fake_fleet import FakeFleet, modelled_frontier

import rival_autoscalers as autoscalers
import rival_policies as rivals
from bench_fleets import Size, make_bench
from policies import RIVALS
from rival_plans import points_for
from steppe.config import ControlSection
from steppe.control.plan import AwakeBounds, Plan
from steppe.control.policy.goals import Goal, decide
from steppe.control.policy.make import make_policy
from steppe.control.policy.policy import PoolFacts
from steppe.control.state import Learned, ReplicaState
from steppe.roofline.lengths import RequestLengths
from steppe.roofline.step_costs import CostFactors

AWAKE, ASLEEP = ReplicaState.AWAKE, ReplicaState.ASLEEP
FRONTIER = modelled_frontier()
budgets = st.floats(0, 400)


def facts(policy: str = "follow_budget") -> PoolFacts:
    control = ControlSection(policy=policy)
    return PoolFacts(FRONTIER, 4, 1, control, 0.2, 300.0, lambda *_: ())


def plan_at(goal: Goal, budget_w: float) -> Plan:
    return decide(goal, FakeFleet.of([AWAKE] * 4, budget_w).observation)


@pytest.mark.parametrize("name", RIVALS)
def test_every_rival_runs_as_a_policy_of_ones_own(name: str) -> None:
    policy = make_policy(facts(RIVALS[name]))
    plan = policy.decide(FakeFleet.of([AWAKE] * 4, 1500.0).observation)
    assert plan.awake
    assert {point.batch_limit for point in plan.awake} == {FRONTIER.full.batch_limit}


@given(budgets)
def test_clocks_alone_keep_every_replica_awake_with_a_full_batch(budget_w: float) -> None:
    plan, batch = plan_at(rivals.ClocksGoal(FRONTIER), budget_w), FRONTIER.full_batch
    assert len(plan.awake) == 4
    assert {point.batch_limit for point in plan.awake} == {FRONTIER.full.batch_limit}
    if 4 * batch.floor.draw_w <= budget_w:
        assert plan.draw_w <= budget_w + 1e-6
    else:
        assert plan.awake == (batch.floor,) * 4


@given(budgets, st.floats(1, 90))
def test_a_power_cap_is_the_same_for_all_and_never_below_the_least_of_the_board(
    budget_w: float, least_cap_w: float
) -> None:
    plan = plan_at(rivals.PowerCapGoal(FRONTIER, least_cap_w), budget_w)
    (point,) = set(plan.awake)
    batch = FRONTIER.full_batch
    cap_w = max(least_cap_w, budget_w / 4)
    faster = [p for p in batch.points if p.output_tps > point.output_tps]
    assert point.draw_w <= cap_w or point == batch.floor
    assert all(p.draw_w > cap_w for p in faster)


@given(budgets)
def test_replicas_alone_wake_as_many_at_the_full_point_as_the_budget_covers(
    budget_w: float,
) -> None:
    plan = plan_at(rivals.ReplicasGoal(FRONTIER), budget_w)
    assert set(plan.awake) <= {FRONTIER.full}
    awake = len(plan.awake)
    steady_w = awake * FRONTIER.full.draw_w + (4 - awake) * FRONTIER.asleep_w
    assert steady_w <= budget_w + 1e-9 or not awake
    one_more_w = steady_w + FRONTIER.full.draw_w - FRONTIER.asleep_w
    assert awake == 4 or one_more_w > budget_w - 1e-9


@given(watts=budgets, awake=st.integers(0, 4))
def test_clocks_and_replicas_together_give_more_than_either(watts: float, awake: int) -> None:
    observation = FakeFleet.of([AWAKE] * awake + [ASLEEP] * (4 - awake), watts).observation
    plan = decide(rivals.ClocksAndReplicasGoal(FRONTIER), observation)
    assert {point.batch_limit for point in plan.awake} <= {FRONTIER.full.batch_limit}
    assert plan.draw_w <= watts or not plan.feasible
    for other in (rivals.ReplicasGoal(FRONTIER), rivals.ClocksGoal(FRONTIER)):
        alone = decide(other, observation)
        if alone.draw_w <= watts and not alone.draining:
            assert plan.output_tps >= alone.output_tps * (1 - 1e-9)


def test_bounds_keep_fewer_replicas_awake_but_never_more_than_the_budget_covers() -> None:
    goal, watts = rivals.ReplicasGoal(FRONTIER), 3 * FRONTIER.full.draw_w + FRONTIER.asleep_w
    observation = FakeFleet.of([AWAKE] * 4, watts).observation
    plans = [goal.best_plan(observation, watts, AwakeBounds(n, n)) for n in (1, 3, 4)]
    assert [len(plan.awake) for plan in plans] == [1, 3, 3]


@pytest.mark.parametrize(("budget_w", "awake"), [(0.0, 0), (699.0, 0), (1500.0, 2), (1e4, 4)])
def test_the_nameplate_rule_counts_every_replica_at_its_power_limit(
    budget_w: float, awake: int
) -> None:
    observation = FakeFleet.of([AWAKE] * 4, budget_w).observation
    assert rivals.Nameplate(facts()).decide(observation).awake == (FRONTIER.full,) * awake


@pytest.mark.parametrize(("waiting", "awake"), [(0, 1), (13, 2), (1000, 4)])
def test_reactive_scaling_follows_the_requests_whatever_the_budget(
    waiting: int, awake: int
) -> None:
    observation = FakeFleet.of([AWAKE] * 4, 1.0, waiting).observation
    idle = tuple(replace(replica, outstanding=0) for replica in observation.replicas)
    plan = decide(
        autoscalers.ReactiveGoal(FRONTIER, 0.8, FRONTIER.full.clock_mhz),
        replace(observation, replicas=idle),
    )
    assert plan.awake == (FRONTIER.full,) * awake


def test_replicas_that_leave_may_finish() -> None:
    states = [AWAKE] * 3 + [ReplicaState.DRAINING]
    observation = FakeFleet.of(states, 3 * FRONTIER.full.draw_w).observation
    plan = decide(rivals.ReplicasGoal(FRONTIER), observation)
    assert (len(plan.awake), plan.draining) == (2, 2)


def test_rivals_know_the_points_for_the_requests_that_come_now() -> None:
    frontier = make_bench(Size("8b", 1, 10.0)).frontier
    conversation = replace(
        FakeFleet.of([AWAKE] * 4, 1e4).observation, lengths=RequestLengths(1155.0, 211.0)
    )
    long_prompts = replace(conversation, lengths=RequestLengths(4000.0, 50.0))
    usual, found = (points_for(frontier, seen) for seen in (conversation, long_prompts))
    assert usual.full.output_tps == pytest.approx(frontier.full.output_tps, rel=0.1)
    assert found.full.output_tps < usual.full.output_tps / 3
    clocks_mhz = {point.clock_mhz for point in frontier.candidates}
    assert {point.clock_mhz for point in found.candidates} <= clocks_mhz
    unknown = replace(conversation, lengths=None)
    assert points_for(frontier, unknown) == frontier


def test_what_was_learned_of_the_costs_changes_the_points_of_rivals() -> None:
    frontier = make_bench(Size("8b", 1, 10.0)).frontier
    seen = replace(
        FakeFleet.of([AWAKE] * 4, 1e4).observation, lengths=RequestLengths(1155.0, 211.0)
    )
    twice_as_slow = Learned(CostFactors(2.0, 2.0, 2.0, 2.0))
    slow = points_for(frontier, seen.with_learned(twice_as_slow)).full
    full = points_for(frontier, seen).full
    assert slow.output_tps == pytest.approx(full.output_tps / 2)
    assert slow.draw_w == pytest.approx(full.draw_w)
