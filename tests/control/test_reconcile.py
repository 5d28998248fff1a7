from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fixtures.fake_fleet import FakeFleet

from steppe.control.plan import Plan
from steppe.control.reconcile import (
    LEAST_ROTATION_S,
    Action,
    Drain,
    DrainRule,
    Retune,
    Sleep,
    Start,
    Wake,
    reconcile,
)
from steppe.control.state import Learned, Observation, ReplicaObservation, ReplicaState
from steppe.frontier.pareto import Frontier
from steppe.roofline.point import OperatingPoint

LONGEST_S = 8.0
USABLE = (ReplicaState.AWAKE, ReplicaState.ASLEEP, ReplicaState.DRAINING)

states = st.lists(st.sampled_from(ReplicaState), min_size=1, max_size=6)
points = st.builds(
    OperatingPoint,
    clock_mhz=st.sampled_from([600, 1200, 1800]),
    batch_limit=st.sampled_from([1, 4, 16]),
    output_tps=st.just(1.0),
    draw_w=st.floats(20, 100),
)


def rule_of(frontier: Frontier) -> DrainRule:
    return DrainRule(frontier.floor, LONGEST_S)


def plan_of(*mix: OperatingPoint, draining: int = 0) -> Plan:
    falling = tuple(sorted(mix, key=lambda point: -point.draw_w))
    return Plan(falling, sum(point.draw_w for point in mix), draining)


def with_limits(observation: Observation, *pairs: tuple[int, int]) -> Observation:
    replicas = (
        replace(r, clock_mhz=clock, batch_limit=batch)
        for r, (clock, batch) in zip(observation.replicas, pairs, strict=True)
    )
    return replace(observation, replicas=tuple(replicas))


def carry_out(fleet: Any, plan: Plan, rule: DrainRule) -> list[Action]:
    """Carry out a plan; what a freezing replica holds up comes in a second tick."""
    actions: list[Action] = []
    for _ in range(2):
        taken = reconcile(fleet.observation, plan, rule)
        fleet.apply(taken)
        actions += taken
    return actions


@settings(deadline=None)
@given(states, st.lists(points, max_size=6), st.integers(0, 3))
def test_a_plan_that_holds_yields_nothing_more(
    frontier: Frontier,
    found: list[ReplicaState],
    mix: list[OperatingPoint],
    draining: int,
) -> None:
    fleet = FakeFleet.of(found, 0.0)
    plan = plan_of(*mix[: fleet.observation.count(*USABLE)], draining=draining)
    carry_out(fleet, plan, rule_of(frontier))
    again = reconcile(fleet.observation, plan, rule_of(frontier))
    assert again == []


@settings(deadline=None)
@given(states, st.lists(points, max_size=6), st.integers(0, 3))
def test_the_actions_lead_to_the_plan(
    frontier: Frontier,
    found: list[ReplicaState],
    mix: list[OperatingPoint],
    draining: int,
) -> None:
    fleet = FakeFleet.of(found, 0.0)
    plan = plan_of(*mix[: fleet.observation.count(*USABLE)], draining=draining)
    carry_out(fleet, plan, rule_of(frontier))
    observation = fleet.observation
    awake = [r for r in observation.replicas if r.state == ReplicaState.AWAKE]
    assert sorted((r.clock_mhz, r.batch_limit) for r in awake) == sorted(
        (point.clock_mhz, point.batch_limit) for point in plan.awake
    )
    assert observation.count(ReplicaState.DRAINING) <= plan.draining
    assert observation.count(ReplicaState.GONE) == 0


@settings(deadline=None)
@given(states, st.lists(points, max_size=6), st.integers(0, 3))
def test_what_lowers_the_draw_comes_first(
    frontier: Frontier,
    found: list[ReplicaState],
    mix: list[OperatingPoint],
    draining: int,
) -> None:
    fleet = FakeFleet.of(found, 0.0)
    plan = plan_of(*mix[: fleet.observation.count(*USABLE)], draining=draining)
    order = {Sleep: 0, Drain: 1, Retune: 2, Wake: 3, Start: 4}
    kinds = [
        order[type(action)] for action in reconcile(fleet.observation, plan, rule_of(frontier))
    ]
    assert kinds == sorted(kinds)


