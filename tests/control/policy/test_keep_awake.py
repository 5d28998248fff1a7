"""Whether the last replica stays awake through a shortage that costs less than a wake."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fixtures.fake_fleet import FakeFleet

from steppe.control.plan import Plan
from steppe.control.policy.keep_awake import (
    LEAST_KEPT_S,
    KeepAwakeMemory,
    KeepAwakeSettings,
    keep_one_awake,
)
from steppe.control.state import Observation, ReplicaState
from steppe.roofline.point import OperatingPoint

AWAKE, ASLEEP = ReplicaState.AWAKE, ReplicaState.ASLEEP
FLOOR, ASLEEP_W = OperatingPoint(600, 1, 10.0, 31.0), 8.0
ONE_AWAKE_W = FLOOR.draw_w + ASLEEP_W
"""Draw of two replicas, one awake at the floor: 39 W."""
WAKE_J = 120.0


@dataclass
class LastAwake:
    """The stage over two replicas that do as planned."""

    wake_j: float = WAKE_J
    awake: int = 1
    memory: KeepAwakeMemory = field(default_factory=KeepAwakeMemory)
    draw_w: float | None = None

    def tick(self, now_s: float, budget_w: float) -> Plan:
        states = [AWAKE] * self.awake + [ASLEEP] * (2 - self.awake)
        observation = replace(
            FakeFleet.of(states, budget_w).observation, now_s=now_s, draw_w=self.draw_w
        )
        settings = KeepAwakeSettings(FLOOR, ASLEEP_W, self.wake_j)
        plan, self.memory = keep_one_awake(observation, within(observation), self.memory, settings)
        self.awake, self.draw_w = len(plan.awake), plan.draw_w
        return plan


def within(observation: Observation) -> Plan:
    """Return the plan within the budget: one replica at the floor, or none."""
    if observation.gpu_budget_w >= ONE_AWAKE_W:
        return Plan((FLOOR,), ONE_AWAKE_W)
    return Plan((), 2 * ASLEEP_W)


def test_a_replica_stays_awake_through_36_w_for_a_while_where_39_w_are_needed() -> None:
    fleet = LastAwake()
    awake = [len(fleet.tick(float(now_s), 36.0).awake) for now_s in range(60)]
    lasts_s = WAKE_J / (ONE_AWAKE_W - 36.0)
    assert sum(awake) == pytest.approx(lasts_s, abs=1)
    assert awake == sorted(awake, reverse=True)


def test_a_short_shortage_freezes_no_replica() -> None:
    fleet = LastAwake()
    budgets_w = [50.0] * 5 + [36.0] * 30 + [50.0] * 5
    assert all(fleet.tick(float(now_s), w).awake for now_s, w in enumerate(budgets_w))


@pytest.mark.parametrize("budget_w", [0.0, 16.0, ONE_AWAKE_W - 1.1 * WAKE_J / LEAST_KEPT_S])
def test_a_deep_cut_puts_the_last_replica_to_sleep_at_once(budget_w: float) -> None:
    fleet = LastAwake()
    fleet.tick(0.0, 50.0)
    assert fleet.tick(1.0, budget_w).awake == ()


def test_a_cut_that_deepens_ends_it() -> None:
    fleet = LastAwake()
    assert fleet.tick(0.0, 37.0).awake
    assert fleet.tick(1.0, 37.0).awake
    assert fleet.tick(2.0, ONE_AWAKE_W - 1.1 * WAKE_J).awake == ()


def test_a_sleeping_fleet_does_not_wake_for_it() -> None:
    assert LastAwake(awake=0).tick(0.0, 36.0).awake == ()


def test_without_a_wake_cost_the_budget_is_never_exceeded() -> None:
    assert LastAwake(wake_j=0.0).tick(0.0, ONE_AWAKE_W - 0.1).awake == ()


@given(budgets_w=st.lists(st.floats(0.0, 60.0), min_size=1, max_size=60))
def test_the_energy_above_the_budget_less_what_was_left_stays_below_one_wake(
    budgets_w: list[float],
) -> None:
    fleet, over_j = LastAwake(), 0.0
    for now_s, budget_w in enumerate(budgets_w):
        plan = fleet.tick(float(now_s), budget_w)
        if plan.awake:
            over_j = max(0.0, over_j + plan.draw_w - budget_w)
        assert over_j <= WAKE_J + 1e-9
