from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.fixtures.fake_fleet import FakeFleet

from steppe.control.plan import AwakeBounds, Plan
from steppe.control.policy.goals import SPARE_SHARE, FollowBudget
from steppe.control.reconcile import DrainRule, reconcile
from steppe.control.state import Observation, ReplicaObservation, ReplicaState
from steppe.frontier.pareto import Frontier
from steppe.roofline.point import OperatingPoint

points = st.builds(
    OperatingPoint,
    clock_mhz=st.sampled_from([600, 1200, 1800]),
    batch_limit=st.sampled_from([1, 4, 16]),
    output_tps=st.floats(1, 1000),
    draw_w=st.floats(20, 100),
)
frontiers = st.lists(points, min_size=1, max_size=6).map(
    lambda found: Frontier.of(found, asleep_w=10, idle_w=15, source="modelled")
)
replicas = st.lists(
    st.builds(
        ReplicaObservation,
        id=st.uuids().map(str),
        state=st.sampled_from(ReplicaState),
        since_s=st.just(0.0),
        clock_mhz=st.just(600),
        batch_limit=st.just(1),
        outstanding=st.integers(0, 3),
    ),
    max_size=5,
).map(tuple)
observations = st.builds(
    Observation,
    now_s=st.just(0.0),
    gpu_budget_w=st.floats(0, 500),
    draw_w=st.none(),
    demand_tps=st.floats(0, 2000),
    waiting=st.integers(0, 1),
    replicas=replicas,
)


def policy_of(frontier: Frontier) -> FollowBudget:
    return FollowBudget(frontier, drain_w=frontier.floor.draw_w)


def draw_of(plan: Plan, observation: Observation, frontier: Frontier) -> float:
    """Return what the fleet draws once it is on the plan, W."""
    usable = observation.count(ReplicaState.AWAKE, ReplicaState.ASLEEP)
    leaving = min(
        plan.draining, usable - len(plan.awake) + observation.count(ReplicaState.DRAINING)
    )
    asleep = usable + observation.count(ReplicaState.DRAINING) - len(plan.awake) - leaving
    coming = observation.count(ReplicaState.STARTING, ReplicaState.GONE)
    return (
        sum(point.draw_w for point in plan.awake)
        + leaving * frontier.floor.draw_w
        + asleep * frontier.asleep_w
        + coming * frontier.idle_w
    )


@settings(deadline=None)
@given(frontiers, observations)
def test_a_feasible_plan_never_draws_more_than_the_budget(
    frontier: Frontier, observation: Observation
) -> None:
    plan = policy_of(frontier).decide(observation)
    assert plan.draw_w == pytest.approx(draw_of(plan, observation, frontier))
    if plan.feasible:
        assert plan.draw_w <= observation.gpu_budget_w + 1e-6


@settings(deadline=None)
@given(frontiers, observations)
def test_an_infeasible_plan_has_no_replica_awake(
    frontier: Frontier, observation: Observation
) -> None:
    plan = policy_of(frontier).decide(observation)
    if not plan.feasible:
        assert plan.awake == ()
        assert plan.draining == 0


@settings(deadline=None)
@given(frontiers, observations)
def test_a_plan_counts_only_on_replicas_that_can_serve(
    frontier: Frontier, observation: Observation
) -> None:
    plan = policy_of(frontier).decide(observation)
    states = (ReplicaState.AWAKE, ReplicaState.ASLEEP, ReplicaState.DRAINING)
    assert len(plan.awake) + plan.draining <= observation.count(*states)


@pytest.mark.parametrize("waiting", [0, 9])
def test_a_budget_of_zero_puts_all_to_sleep_and_says_that_it_cannot_be(
    frontier: Frontier, waiting: int
) -> None:
    observation = FakeFleet.of([ReplicaState.AWAKE] * 2, 0.0, waiting).observation
    plan = policy_of(frontier).decide(observation)
    assert (plan.awake, plan.feasible) == ((), False)


def test_a_budget_that_just_holds_a_sleeping_fleet_is_feasible(frontier: Frontier) -> None:
    observation = FakeFleet.of([ReplicaState.AWAKE] * 2, 2 * frontier.asleep_w).observation
    plan = policy_of(frontier).decide(observation)
    assert (plan.awake, plan.feasible) == ((), True)