def test_cuts_of_clock_and_batch_come_before_rises(frontier: Frontier) -> None:
    observation = FakeFleet.of([ReplicaState.AWAKE] * 4, 0.0).observation
    observation = with_limits(observation, (1200, 4), (1200, 4), (1800, 16), (600, 1))
    mix = (
        OperatingPoint(1800, 16, 4.0, 90.0),
        OperatingPoint(1200, 16, 3.0, 60.0),
        OperatingPoint(1200, 1, 2.0, 40.0),
        OperatingPoint(600, 4, 1.0, 30.0),
    )
    retunes = reconcile(observation, plan_of(*mix), rule_of(frontier))
    batches = [(action.clock_mhz, action.batch_limit) for action in retunes]  # type: ignore[union-attr]
    assert batches == [(1200, 1), (600, 4), (1200, 16)]


def test_a_draining_replica_serves_again_rather_than_that_another_wakes(frontier: Frontier) -> None:
    states = [ReplicaState.AWAKE, ReplicaState.ASLEEP, ReplicaState.DRAINING]
    fleet = FakeFleet.of(states, 0.0)
    small, large = (OperatingPoint(clock, 1, 1.0, clock / 20) for clock in (600, 1200))
    plan = plan_of(small, large, draining=1)
    fleet.apply(actions := reconcile(fleet.observation, plan, rule_of(frontier)))
    assert actions == [Retune("replica-2", 1200, 1)]
    assert reconcile(fleet.observation, plan, rule_of(frontier)) == []


def test_a_draining_replica_that_is_not_wanted_goes_on_draining(frontier: Frontier) -> None:
    observation = FakeFleet.of([ReplicaState.AWAKE, ReplicaState.DRAINING], 0.0).observation
    plan = plan_of(OperatingPoint(600, 1, 1.0, 30.0), draining=1)
    assert reconcile(observation, plan, rule_of(frontier)) == []


@settings(deadline=None)
@given(st.floats(0, 20))
def test_a_drain_that_took_too_long_ends_in_sleep(frontier: Frontier, waited_s: float) -> None:
    observation = FakeFleet.of([ReplicaState.DRAINING] * 2, 0.0).observe(waited_s)
    busy = replace(observation.replicas[1], outstanding=3)
    actions = reconcile(
        replace(observation, replicas=(busy,)), plan_of(draining=1), rule_of(frontier)
    )
    assert actions == ([Sleep(busy.id)] if waited_s >= LONGEST_S else [])
    quiet = replace(observation, waiting=0, replicas=(busy,))
    assert reconcile(quiet, plan_of(draining=1), rule_of(frontier)) == []


def test_a_replica_without_requests_sleeps_at_once(frontier: Frontier) -> None:
    observation = FakeFleet.of([ReplicaState.AWAKE, ReplicaState.DRAINING], 0.0).observation
    idle = tuple(replace(replica, outstanding=0) for replica in observation.replicas)
    actions = reconcile(replace(observation, replicas=idle), plan_of(draining=2), rule_of(frontier))
    assert actions == [Sleep("replica-1"), Sleep("replica-0")]


def test_without_room_to_drain_a_busy_replica_is_frozen_with_its_requests(
    frontier: Frontier,
) -> None:
    observation = FakeFleet.of([ReplicaState.AWAKE], 0.0).observation
    busy = (replace(observation.replicas[0], outstanding=5),)
    actions = reconcile(replace(observation, replicas=busy), plan_of(), rule_of(frontier))
    assert actions == [Sleep("replica-0")]


def test_the_replica_with_the_fewest_requests_leaves(frontier: Frontier) -> None:
    observation = FakeFleet.of([ReplicaState.AWAKE] * 3, 0.0).observation  # 1, 2 and 3 outstanding
    point = OperatingPoint(600, 1, 1.0, 20.0)
    actions = reconcile(observation, plan_of(point, point, draining=1), rule_of(frontier))
    assert actions == [Drain("replica-0", frontier.floor.clock_mhz, frontier.floor.batch_limit)]


def test_a_sleeping_replica_with_requests_takes_the_place_of_an_awake_one_without(
    frontier: Frontier,
) -> None:
    observation = FakeFleet.of([ReplicaState.AWAKE, ReplicaState.ASLEEP], 0.0).observation
    plan = plan_of(OperatingPoint(600, 1, 1.0, 20.0))
    busy, frozen = observation.replicas[0], replace(observation.replicas[1], outstanding=1)
    assert reconcile(replace(observation, replicas=(busy, frozen)), plan, rule_of(frontier)) == []
    idle = replace(busy, outstanding=0)
    actions = reconcile(replace(observation, replicas=(idle, frozen)), plan, rule_of(frontier))
    assert actions == [Sleep("replica-0"), Wake("replica-1", 600, 1)]


