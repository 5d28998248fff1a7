from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from steppe.control.damping import Dwelling
from steppe.control.plan import AwakeBounds
from steppe.control.policy import FollowBudget
from steppe.control.state import ReplicaState
from steppe.frontier.pareto import Frontier

AWAKE, ASLEEP = ReplicaState.AWAKE, ReplicaState.ASLEEP


def dwelling(frontier: Frontier, dwell_s: float = 10.0) -> Dwelling:
    return Dwelling(FollowBudget(frontier, drain_w=frontier.floor.draw_w), dwell_s)


def test_the_number_of_awake_replicas_holds_for_the_dwell_time(
    frontier: Frontier, fleets: Any
) -> None:
    policy = dwelling(frontier)
    wide_w = 2 * frontier.full.draw_w
    # The first change starts the dwell; then the fleet could go back at once, and does not.
    assert len(policy.decide(fleets.of([AWAKE, ASLEEP], wide_w).seen).awake) == 2
    quiet = replace(fleets.of([AWAKE] * 2, wide_w).seen, waiting=0, demand_tps=1.0)
    for now_s in (1.0, 5.0, 9.9):
        assert len(policy.decide(replace(quiet, now_s=now_s)).awake) == 2
    assert len(policy.decide(replace(quiet, now_s=10.0)).awake) == 1


@settings(deadline=None)
@given(budget_w=st.floats(0, 200), now_s=st.floats(0, 9))
def test_a_dwelling_fleet_still_keeps_to_the_budget(
    frontier: Frontier, fleets: Any, budget_w: float, now_s: float
) -> None:
    policy = dwelling(frontier)
    policy.decide(fleets.of([AWAKE, ASLEEP], 2 * frontier.full.draw_w).seen)
    plan = policy.decide(replace(fleets.of([AWAKE] * 2, budget_w).seen, now_s=now_s))
    assert plan.draw_w <= budget_w or not plan.feasible
    if 2 * frontier.floor.draw_w <= budget_w:
        assert len(plan.awake) == 2


def test_a_fleet_that_sleeps_whole_wakes_without_delay(frontier: Frontier, fleets: Any) -> None:
    policy = dwelling(frontier)
    asleep = fleets.of([ASLEEP] * 2, 0.0).seen
    policy.decide(fleets.of([AWAKE] * 2, 0.0).seen)
    plan = policy.decide(replace(asleep, now_s=1.0, budget_w=150.0))
    assert plan.awake


def test_a_replica_is_not_woken_for_next_to_nothing(frontier: Frontier, fleets: Any) -> None:
    policy = dwelling(frontier)
    states = [AWAKE] * 40 + [ASLEEP]
    need = replace(fleets.of(states, 41 * frontier.full.draw_w).seen, waiting=0)
    kept = policy.decide(replace(need, demand_tps=20 * frontier.full.output_tps))
    assert len(kept.awake) <= 40


def test_a_few_replicas_of_many_are_not_put_to_sleep_for_want_of_use(
    frontier: Frontier, fleets: Any
) -> None:
    seen = fleets.of([AWAKE] * 10, 0.0).seen
    inner = FollowBudget(frontier, frontier.drain.draw_w)
    for share in np.linspace(0.2, 1.0, 81):
        budget_w = share * 10 * frontier.full.draw_w
        at = replace(seen, budget_w=float(budget_w))
        wanted = len(inner.decide(at).awake)
        found = len(Dwelling(inner, dwell_s=0.0).decide(at).awake)
        assert found == wanted or (wanted == 9 and found == 10) or (wanted < 9 and found == 9)


def test_replicas_that_nobody_wants_leave_one_by_one_and_no_fewer_than_all(
    frontier: Frontier, fleets: Any
) -> None:
    policy = dwelling(frontier, dwell_s=0.0)
    quiet = {"waiting": 0, "demand_tps": 10 * frontier.full.output_tps}
    awake, draining = 40, 0
    everyone = replace(fleets.of([AWAKE] * awake, 41 * frontier.full.draw_w).seen, **quiet)
    wanted = len(policy.inner.decide(everyone).awake)
    assert wanted <= 32
    for _ in range(80):
        states = [AWAKE] * awake + [ReplicaState.DRAINING] * draining
        states += [ASLEEP] * (40 - len(states))
        seen = replace(fleets.of(states, 41 * frontier.full.draw_w).seen, **quiet)
        left = awake - len(policy.decide(seen).awake)
        assert draining + left <= 1
        awake, draining = awake - left, left
    assert awake == wanted


def test_replicas_that_cost_too_many_tokens_sleep_without_delay(
    frontier: Frontier, fleets: Any
) -> None:
    policy = dwelling(frontier)
    policy.decide(fleets.of([AWAKE] * 10, 10 * frontier.full.draw_w).seen)
    low = replace(fleets.of([AWAKE] * 10, 5 * frontier.full.draw_w).seen, now_s=1.0)
    plan = policy.decide(low)
    kept = policy.inner.decide_among(low, AwakeBounds(10, 10))
    assert plan.output_tps >= kept.output_tps