def test_a_large_budget_runs_every_replica_at_the_full_point(frontier: Frontier) -> None:
    observation = FakeFleet.of([ReplicaState.AWAKE, ReplicaState.ASLEEP], 1000.0).observation
    assert policy_of(frontier).decide(observation).awake == (frontier.full, frontier.full)


@settings(deadline=None)
@given(st.floats(0, 200), st.floats(0, 1200))
def test_without_a_queue_the_plan_covers_the_demand_and_little_more(
    frontier: Frontier, budget_w: float, demand_tps: float
) -> None:
    observation = FakeFleet.of([ReplicaState.AWAKE, ReplicaState.ASLEEP], budget_w).observation
    most = policy_of(frontier).decide(observation)
    asked = Observation(0.0, budget_w, None, demand_tps, 0, observation.replicas)
    plan = policy_of(frontier).decide(asked)
    assert plan.output_tps >= min(most.output_tps, demand_tps * (1 + SPARE_SHARE)) - 1e-6
    assert plan.draw_w <= most.draw_w + 1e-6


def test_without_any_demand_one_replica_waits_at_the_floor(frontier: Frontier) -> None:
    full = FakeFleet.of([ReplicaState.AWAKE] * 3, 1000.0, waiting=0).observation
    quiet = tuple(replace(replica, outstanding=0) for replica in full.replicas)
    observation = Observation(0.0, 1000.0, None, 0.0, 0, quiet)
    assert policy_of(frontier).decide(observation).awake == (frontier.floor,)


@given(st.integers(0, 40))
def test_requests_that_run_are_not_held_while_nothing_waits(
    frontier: Frontier, outstanding: int
) -> None:
    both = FakeFleet.of([ReplicaState.AWAKE] * 2, 1000.0, waiting=0).observation
    busy = (replace(both.replicas[0], outstanding=outstanding), both.replicas[1])
    plan = policy_of(frontier).decide(Observation(0.0, 1000.0, None, 0.0, 0, busy))
    most = 2 * frontier.full.batch_limit
    assert plan.slots >= min(most, outstanding + both.replicas[1].outstanding)


def test_requests_inside_a_sleeping_replica_wake_it(frontier: Frontier) -> None:
    observation = FakeFleet.of([ReplicaState.ASLEEP], 1000.0, waiting=0).observation
    frozen = (replace(observation.replicas[0], outstanding=1),)
    assert policy_of(frontier).decide(replace(observation, replicas=frozen)).awake == (
        frontier.full,
    )


def test_room_is_left_for_replicas_that_start_or_are_about_to(frontier: Frontier) -> None:
    alone = FakeFleet.of([ReplicaState.AWAKE], 100.0).observation
    policy = policy_of(frontier)
    for state in (ReplicaState.STARTING, ReplicaState.GONE):
        observation = FakeFleet.of([ReplicaState.AWAKE, state], 100.0).observation
        assert policy.decide(observation).draw_w >= frontier.idle_w + frontier.floor.draw_w
        tight_w = frontier.idle_w + frontier.floor.draw_w - 1
        tight = FakeFleet.of([ReplicaState.AWAKE, state], tight_w).observation
        assert policy.decide(tight).awake == ()
    assert policy.decide(alone).awake == (frontier.full,)


@pytest.mark.parametrize("state", [ReplicaState.STARTING, ReplicaState.GONE])
def test_a_replica_that_starts_counts_with_what_it_draws(
    frontier: Frontier, state: ReplicaState
) -> None:
    observation = FakeFleet.of([ReplicaState.AWAKE, state], 1000.0).observation
    awake, coming = observation.replicas
    draws_w = [
        policy_of(frontier)
        .decide(replace(observation, replicas=(awake, replace(coming, starting_w=starting_w))))
        .draw_w
        for starting_w in (0.0, frontier.idle_w, frontier.idle_w + 70.0)
    ]
    full_w = frontier.full.draw_w + frontier.idle_w
    assert draws_w == pytest.approx([full_w, full_w, full_w + 70.0])