def test_the_larger_points_go_to_replicas_that_run_larger_ones_already(frontier: Frontier) -> None:
    small, large, full = (OperatingPoint(c, 16, c, c / 20) for c in (600, 1200, 1800))
    observation = with_limits(
        FakeFleet.of([ReplicaState.AWAKE] * 2, 0.0).observation, (600, 16), (1200, 16)
    )
    assert reconcile(observation, plan_of(large, small), rule_of(frontier)) == []
    actions = reconcile(observation, plan_of(full, small), rule_of(frontier))
    assert actions == [Retune("replica-1", 1800, 16)]


def test_of_replicas_at_the_same_point_the_fuller_keeps_the_larger_limit(
    frontier: Frontier,
) -> None:
    small, large = (OperatingPoint(600, batch, batch, batch / 2) for batch in (100, 200))
    observation = with_limits(
        FakeFleet.of([ReplicaState.AWAKE] * 2, 0.0).observation, (600, 200), (600, 200)
    )
    held = [
        replace(replica, outstanding=outstanding)
        for replica, outstanding in zip(observation.replicas, (100, 200), strict=True)
    ]
    observation, plan = replace(observation, replicas=tuple(held)), plan_of(large, small)
    assert reconcile(observation, plan, rule_of(frontier)) == [Retune("replica-0", 600, 100)]


def test_a_replica_that_is_gone_is_started(frontier: Frontier) -> None:
    observation = FakeFleet.of([ReplicaState.GONE, ReplicaState.STARTING], 0.0).observation
    assert reconcile(observation, plan_of(), rule_of(frontier)) == [Start("replica-0")]


def test_a_sleeping_replica_is_not_touched_by_an_empty_plan(frontier: Frontier) -> None:
    observation: Observation = FakeFleet.of([ReplicaState.ASLEEP], 0.0).observation
    assert isinstance(observation.replicas[0], ReplicaObservation)
    assert reconcile(observation, plan_of(), rule_of(frontier)) == []


def test_on_scarce_power_replicas_with_requests_rotate(frontier: Frontier) -> None:
    both = FakeFleet.of([ReplicaState.AWAKE, ReplicaState.ASLEEP], 1000.0).observation
    frozen = replace(both.replicas[1], outstanding=1, since_s=0.0)
    rule = rule_of(frontier)
    plan = Plan((frontier.floor,), frontier.floor.draw_w + frontier.asleep_w)
    early = replace(both, now_s=LEAST_ROTATION_S - 1.0, replicas=(both.replicas[0], frozen))
    assert not any(isinstance(action, Wake) for action in reconcile(early, plan, rule))
    late = replace(early, now_s=LEAST_ROTATION_S)
    assert reconcile(late, plan, rule) == [Sleep(both.replicas[0].id)]


def test_the_next_one_wakes_once_the_step_of_the_one_before_is_over(frontier: Frontier) -> None:
    fleet = FakeFleet.of([ReplicaState.AWAKE, ReplicaState.ASLEEP], 1000.0)
    busy, frozen = (replace(r, outstanding=3, since_s=0.0) for r in fleet.observation.replicas)
    fleet.observation = replace(fleet.observation, now_s=LEAST_ROTATION_S, replicas=(busy, frozen))
    rule = rule_of(frontier)
    fleet.apply(reconcile(fleet.observation, plan_of(frontier.floor), rule))
    fleet.observation = replace(fleet.observation, now_s=LEAST_ROTATION_S + 1.0)
    wake = Wake(frozen.id, frontier.floor.clock_mhz, frontier.floor.batch_limit)
    assert reconcile(fleet.observation, plan_of(frontier.floor), rule) == [wake]


def test_another_rises_once_the_step_of_the_one_that_is_frozen_is_over(frontier: Frontier) -> None:
    fleet = FakeFleet.of([ReplicaState.AWAKE] * 3, 0.0)  # 1, 2 and 3 outstanding
    small, large = (OperatingPoint(clock, 1, 1.0, clock / 20) for clock in (900, 1200))
    plan, rule = plan_of(large, small), rule_of(frontier)
    fleet.apply(first := reconcile(fleet.observation, plan, rule))
    assert first == [Sleep("replica-0"), Retune("replica-1", 900, 1)]
    assert reconcile(fleet.observation, plan, rule) == [Retune("replica-2", 1200, 1)]


