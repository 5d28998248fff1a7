from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steppe.control.plan import AwakeBounds, Plan
from steppe.control.policy.damping import ScaleDownDelay
from steppe.control.policy.policies import BoundedPolicy, FollowBudget
from steppe.control.state import Observation, ReplicaState
from steppe.frontier.pareto import Frontier
from steppe.roofline.point import OperatingPoint

AWAKE, ASLEEP = ReplicaState.AWAKE, ReplicaState.ASLEEP


@dataclass
class Wants(BoundedPolicy):
    """Wants so many replicas awake, whatever there is to do."""

    wanted: int

    def decide_among(self, observation: Observation, bounds: AwakeBounds) -> Plan:
        point = OperatingPoint(600, 4, 10.0, 50.0)
        awake = bounds.nearest(self.wanted)
        return Plan((point,) * awake, 50.0 * awake)


def dwelling(frontier: Frontier, dwell_s: float = 10.0) -> ScaleDownDelay:
    return ScaleDownDelay(FollowBudget(frontier, drain_w=frontier.floor.draw_w), dwell_s)


def test_the_number_of_awake_replicas_holds_for_the_dwell_time(
    frontier: Frontier, fleets: Any
) -> None:
    policy = dwelling(frontier)
    wide_w = 2 * frontier.full.draw_w
    # The first change starts the dwell; then the fleet could go back at once, and does not.
    assert len(policy.decide(fleets.of([AWAKE, ASLEEP], wide_w).observation).awake) == 2
    quiet = replace(fleets.of([AWAKE] * 2, wide_w).observation, waiting=0, demand_tps=1.0)
    for now_s in (1.0, 5.0, 9.9):
        assert len(policy.decide(replace(quiet, now_s=now_s)).awake) == 2
    assert len(policy.decide(replace(quiet, now_s=10.0)).awake) == 1


@settings(deadline=None)
@given(budget_w=st.floats(0, 200), now_s=st.floats(0, 9))
def test_a_dwelling_fleet_still_keeps_to_the_budget(
    frontier: Frontier, fleets: Any, budget_w: float, now_s: float
) -> None:
    policy = dwelling(frontier)
    policy.decide(fleets.of([AWAKE, ASLEEP], 2 * frontier.full.draw_w).observation)
    plan = policy.decide(replace(fleets.of([AWAKE] * 2, budget_w).observation, now_s=now_s))
    assert plan.draw_w <= budget_w or not plan.feasible
    if 2 * frontier.floor.draw_w <= budget_w:
        assert len(plan.awake) == 2


def test_a_fleet_that_sleeps_whole_wakes_without_delay(frontier: Frontier, fleets: Any) -> None:
    policy = dwelling(frontier)
    asleep = fleets.of([ASLEEP] * 2, 0.0).observation
    policy.decide(fleets.of([AWAKE] * 2, 0.0).observation)
    plan = policy.decide(replace(asleep, now_s=1.0, gpu_budget_w=150.0))
    assert plan.awake


def test_a_replica_whose_wake_is_a_tick_behind_anothers_sleep_is_not_given_up(
    fleets: Any,
) -> None:
    inner = Wants(4)
    policy = ScaleDownDelay(inner, dwell_s=10.0)
    policy.decide(fleets.of([AWAKE] * 4 + [ASLEEP], 400.0).observation)
    inner.wanted = 2
    turning = replace(fleets.of([AWAKE] * 3 + [ASLEEP] * 2, 400.0).observation, now_s=1.0)
    assert len(policy.decide(turning).awake) == 4


def test_a_replica_is_not_woken_for_next_to_nothing(frontier: Frontier, fleets: Any) -> None:
    policy = dwelling(frontier)
    states = [AWAKE] * 40 + [ASLEEP]
    need = replace(fleets.of(states, 41 * frontier.full.draw_w).observation, waiting=0)
    kept = policy.decide(replace(need, demand_tps=20 * frontier.full.output_tps))
    assert len(kept.awake) <= 40


