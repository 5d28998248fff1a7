from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steppe.control.damping import (
    MOST_CORRECTION,
    Corrected,
    Dwelling,
    Ramped,
)
from steppe.control.margin import Margin
from steppe.control.plan import AwakeBounds, Plan
from steppe.control.policy import FollowBudget
from steppe.control.state import Observation, ReplicaState
from steppe.frontier.pareto import Frontier
from steppe.frontier.point import OperatingPoint

AWAKE, ASLEEP = ReplicaState.AWAKE, ReplicaState.ASLEEP


@dataclass
class Spends:
    """Plans to draw the whole budget; remembers the budgets it was asked with."""

    replicas: int = 2
    budgets_w: list[float] = field(default_factory=list)

    def decide(self, seen: Observation) -> Plan:
        self.budgets_w.append(seen.budget_w)
        point = OperatingPoint(600, 1, 1.0, seen.budget_w / max(1, self.replicas))
        return Plan((point,) * self.replicas, seen.budget_w)


def later(seen: Observation, **changes: Any) -> Observation:
    """Return what is seen a second later."""
    return replace(seen, now_s=seen.now_s + 1.0, **changes)


def follow(policy: Corrected, seen: Observation, bias: float, ticks: int) -> list[float]:
    """Return the draw of a plant that draws `bias` times what is planned, tick by tick, W."""
    draws_w = []
    for _ in range(ticks):
        plan = policy.decide(seen)
        draws_w.append(bias * plan.draw_w)
        seen = later(seen, draw_w=draws_w[-1])
    return draws_w


@pytest.mark.parametrize("bias", [0.8, 0.95, 1.1, 1.25])
def test_the_draw_of_a_biased_plant_converges_to_the_budget_less_its_margin(
    fleets: Any, bias: float
) -> None:
    policy = Corrected(Spends(), Margin(0.02, 2e-4))
    draws_w = follow(policy, fleets.of([AWAKE] * 2, 100.0).seen, bias, 120)
    assert policy.ratio == pytest.approx(bias, rel=1e-3)
    assert draws_w[-1] == pytest.approx(98.0, rel=1e-3)


def test_a_plant_that_draws_a_tenth_too_much_is_soon_within_the_budget(fleets: Any) -> None:
    policy = Corrected(Spends(), Margin(0.02, 2e-4))
    draws_w = follow(policy, fleets.of([AWAKE] * 2, 100.0).seen, 1.1, 120)
    assert draws_w[0] > 100.0
    assert max(draws_w[10:]) <= 100.0


@pytest.mark.parametrize(
    "change",
    [
        {"waiting": 0, "draw_w": 50.0},
        {"draw_w": None},
        {"states": [AWAKE, ReplicaState.DRAINING], "draw_w": 50.0},
        {"states": [AWAKE, ReplicaState.STARTING], "draw_w": 50.0},
    ],
)
def test_nothing_is_learned_where_the_error_has_other_causes(
    fleets: Any, change: dict[str, Any]
) -> None:
    policy = Corrected(Spends(), Margin(0.02, 2e-4))
    seen = fleets.of(change.pop("states", [AWAKE] * 2), 100.0).seen
    for _ in range(20):
        policy.decide(seen := later(seen, **{"draw_w": 150.0, **change}))
    assert (policy.ratio, policy.margin.variance) == (1.0, 0.0)


@pytest.mark.parametrize("state", [ReplicaState.DRAINING, ReplicaState.STARTING])
def test_a_draw_that_stays_above_its_plan_while_a_replica_starts_or_drains_is_corrected(
    fleets: Any, state: ReplicaState
) -> None:
    policy = Corrected(Spends(), Margin(0.02, 2e-4))
    draws_w = follow(policy, fleets.of([AWAKE, state], 100.0).seen, 1.1, 60)
    assert draws_w[1] > 100.0
    assert max(draws_w[10:]) <= 100.0


