from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fixtures.fake_fleet import DelayedScaleDown, FakeFleet

from steppe.control.plan import AwakeBounds, Plan
from steppe.control.policy.goals import FollowBudget, decide
from steppe.control.policy.planner import Planner, PlanTarget
from steppe.control.state import Observation, ReplicaState
from steppe.frontier.pareto import Frontier
from steppe.roofline.point import OperatingPoint

AWAKE, ASLEEP = ReplicaState.AWAKE, ReplicaState.ASLEEP


@dataclass
class FixedNumber:
    """The same number of awake replicas, whatever there is to do."""

    awake: int

    def best_plan(self, observation: Observation, usable_w: float, bounds: AwakeBounds) -> Plan:
        point = OperatingPoint(600, 4, 10.0, 50.0)
        awake = bounds.nearest(self.awake)
        return Plan((point,) * awake, 50.0 * awake)


@dataclass(frozen=True)
class MostTokens:
    """The most tokens, with batches of any size."""

    frontier: Frontier

    def best_plan(self, observation: Observation, usable_w: float, bounds: AwakeBounds) -> Plan:
        planner = Planner(self.frontier, self.frontier.drain.draw_w)
        return planner.plan(observation, usable_w, PlanTarget(None, bounds))


def delayed(frontier: Frontier, dwell_s: float = 10.0) -> DelayedScaleDown:
    return DelayedScaleDown(FollowBudget(frontier, drain_w=frontier.floor.draw_w), dwell_s)


def test_the_number_of_awake_replicas_stays_for_the_dwell_time(frontier: Frontier) -> None:
    policy = delayed(frontier)
    wide_w = 2 * frontier.full.draw_w
    # The first change starts the dwell; then the fleet could go back at once, and does not.
    assert len(policy.decide(FakeFleet.of([AWAKE, ASLEEP], wide_w).observation).awake) == 2
    quiet = replace(FakeFleet.of([AWAKE] * 2, wide_w).observation, waiting=0, demand_tps=1.0)
    for now_s in (1.0, 5.0, 9.9):
        assert len(policy.decide(replace(quiet, now_s=now_s)).awake) == 2
    assert len(policy.decide(replace(quiet, now_s=10.0)).awake) == 1


@settings(deadline=None)
@given(budget_w=st.floats(0, 200), now_s=st.floats(0, 9))
def test_the_budget_is_kept_during_the_dwell_time(
    frontier: Frontier, budget_w: float, now_s: float
) -> None:
    policy = delayed(frontier)
    policy.decide(FakeFleet.of([AWAKE, ASLEEP], 2 * frontier.full.draw_w).observation)
    plan = policy.decide(replace(FakeFleet.of([AWAKE] * 2, budget_w).observation, now_s=now_s))
    assert plan.draw_w <= budget_w or not plan.feasible
    if 2 * frontier.floor.draw_w <= budget_w:
        assert len(plan.awake) == 2


def test_a_fleet_that_is_all_asleep_wakes_without_delay(frontier: Frontier) -> None:
    policy = delayed(frontier)
    asleep = FakeFleet.of([ASLEEP] * 2, 0.0).observation
    policy.decide(FakeFleet.of([AWAKE] * 2, 0.0).observation)
    plan = policy.decide(replace(asleep, now_s=1.0, gpu_budget_w=150.0))
    assert plan.awake


def test_a_replica_that_is_planned_and_not_awake_yet_counts_as_awake() -> None:
    goal = FixedNumber(4)
    policy = DelayedScaleDown(goal, dwell_s=10.0)
    policy.decide(FakeFleet.of([AWAKE] * 4 + [ASLEEP], 400.0).observation)
    goal.awake = 2
    turning = replace(FakeFleet.of([AWAKE] * 3 + [ASLEEP] * 2, 400.0).observation, now_s=1.0)
    assert len(policy.decide(turning).awake) == 4


def test_a_replica_does_not_wake_for_a_tiny_gain(frontier: Frontier) -> None:
    policy = delayed(frontier)
    states = [AWAKE] * 40 + [ASLEEP]
    need = replace(FakeFleet.of(states, 41 * frontier.full.draw_w).observation, waiting=0)
    kept = policy.decide(replace(need, demand_tps=20 * frontier.full.output_tps))
    assert len(kept.awake) <= 40