def test_replicas_that_must_leave_get_room_to_finish_where_there_is_some(
    frontier: Frontier,
) -> None:
    both = FakeFleet.of([ReplicaState.AWAKE] * 2, 1000.0, waiting=0).observation
    wide = Observation(0.0, 1000.0, None, 0.0, 0, both.replicas)
    plan = policy_of(frontier).decide(wide)
    assert (len(plan.awake), plan.draining) == (1, 1)
    tight = Observation(0.0, frontier.floor.draw_w + 17.0, None, 0.0, 0, both.replicas)
    plan = policy_of(frontier).decide(tight)
    assert (len(plan.awake), plan.draining) == (1, 0)


def test_a_replica_that_has_almost_drained_leaves_its_watts_to_others() -> None:
    one, full, fast = (
        OperatingPoint(600, 2, 10.0, 30.0),
        OperatingPoint(600, 16, 40.0, 60.0),
        OperatingPoint(900, 16, 80.0, 110.0),
    )
    frontier = Frontier.of([one, full, fast], asleep_w=10.0, idle_w=15.0, source="modelled")
    observation = FakeFleet.of([ReplicaState.AWAKE, ReplicaState.DRAINING], 140.0).observation
    serving, leaving = observation.replicas
    plans = []
    for held in (16, 1):
        replicas = (serving, replace(leaving, outstanding=held))
        draining, one_serves = replace(observation, replicas=replicas), AwakeBounds(1, 1)
        plans.append(FollowBudget(frontier, 60.0).best_plan(draining, 140.0, one_serves))
    assert plans == [Plan((full,), 120.0, draining=1), Plan((fast,), 140.0, draining=1)]


def test_replicas_that_drain_serve_again_as_soon_as_there_is_power_for_them(
    frontier: Frontier,
) -> None:
    policy, states = policy_of(frontier), [ReplicaState.AWAKE] + [ReplicaState.DRAINING] * 3
    plan = policy.decide(FakeFleet.of(states, 4 * frontier.full.draw_w).observation)
    assert (plan.awake, plan.draining) == ((frontier.full,) * 4, 0)


def test_of_replicas_that_drain_no_more_serve_again_than_are_wanted(frontier: Frontier) -> None:
    states = [ReplicaState.AWAKE] + [ReplicaState.DRAINING] * 3
    fleet = FakeFleet.of(states, 4 * frontier.full.draw_w, waiting=0)
    observation = replace(fleet.observation, demand_tps=1.3 * frontier.full.output_tps)
    plan = policy_of(frontier).decide(observation)
    assert (len(plan.awake), plan.draining) == (3, 1)
    assert plan.draw_w <= observation.gpu_budget_w
    fleet.apply(reconcile(observation, plan, DrainRule(frontier.floor, 8.0)))
    assert [fleet.observation.count(s) for s in (ReplicaState.AWAKE, ReplicaState.DRAINING)] == [
        3,
        1,
    ]


def test_drains_that_the_budget_no_longer_holds_are_given_up_before_the_fleet_is_infeasible(
    frontier: Frontier,
) -> None:
    states = [ReplicaState.ASLEEP, ReplicaState.DRAINING]
    observation = FakeFleet.of(states, 2 * frontier.asleep_w + 1).observation
    plan = policy_of(frontier).decide(observation)
    assert (plan.feasible, plan.draining) == (True, 0)


@settings(deadline=None)
@given(
    st.lists(st.sampled_from(ReplicaState), min_size=1, max_size=6),
    st.lists(st.integers(0, 16), min_size=6, max_size=6),
    st.floats(16, 450),
)
@example(
    [ReplicaState.AWAKE] * 3 + [ReplicaState.DRAINING] * 3 + [ReplicaState.ASLEEP],
    [1, 2, 3, 1, 4, 4, 0],
    165.1,
)
def test_calling_replicas_back_never_costs_tokens(
    frontier: Frontier, states: list[ReplicaState], held: list[int], budget_w: float
) -> None:
    observation = FakeFleet.of(states, budget_w).observation
    replicas = tuple(
        replace(replica, outstanding=requests)
        for replica, requests in zip(observation.replicas, held, strict=False)
    )
    observation = replace(observation, replicas=replicas)
    as_they_are = AwakeBounds(0, observation.count(ReplicaState.AWAKE))
    policy = FollowBudget(frontier, frontier.drain.draw_w)
    plan, kept = policy.decide(observation), policy.best_plan(observation, budget_w, as_they_are)
    assert plan.output_tps >= kept.output_tps * (1 - 1e-9)
    assert plan.draw_w <= budget_w * (1 + 1e-9) or not plan.feasible
