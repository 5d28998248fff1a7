"""Which replica is next: frozen ones with requests rotate, draining ones finish or serve again."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fixtures.fake_fleet import FakeFleet

from steppe.control.plan import AwakeBounds, Plan
from steppe.control.policy.goals import FollowBudget
from steppe.control.policy.planner import FINISHING_SHARE
from steppe.control.reconcile import (
    LEAST_ROTATION_S,
    Action,
    Drain,
    DrainRule,
    Retune,
    Sleep,
    Wake,
    reconcile,
)
from steppe.control.state import Observation, ReplicaObservation, ReplicaState
from steppe.frontier.pareto import Frontier

LONGEST_S = LEAST_ROTATION_S
AWAKE, DRAINING, ASLEEP = ReplicaState.AWAKE, ReplicaState.DRAINING, ReplicaState.ASLEEP


@pytest.fixture
def observation() -> Observation:
    """Return one that serves, one that drains, and one frozen with requests for long."""
    observation: Observation = FakeFleet.of([AWAKE, DRAINING, ASLEEP], 0.0).observe(2 * LONGEST_S)
    frozen = replace(observation.replicas[2], outstanding=3)
    draining = replace(observation.replicas[1], since_s=observation.now_s - 1.0)
    return replace(observation, replicas=(observation.replicas[0], draining, frozen))


def actions_for(observation: Observation, frontier: Frontier, draining: int) -> list[Action]:
    """Return what a plan for two replicas yields beside so many that drain."""
    small, large = frontier.floor, frontier.full
    plan = Plan((large, small), large.draw_w + small.draw_w, draining)
    return reconcile(observation, plan, DrainRule(frontier.floor, LONGEST_S))


def test_no_draining_replica_that_serves_again_is_frozen_for_the_next_in_rotation(
    frontier: Frontier, observation: Observation
) -> None:
    actions = actions_for(observation, frontier, draining=0)
    assert Retune("replica-1", frontier.full.clock_mhz, frontier.full.batch_limit) in actions
    assert not any(isinstance(action, Sleep | Wake) for action in actions)


def test_a_frozen_replica_finishes_its_requests_where_the_plan_has_room(
    frontier: Frontier, observation: Observation
) -> None:
    actions = actions_for(observation, frontier, draining=1)
    small = frontier.floor
    assert Drain("replica-2", small.clock_mhz, small.batch_limit) in actions
    assert not any(isinstance(action, Sleep | Wake) for action in actions)


def test_no_frozen_replica_wakes_in_the_tick_in_which_another_is_frozen(frontier: Frontier) -> None:
    observation = FakeFleet.of([AWAKE, AWAKE, ASLEEP], 0.0).observe(1.0)
    frozen = replace(observation.replicas[2], outstanding=3)
    busy = replace(observation, replicas=(*observation.replicas[:2], frozen))
    one = Plan((frontier.floor,), frontier.floor.draw_w)
    rule = DrainRule(frontier.floor, LONGEST_S)
    assert [type(action) for action in reconcile(busy, one, rule)] == [Sleep]
    (drain, _) = reconcile(busy, replace(one, draining=2), rule)
    assert isinstance(drain, Drain)
    assert drain.replica == "replica-0"


@given(budget_w=st.floats(20.0, 400.0), frozen=st.integers(0, 3), requests=st.integers(1, 40))
def test_room_to_finish_keeps_to_the_budget_and_takes_no_replica_from_service(
    frontier: Frontier, budget_w: float, frozen: int, requests: int
) -> None:
    observation = FakeFleet.of([AWAKE] * 3 + [ASLEEP] * 3, budget_w).observation
    asleep = (replace(r, outstanding=requests) for r in observation.replicas[3 : 3 + frozen])
    observation = replace(
        observation,
        replicas=(*observation.replicas[:3], *asleep, *observation.replicas[3 + frozen :]),
    )
    no_frozen = replace(observation, replicas=tuple(_emptied(r) for r in observation.replicas))
    policy, bounds = FollowBudget(frontier, frontier.floor.draw_w), AwakeBounds(0, 3)
    plan, without = (policy.best_plan(s, budget_w, bounds) for s in (observation, no_frozen))
    assert len(plan.awake) == len(without.awake)
    if plan.draining > without.draining:
        assert frozen
        assert plan.draw_w <= budget_w + 1e-9


@pytest.mark.parametrize(("drain", "finish"), [(0, 2), (1, 1), (2, 0), (3, 0)])
def test_draining_replicas_count_among_the_few_that_may_finish_at_once(
    frontier: Frontier, drain: int, finish: int
) -> None:
    assert math.ceil(FINISHING_SHARE * 32) == 2
    states = [AWAKE] * 20 + [DRAINING] * drain + [ASLEEP] * (12 - drain)
    observation = FakeFleet.of(states, 32 * frontier.full.draw_w, waiting=0).observation
    frozen = tuple(
        replace(r, outstanding=1) if r.state == ASLEEP else r for r in observation.replicas
    )
    plan = FollowBudget(frontier, frontier.floor.draw_w).best_plan(
        replace(observation, replicas=frozen), observation.gpu_budget_w, AwakeBounds(20, 20)
    )
    assert plan.draining == drain + finish


def _emptied(replica: ReplicaObservation) -> ReplicaObservation:
    return replica if replica.state == AWAKE else replace(replica, outstanding=0)


def test_a_frozen_replica_comes_next_after_draining_ones_served_again(
    frontier: Frontier, observation: Observation
) -> None:
    fleet = FakeFleet(observation)
    fleet.apply(actions_for(fleet.observation, frontier, draining=0))
    actions = actions_for(fleet.observe(observation.now_s + 1.0), frontier, draining=0)
    assert Sleep("replica-0") in actions


@pytest.mark.parametrize("drain_s", [0.0, 2.0])
def test_a_rotation_lasts_its_time_even_if_leaving_replicas_are_frozen_at_once(
    frontier: Frontier, drain_s: float
) -> None:
    fleet = FakeFleet.of([AWAKE, ASLEEP], 0.0)
    frozen = replace(fleet.observation.replicas[1], outstanding=3)
    fleet.observation = replace(fleet.observation, replicas=(fleet.observation.replicas[0], frozen))
    rule, plan = DrainRule(frontier.floor, drain_s), Plan((frontier.floor,), 0.0)
    woken_s = []
    for now_s in range(100):
        fleet.apply(reconcile(fleet.observe(float(now_s)), plan, rule))
        woken_s += [now_s for action in fleet.actions if isinstance(action, Wake)]
    assert woken_s
    assert all(b - a > LEAST_ROTATION_S for a, b in pairwise(woken_s))


def test_no_replica_gets_the_room_of_a_drain_that_took_too_long(frontier: Frontier) -> None:
    observation = FakeFleet.of([AWAKE, DRAINING], 0.0).observe(LONGEST_S)
    plan = Plan((), 0.0, draining=1)
    actions = reconcile(observation, plan, DrainRule(frontier.floor, LONGEST_S))
    assert actions == [Sleep("replica-1"), Sleep("replica-0")]


@given(budget_w=st.floats(40.0, 200.0), requests=st.integers(0, 40), full=st.integers(1, 16))
def test_the_draw_stays_within_the_budget_when_a_replica_has_drained(
    frontier: Frontier, budget_w: float, requests: int, full: int
) -> None:
    fleet = FakeFleet.of([DRAINING, AWAKE, ASLEEP], budget_w)
    held = (0, full, requests)
    replicas = (
        replace(r, outstanding=n) for r, n in zip(fleet.observation.replicas, held, strict=True)
    )
    fleet.observation = replace(fleet.observation, replicas=tuple(replicas))
    rule = DrainRule(frontier.drain, LONGEST_S)
    plan = FollowBudget(frontier, frontier.drain.draw_w).decide(fleet.observation)
    fleet.apply(reconcile(fleet.observation, plan, rule))
    draws_w = {(p.clock_mhz, p.batch_limit): p.draw_w for p in frontier.candidates}
    drawn_w = sum(
        frontier.asleep_w if r.state == ASLEEP else draws_w[r.clock_mhz, r.batch_limit]
        for r in fleet.observation.replicas
    )
    assert drawn_w <= budget_w + 1e-9 or not plan.feasible


@pytest.mark.parametrize(("finishing", "time_s"), [(False, 2.0), (True, LEAST_ROTATION_S)])
def test_a_replica_that_woke_to_drain_has_a_whole_rotation_for_it(
    frontier: Frontier, finishing: bool, time_s: float
) -> None:
    observation = FakeFleet.of([AWAKE, DRAINING], 0.0).observation
    drains = replace(observation.replicas[1], woke_to_drain=finishing)
    observation = replace(observation, replicas=(observation.replicas[0], drains))
    plan, rule = Plan((frontier.floor,), 0.0, draining=1), DrainRule(frontier.floor, 2.0)
    frozen = [
        Sleep("replica-1") in reconcile(replace(observation, now_s=now_s), plan, rule)
        for now_s in (time_s - 1.0, time_s)
    ]
    assert frozen == [False, True]