def test_a_few_replicas_of_many_do_not_sleep_for_lack_of_work(frontier: Frontier) -> None:
    observation = FakeFleet.of([AWAKE] * 10, 0.0).observation
    goal, found_of_nine = MostTokens(frontier), set()
    for share in np.linspace(0.2, 1.0, 81):
        budget_w = share * 10 * frontier.full.draw_w
        at = replace(observation, gpu_budget_w=float(budget_w))
        wanted = len(decide(goal, at).awake)
        found = len(DelayedScaleDown(goal, dwell_s=0.0).decide(at).awake)
        if wanted == 9:
            found_of_nine.add(found)
        else:
            assert found in (wanted, 9)
    assert found_of_nine == {10}


def test_replicas_that_are_not_needed_leave_one_by_one_until_none_is_left(
    frontier: Frontier,
) -> None:
    policy = delayed(frontier, dwell_s=0.0)
    demand_tps, budget_w = 10 * frontier.full.output_tps, 41 * frontier.full.draw_w
    awake, draining = 40, 0
    all_awake = FakeFleet.of([AWAKE] * awake, budget_w, waiting=0).observation
    everyone = replace(all_awake, demand_tps=demand_tps)
    wanted = len(FollowBudget(frontier, frontier.floor.draw_w).decide(everyone).awake)
    assert wanted <= 32
    for _ in range(80):
        states = [AWAKE] * awake + [ReplicaState.DRAINING] * draining
        states += [ASLEEP] * (40 - len(states))
        fleet = FakeFleet.of(states, budget_w, waiting=0)
        observation = replace(fleet.observation, demand_tps=demand_tps)
        left = awake - len(policy.decide(observation).awake)
        assert draining + left <= 1
        awake, draining = awake - left, left
    assert awake == wanted


def test_a_replica_that_was_needed_again_stays_for_the_dwell_time_while_others_leave() -> None:
    goal = FixedNumber(20)
    policy = DelayedScaleDown(goal, dwell_s=10.0)
    for now_s, wanted in ((0.0, 20), (1.0, 36), (2.0, 20)):
        goal.awake = wanted
        policy.decide(replace(FakeFleet.of([AWAKE] * 40, 400.0).observation, now_s=now_s))
    awake = 40
    for now_s in range(3, 11):
        fewer = FakeFleet.of([AWAKE] * awake + [ASLEEP] * (40 - awake), 400.0).observation
        awake = len(policy.decide(replace(fewer, now_s=float(now_s))).awake)
    assert awake == 36


@pytest.mark.parametrize(("draw_w", "is_woken"), [(90.0, True), (99.5, False)])
def test_a_replica_wakes_for_a_lower_draw_alone(draw_w: float, is_woken: bool) -> None:
    point = OperatingPoint(600, 4, 10.0, 50.0)

    class Lower:
        def best_plan(self, observation: Observation, usable_w: float, bounds: AwakeBounds) -> Plan:
            if bounds.most == 2:
                return Plan((point,) * 2, draw_w)
            return Plan((replace(point, output_tps=20.0),), 100.0)

    plan = DelayedScaleDown(Lower(), dwell_s=10.0).decide(
        FakeFleet.of([AWAKE, ASLEEP], 400.0).observation
    )
    assert len(plan.awake) == (2 if is_woken else 1)


def test_replicas_that_cost_too_many_tokens_sleep_without_delay(frontier: Frontier) -> None:
    policy = delayed(frontier)
    policy.decide(FakeFleet.of([AWAKE] * 10, 10 * frontier.full.draw_w).observation)
    low = replace(FakeFleet.of([AWAKE] * 10, 5 * frontier.full.draw_w).observation, now_s=1.0)
    plan = policy.decide(low)
    kept = policy.goal.best_plan(low, low.gpu_budget_w, AwakeBounds(10, 10))
    assert plan.output_tps >= kept.output_tps