def test_a_few_replicas_of_many_are_not_put_to_sleep_for_want_of_use(
    frontier: Frontier, fleets: Any
) -> None:
    observation = fleets.of([AWAKE] * 10, 0.0).observation
    inner, found_of_nine = FollowBudget(frontier, frontier.drain.draw_w), set()
    for share in np.linspace(0.2, 1.0, 81):
        budget_w = share * 10 * frontier.full.draw_w
        at = replace(observation, gpu_budget_w=float(budget_w))
        wanted = len(inner.decide(at).awake)
        found = len(ScaleDownDelay(inner, dwell_s=0.0).decide(at).awake)
        if wanted == 9:
            found_of_nine.add(found)
        else:
            assert found in (wanted, 9)
    assert found_of_nine == {10}


def test_replicas_that_nobody_wants_leave_one_by_one_and_no_fewer_than_all(
    frontier: Frontier, fleets: Any
) -> None:
    policy = dwelling(frontier, dwell_s=0.0)
    quiet = {"waiting": 0, "demand_tps": 10 * frontier.full.output_tps}
    awake, draining = 40, 0
    everyone = replace(fleets.of([AWAKE] * awake, 41 * frontier.full.draw_w).observation, **quiet)
    wanted = len(policy.inner.decide(everyone).awake)
    assert wanted <= 32
    for _ in range(80):
        states = [AWAKE] * awake + [ReplicaState.DRAINING] * draining
        states += [ASLEEP] * (40 - len(states))
        observation = replace(fleets.of(states, 41 * frontier.full.draw_w).observation, **quiet)
        left = awake - len(policy.decide(observation).awake)
        assert draining + left <= 1
        awake, draining = awake - left, left
    assert awake == wanted


def test_who_is_wanted_again_stays_for_the_dwell_time_though_others_are_leaving(
    fleets: Any,
) -> None:
    inner = Wants(20)
    policy = ScaleDownDelay(inner, dwell_s=10.0)
    for now_s, wanted in ((0.0, 20), (1.0, 36), (2.0, 20)):
        inner.wanted = wanted
        policy.decide(replace(fleets.of([AWAKE] * 40, 400.0).observation, now_s=now_s))
    awake = 40
    for now_s in range(3, 11):
        fewer = fleets.of([AWAKE] * awake + [ASLEEP] * (40 - awake), 400.0).observation
        awake = len(policy.decide(replace(fewer, now_s=float(now_s))).awake)
    assert awake == 36


@pytest.mark.parametrize(("draw_w", "is_woken"), [(90.0, True), (99.5, False)])
def test_a_replica_is_woken_for_a_lower_draw_alone(
    fleets: Any, draw_w: float, is_woken: bool
) -> None:
    point = OperatingPoint(600, 4, 10.0, 50.0)

    class Lower(BoundedPolicy):
        def decide_among(self, observation: Observation, bounds: AwakeBounds) -> Plan:
            if bounds.most == 2:
                return Plan((point,) * 2, draw_w)
            return Plan((replace(point, output_tps=20.0),), 100.0)

    plan = ScaleDownDelay(Lower(), dwell_s=10.0).decide(
        fleets.of([AWAKE, ASLEEP], 400.0).observation
    )
    assert len(plan.awake) == (2 if is_woken else 1)


def test_replicas_that_cost_too_many_tokens_sleep_without_delay(
    frontier: Frontier, fleets: Any
) -> None:
    policy = dwelling(frontier)
    policy.decide(fleets.of([AWAKE] * 10, 10 * frontier.full.draw_w).observation)
    low = replace(fleets.of([AWAKE] * 10, 5 * frontier.full.draw_w).observation, now_s=1.0)
    plan = policy.decide(low)
    kept = policy.inner.decide_among(low, AwakeBounds(10, 10))
    assert plan.output_tps >= kept.output_tps