def test_a_draw_above_its_plan_is_believed_whether_or_not_work_waits(fleets: Any) -> None:
    policy = Corrected(Spends(), Margin(0.02, 2e-4))
    follow(policy, replace(fleets.of([AWAKE] * 2, 100.0).seen, waiting=0), 1.1, 60)
    assert policy.ratio == pytest.approx(1.1, rel=1e-3)


def test_requests_inside_a_sleeping_replica_do_not_make_the_others_busy(fleets: Any) -> None:
    policy = Corrected(Spends(replicas=1), Margin(0.02, 2e-4))
    seen = fleets.of([AWAKE, ASLEEP], 100.0, waiting=0).seen
    frozen = replace(seen.replicas[1], outstanding=5)
    seen = replace(seen, replicas=(seen.replicas[0], frozen))
    follow(policy, seen, 0.5, 20)
    assert seen.work_waits
    assert policy.ratio == 1.0


@pytest.mark.parametrize(("draw_w", "is_believed"), [(90.0, False), (110.0, True)])
def test_replicas_that_have_just_woken_may_draw_less_than_planned_but_not_more(
    fleets: Any, draw_w: float, is_believed: bool
) -> None:
    inner = Spends(replicas=1)
    policy = Corrected(inner, Margin(0.0, 2e-4))
    seen = fleets.of([AWAKE] * 2, 100.0).seen
    follow(policy, seen, 1.0, 5)
    inner.replicas = 2
    policy.decide(replace(seen, now_s=5.0, draw_w=100.0))
    policy.decide(replace(seen, now_s=6.0, draw_w=draw_w))
    assert (policy.ratio != 1.0) == is_believed


def test_a_few_that_drain_of_many_do_not_keep_the_others_from_learning(fleets: Any) -> None:
    policy = Corrected(Spends(replicas=19), Margin(0.02, 2e-4))
    seen = fleets.of([AWAKE] * 19 + [ReplicaState.DRAINING], 100.0).seen
    follow(policy, seen, 0.9, 60)
    assert policy.ratio == pytest.approx(0.9, rel=1e-3)


@settings(deadline=None)
@given(st.lists(st.floats(0, 1e4), min_size=1, max_size=50))
def test_the_correction_stays_within_its_bounds_whatever_is_measured(
    fleets: Any, draws_w: list[float]
) -> None:
    policy = Corrected(Spends(), Margin(0.02, 2e-4))
    seen = fleets.of([AWAKE] * 2, 100.0).seen
    for draw_w in draws_w:
        plan = policy.decide(seen := later(seen, draw_w=draw_w))
        assert 0 <= plan.draw_w <= 100.0 / (1 - MOST_CORRECTION)
    assert abs(policy.ratio - 1) <= MOST_CORRECTION + 1e-9


def test_a_noisy_plant_gets_a_wider_margin(fleets: Any) -> None:
    policy = Corrected(Spends(), Margin(0.02, 2e-4))
    seen = fleets.of([AWAKE] * 2, 100.0).seen
    for factor in itertools.islice(itertools.cycle((0.9, 1.1)), 200):
        plan = policy.decide(seen)
        seen = later(seen, draw_w=factor * plan.draw_w)
    assert 70.0 < policy.decide(seen).draw_w * 1.1 < 90.0


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0.1, 5), st.floats(0, 500)), min_size=1, max_size=30))
def test_a_ramp_falls_at_once_and_rises_by_at_most_its_limit(
    fleets: Any, steps: list[tuple[float, float]]
) -> None:
    inner = Spends()
    policy = Ramped(inner, rise_w_per_s=20.0, period_s=1.0)
    seen = fleets.of([AWAKE] * 2, 0.0).seen
    now_s = 0.0
    for after_s, budget_w in steps:
        now_s += after_s
        before = inner.budgets_w[-1:]
        policy.decide(replace(seen, now_s=now_s, budget_w=budget_w))
        if before:
            expected_w = min(budget_w, before[0] + 20.0 * max(1.0, after_s))
            assert inner.budgets_w[-1] == pytest.approx(expected_w)
        else:
            assert inner.budgets_w == [budget_w]


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


