from __future__ import annotations

from dataclasses import replace

import pytest
from tests.fixtures.fake_fleet import FakeFleet, modelled_frontier

from steppe.config import ControlSection
from steppe.control.policy.make import make_policy
from steppe.control.policy.policy import PoolFacts
from steppe.control.state import Observation, ReplicaState

AWAKE = ReplicaState.AWAKE
LOWEST_W = 60.0


def facts(control: ControlSection) -> PoolFacts:
    return PoolFacts(modelled_frontier(), 4, 1, control, 9.0, 300.0, lambda *_: [])


def fleet(budget_w: float, lowest_limit_w: float) -> Observation:
    observation = FakeFleet.of([AWAKE] * 4, budget_w).observation
    replicas = tuple(replace(r, lowest_limit_w=lowest_limit_w) for r in observation.replicas)
    return replace(observation, replicas=replicas)


@pytest.mark.parametrize("awake", [0, 1, 2, 3])
def test_no_more_replicas_are_awake_than_board_limits_can_hold_to_the_budget(awake: int) -> None:
    budget_w = awake * LOWEST_W + (4 - awake) * modelled_frontier().asleep_w + 1.0
    plan = make_policy(facts(ControlSection(wake_j=0))).decide(fleet(budget_w, LOWEST_W))
    assert len(plan.awake) == awake


def test_a_fleet_that_need_not_keep_to_its_limits_has_more_awake() -> None:
    budget_w = LOWEST_W + 3 * modelled_frontier().asleep_w + 1.0
    control = ControlSection(wake_j=0, sleep_for_limits=False)
    assert len(make_policy(facts(control)).decide(fleet(budget_w, LOWEST_W)).awake) > 1


def test_gpus_without_board_limits_leave_the_plan_as_it_is() -> None:
    budget_w = LOWEST_W + 3 * modelled_frontier().asleep_w + 1.0
    plan = make_policy(facts(ControlSection(wake_j=0))).decide(fleet(budget_w, 0.0))
    assert len(plan.awake) > 1