def test_the_replica_that_was_frozen_first_is_next_in_rotation_one_at_a_time(
    frontier: Frontier,
) -> None:
    states = [ReplicaState.AWAKE] * 2 + [ReplicaState.ASLEEP] * 2
    observation = FakeFleet.of(states, 1000.0).observation
    since_s = (0.0, 0.0, 5.0, 1.0)
    replicas = tuple(
        replace(r, outstanding=3, since_s=s)
        for r, s in zip(observation.replicas, since_s, strict=True)
    )
    fleet = FakeFleet.of(states, 1000.0)
    fleet.observation = replace(observation, now_s=LEAST_ROTATION_S + 12.0, replicas=replicas)
    rule = rule_of(frontier)
    actions = carry_out(fleet, plan_of(frontier.floor, frontier.floor), rule)
    woken = [action.replica for action in actions if isinstance(action, Wake)]
    assert woken == [replicas[3].id]
    assert sum(isinstance(action, Sleep) for action in actions) == 1


def test_a_rotation_is_not_cut_short_by_the_next(frontier: Frontier) -> None:
    observation = FakeFleet.of([ReplicaState.AWAKE, ReplicaState.ASLEEP], 1000.0).observation
    just_woken = replace(observation.replicas[0], outstanding=3, since_s=15.0)
    frozen = replace(observation.replicas[1], outstanding=3, since_s=0.0)
    observation = replace(observation, now_s=LEAST_ROTATION_S + 12.0, replicas=(just_woken, frozen))
    rule = rule_of(frontier)
    actions = reconcile(observation, plan_of(frontier.floor), rule)
    assert not any(isinstance(action, Wake | Sleep) for action in actions)


@pytest.mark.parametrize("holds", [True, False])
def test_batch_limits_bind_running_requests_only_if_the_plan_holds(
    frontier: Frontier, holds: bool
) -> None:
    observation = FakeFleet.of([ReplicaState.AWAKE] * 2, 0.0).observation
    observation = with_limits(observation, (1800, 16), (1800, 16))
    low = OperatingPoint(1800, 4, 1.0, 30.0)
    plan = replace(plan_of(low, low), holds=holds)
    retunes = reconcile(observation, plan, rule_of(frontier))
    assert set(retunes) == {Retune(f"replica-{i}", 1800, 4, holds) for i in range(2)}


def test_tokens_of_a_step_are_set_where_they_differ_and_then_stay(frontier: Frontier) -> None:
    observation = FakeFleet.of([ReplicaState.AWAKE, ReplicaState.ASLEEP], 0.0).observation
    observation = with_limits(observation, (1800, 16), (600, 1))
    point = OperatingPoint(1800, 16, 1.0, 30.0)
    plan = replace(plan_of(point, point), learned=Learned(tokens_per_step=1024))
    actions = reconcile(observation, plan, rule_of(frontier))
    assert actions == [
        Retune("replica-0", 1800, 16, tokens_per_step=1024),
        Wake("replica-1", 1800, 16, tokens_per_step=1024),
    ]
    replicas = tuple(
        replace(
            replica, state=ReplicaState.AWAKE, clock_mhz=1800, batch_limit=16, tokens_per_step=1024
        )
        for replica in observation.replicas
    )
    observation = replace(observation, replicas=replicas)
    assert reconcile(observation, plan, rule_of(frontier)) == []
    back = reconcile(observation, replace(plan, learned=Learned()), rule_of(frontier))
    assert set(back) == {Retune(f"replica-{i}", 1800, 16) for i in range(2)}


def test_among_sleeping_replicas_the_one_with_the_best_cache_wakes(frontier: Frontier) -> None:
    fleet = FakeFleet.of([ReplicaState.ASLEEP] * 3, 200.0)
    observation = fleet.observe(0.0)
    worth = zip(observation.replicas, (1.0, 9.0, 3.0), strict=True)
    replicas = tuple(replace(replica, cache_worth=value) for replica, value in worth)
    actions = reconcile(
        replace(observation, replicas=replicas), plan_of(frontier.full), rule_of(frontier)
    )
    assert [a.replica for a in actions if isinstance(a, Wake)] == [replicas[1].id]


def test_among_idle_replicas_the_one_with_the_worst_cache_sleeps(frontier: Frontier) -> None:
    fleet = FakeFleet.of([ReplicaState.AWAKE] * 2, 200.0)
    observation = fleet.observe(0.0)
    worth = zip(observation.replicas, (1.0, 9.0), strict=True)
    replicas = tuple(replace(r, cache_worth=value, outstanding=0) for r, value in worth)
    actions = reconcile(
        replace(observation, replicas=replicas), plan_of(frontier.full), rule_of(frontier)
    )
    assert [a.replica for a in actions if isinstance(a, Sleep)] == [replicas[0].id]