def test_more_is_left_free_as_soon_as_a_cut_leaves_power_for_few(fleets: Any) -> None:
    inner = Spends(replicas=16)
    policy = Corrected(inner, Margin(0.01, 2e-4))
    seen = fleets.of([AWAKE] * 16, 100.0).seen
    policy.decide(seen)
    policy.decide(replace(seen, now_s=1.0, budget_w=50.0))
    assert inner.budgets_w == pytest.approx([99.0, 50.0 * (1 - 0.01 * math.sqrt(2))])


@pytest.mark.parametrize(("factor", "widens"), [(0.8, False), (1.2, True)])
def test_only_a_draw_above_its_aim_makes_the_margin_wider(
    fleets: Any, factor: float, widens: bool
) -> None:
    policy = Corrected(Spends(), Margin(0.0, 2e-4))
    seen = fleets.of([AWAKE] * 2, 100.0).seen
    follow(policy, seen, 1.0, 10)
    policy.decide(replace(seen, now_s=10.0, draw_w=factor * 100.0))
    assert (policy.margin.variance > 0) == widens


def test_a_replica_that_wakes_a_tick_later_than_planned_teaches_nothing(fleets: Any) -> None:
    policy = Corrected(Spends(replicas=1), Margin(0.0, 2e-4))
    follow(policy, fleets.of([AWAKE], 100.0).seen, 1.0, 10)
    swapping = fleets.of([ASLEEP], 100.0).seen
    policy.decide(replace(swapping, now_s=10.0, draw_w=80.0))
    assert policy.ratio == pytest.approx(1.0)


def test_the_last_step_of_a_replica_that_leaves_teaches_nothing(fleets: Any) -> None:
    inner = Spends(replicas=20)
    policy = Corrected(inner, Margin(0.0, 2e-4))
    seen = fleets.of([AWAKE] * 20, 100.0).seen
    follow(policy, seen, 1.0, 10)
    inner.replicas = 19
    policy.decide(replace(seen, now_s=10.0, draw_w=100.0))
    left = fleets.of([AWAKE] * 19 + [ASLEEP], 100.0).seen
    policy.decide(replace(left, now_s=11.0, draw_w=103.0))
    assert (policy.ratio, policy.margin.variance) == pytest.approx((1.0, 0.0))


def test_what_was_learned_keeps_no_fleet_asleep_for_ever(fleets: Any) -> None:
    inner = Spends()
    policy = Corrected(inner, Margin(0.02, 2e-4))
    seen = fleets.of([AWAKE] * 2, 100.0).seen
    follow(policy, seen, 1.2, 20)
    assert inner.budgets_w[-1] < 85.0
    inner.replicas = 0  # not enough for any
    follow(policy, replace(seen, now_s=20.0), 0.0, 100)
    assert inner.budgets_w[-1] == pytest.approx(98.0, rel=1e-2)


def test_the_margin_shrinks_while_replicas_wake_without_drawing_too_much(fleets: Any) -> None:
    policy = Corrected(Spends(replicas=3), Margin(0.0, 2e-4))
    seen = fleets.of([AWAKE] * 2, 100.0).seen
    policy.margin.variance = 1e-3
    follow(policy, seen, 0.95, 60)
    assert policy.margin.variance < 1e-4
    assert policy.ratio == 1.0


@pytest.mark.parametrize("ticks_s", [(10.0, 11.0), (9.8, 10.0, 10.1)])
def test_a_step_of_the_budget_teaches_nothing_however_close_the_ticks(
    fleets: Any, ticks_s: tuple[float, ...]
) -> None:
    policy = Corrected(Spends(), Margin(0.0, 2e-4))
    seen = fleets.of([AWAKE] * 2, 100.0).seen
    follow(policy, seen, 1.0, 9)
    for now_s, draw_w in zip(ticks_s, (100.0, 90.0, 77.0), strict=False):
        policy.decide(replace(seen, now_s=now_s, budget_w=70.0, draw_w=draw_w))
    assert (policy.ratio, policy.margin.variance) == pytest.approx((1.0, 0.0))


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
