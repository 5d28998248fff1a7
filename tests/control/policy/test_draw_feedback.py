from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steppe.control.plan import Plan
from steppe.control.policy.draw_feedback import (
    GAIN_PER_TICK,
    LAG_S,
    LEAST_REST_S,
    MOST_CORRECTION,
    MOST_REST_S,
    DrawFeedback,
)
from steppe.control.policy.margin import Margin
from steppe.control.policy.policies import FollowBudget
from steppe.control.state import Observation, ReplicaState
from steppe.frontier.pareto import Frontier
from steppe.roofline.point import OperatingPoint

AWAKE, ASLEEP = ReplicaState.AWAKE, ReplicaState.ASLEEP


@dataclass
class Spends:
    """Plans to draw the whole budget; remembers the budgets it was asked with."""

    replicas: int = 2
    sleepers_w: float = 0.0
    budgets_w: list[float] = field(default_factory=list)

    def decide(self, observation: Observation) -> Plan:
        self.budgets_w.append(observation.gpu_budget_w)
        point = OperatingPoint(
            600, 1, 1.0, (observation.gpu_budget_w - self.sleepers_w) / max(1, self.replicas)
        )
        return Plan((point,) * self.replicas, observation.gpu_budget_w)


def later(observation: Observation, **changes: Any) -> Observation:
    """Return what is observation a second later."""
    return replace(observation, now_s=observation.now_s + 1.0, **changes)


def follow(policy: DrawFeedback, observation: Observation, bias: float, ticks: int) -> list[float]:
    """Return the draw of a plant that draws `bias` times what is planned, tick by tick, W."""
    draws_w = []
    for _ in range(ticks):
        plan = policy.decide(observation)
        draws_w.append(bias * plan.draw_w)
        observation = later(observation, draw_w=draws_w[-1])
    return draws_w


@pytest.mark.parametrize("bias", [0.8, 0.95, 1.1, 1.25])
def test_the_draw_of_a_biased_plant_converges_to_the_budget_less_its_margin(
    fleets: Any, bias: float
) -> None:
    policy = DrawFeedback(Spends(), Margin(0.02, 2e-4), 0.0)
    draws_w = follow(policy, fleets.of([AWAKE] * 2, 100.0).observation, bias, 120)
    assert policy.ratio == pytest.approx(bias, rel=1e-3)
    assert draws_w[-1] == pytest.approx(98.0, rel=1e-3)


def test_a_plant_that_draws_a_tenth_too_much_is_soon_within_the_budget(fleets: Any) -> None:
    policy = DrawFeedback(Spends(), Margin(0.02, 2e-4), 0.0)
    draws_w = follow(policy, fleets.of([AWAKE] * 2, 100.0).observation, 1.1, 120)
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
    policy = DrawFeedback(Spends(), Margin(0.02, 2e-4), 0.0)
    observation = fleets.of(change.pop("states", [AWAKE] * 2), 100.0).observation
    for _ in range(20):
        policy.decide(observation := later(observation, **{"draw_w": 150.0, **change}))
    assert (policy.ratio, policy.margin.variance) == (1.0, 0.0)


@pytest.mark.parametrize("state", [ReplicaState.DRAINING, ReplicaState.STARTING])
def test_a_draw_that_stays_above_its_plan_while_a_replica_starts_or_drains_is_corrected(
    fleets: Any, state: ReplicaState
) -> None:
    policy = DrawFeedback(Spends(), Margin(0.02, 2e-4), 0.0)
    draws_w = follow(policy, fleets.of([AWAKE, state], 100.0).observation, 1.1, 60)
    assert draws_w[1] > 100.0
    assert max(draws_w[10:]) <= 100.0


def test_a_draw_above_its_plan_is_believed_whether_or_not_work_waits(fleets: Any) -> None:
    policy = DrawFeedback(Spends(), Margin(0.02, 2e-4), 0.0)
    follow(policy, replace(fleets.of([AWAKE] * 2, 100.0).observation, waiting=0), 1.1, 60)
    assert policy.ratio == pytest.approx(1.1, rel=1e-3)


def test_requests_inside_a_sleeping_replica_do_not_make_the_others_busy(fleets: Any) -> None:
    policy = DrawFeedback(Spends(replicas=1), Margin(0.02, 2e-4), 0.0)
    observation = fleets.of([AWAKE, ASLEEP], 100.0, waiting=0).observation
    frozen = replace(observation.replicas[1], outstanding=5)
    observation = replace(observation, replicas=(observation.replicas[0], frozen))
    follow(policy, observation, 0.5, 20)
    assert observation.work_waits
    assert policy.ratio == 1.0


@pytest.mark.parametrize(("draw_w", "is_believed"), [(90.0, False), (110.0, True)])
def test_replicas_that_have_just_woken_may_draw_less_than_planned_but_not_more(
    fleets: Any, draw_w: float, is_believed: bool
) -> None:
    inner = Spends(replicas=1)
    policy = DrawFeedback(inner, Margin(0.0, 2e-4), 0.0)
    observation = fleets.of([AWAKE] * 2, 100.0).observation
    follow(policy, observation, 1.0, 5)
    inner.replicas = 2
    policy.decide(replace(observation, now_s=5.0, draw_w=100.0))
    policy.decide(replace(observation, now_s=6.0, draw_w=draw_w))
    assert (policy.ratio != 1.0) == is_believed


def test_the_tick_that_sees_a_replica_wake_in_the_place_of_another_teaches_nothing(
    fleets: Any,
) -> None:
    policy = DrawFeedback(Spends(), Margin(0.0, 2e-4), 0.0)
    observation = fleets.of([AWAKE] * 2, 100.0).observation
    follow(policy, observation, 1.0, 10)
    waking = replace(observation.replicas[1], is_waking=True)
    swapped = replace(observation, now_s=10.0, replicas=(observation.replicas[0], waking))
    policy.decide(replace(swapped, draw_w=80.0))
    assert policy.ratio == 1.0


def test_a_replica_that_is_still_waking_teaches_nothing_however_long_it_takes(fleets: Any) -> None:
    policy = DrawFeedback(Spends(), Margin(0.0, 2e-4), 0.0)
    observation = fleets.of([AWAKE] * 2, 100.0).observation
    waking = replace(observation.replicas[1], is_waking=True)
    follow(policy, replace(observation, replicas=(observation.replicas[0], waking)), 0.6, 30)
    assert policy.ratio == 1.0
    follow(policy, replace(observation, now_s=40.0), 0.9, 60)
    assert policy.ratio == pytest.approx(0.9, rel=1e-3)


def test_a_few_that_drain_of_many_do_not_keep_the_others_from_learning(fleets: Any) -> None:
    policy = DrawFeedback(Spends(replicas=19), Margin(0.02, 2e-4), 0.0)
    observation = fleets.of([AWAKE] * 19 + [ReplicaState.DRAINING], 100.0).observation
    follow(policy, observation, 0.9, 60)
    assert policy.ratio == pytest.approx(0.9, rel=1e-3)


@settings(deadline=None)
@given(st.lists(st.floats(0, 1e4), min_size=1, max_size=50))
def test_the_correction_stays_within_its_bounds_whatever_is_measured(
    fleets: Any, draws_w: list[float]
) -> None:
    policy = DrawFeedback(Spends(), Margin(0.02, 2e-4), 0.0)
    observation = fleets.of([AWAKE] * 2, 100.0).observation
    for draw_w in draws_w:
        plan = policy.decide(observation := later(observation, draw_w=draw_w))
        assert 0 <= plan.draw_w <= 100.0 / (1 - MOST_CORRECTION)
    assert abs(policy.ratio - 1) <= MOST_CORRECTION + 1e-9


def test_a_noisy_plant_gets_a_wider_margin(fleets: Any) -> None:
    policy = DrawFeedback(Spends(), Margin(0.02, 2e-4), 0.0)
    observation = fleets.of([AWAKE] * 2, 100.0).observation
    for factor in itertools.islice(itertools.cycle((0.98, 1.02)), 200):
        plan = policy.decide(observation)
        observation = later(observation, draw_w=factor * plan.draw_w)
    assert 95.0 < policy.decide(observation).draw_w < 97.0


@pytest.mark.parametrize(("awake", "budget_w"), [(16, 50.0), (8, 200.0)])
def test_more_is_left_free_as_soon_as_a_cut_leaves_power_for_few_and_less_only_once_more_are_awake(
    fleets: Any, awake: int, budget_w: float
) -> None:
    inner = Spends(replicas=awake)
    policy = DrawFeedback(inner, Margin(0.01, 2e-4), 0.0)
    observation = fleets.of([AWAKE] * awake + [ASLEEP] * (16 - awake), 100.0).observation
    policy.decide(observation)
    policy.decide(replace(observation, now_s=1.0, gpu_budget_w=budget_w))
    assert inner.budgets_w == pytest.approx([99.0, budget_w * (1 - 0.01 * math.sqrt(2))])


def test_an_error_of_the_draw_is_that_of_the_awake_for_sleepers_do_not_spread(fleets: Any) -> None:
    policy, alone = DrawFeedback(Spends(4), Margin(0.0, 2e-4), asleep_w=10.0), Margin(0.0, 2e-4)
    observation = fleets.of([AWAKE] * 4 + [ASLEEP] * 12, 200.0).observation
    follow(policy, observation, 1.0, 10)
    policy.decide(replace(observation, now_s=10.0, draw_w=202.0))
    alone.learn(2.0 / (200.0 - 12 * 10.0), 4 / 16)
    assert policy.margin.variance == pytest.approx(alone.variance)


@pytest.mark.parametrize(("factor", "widens"), [(0.8, False), (1.2, True)])
def test_only_a_draw_above_its_aim_makes_the_margin_wider(
    fleets: Any, factor: float, widens: bool
) -> None:
    policy = DrawFeedback(Spends(), Margin(0.0, 2e-4), 0.0)
    observation = fleets.of([AWAKE] * 2, 100.0).observation
    follow(policy, observation, 1.0, 10)
    policy.decide(replace(observation, now_s=10.0, draw_w=factor * 100.0))
    assert (policy.margin.variance > 0) == widens


def test_a_replica_that_wakes_a_tick_later_than_planned_teaches_nothing(fleets: Any) -> None:
    policy = DrawFeedback(Spends(replicas=1), Margin(0.0, 2e-4), 0.0)
    follow(policy, fleets.of([AWAKE], 100.0).observation, 1.0, 10)
    swapping = fleets.of([ASLEEP], 100.0).observation
    policy.decide(replace(swapping, now_s=10.0, draw_w=80.0))
    assert policy.ratio == pytest.approx(1.0)


def test_the_last_step_of_a_replica_that_leaves_teaches_nothing(fleets: Any) -> None:
    inner = Spends(replicas=20)
    policy = DrawFeedback(inner, Margin(0.0, 2e-4), 0.0)
    observation = fleets.of([AWAKE] * 20, 100.0).observation
    follow(policy, observation, 1.0, 10)
    inner.replicas = 19
    policy.decide(replace(observation, now_s=10.0, draw_w=100.0))
    left = fleets.of([AWAKE] * 19 + [ASLEEP], 100.0).observation
    policy.decide(replace(left, now_s=11.0, draw_w=103.0))
    assert (policy.ratio, policy.margin.variance) == pytest.approx((1.0, 0.0))


def test_a_window_in_which_the_draw_was_on_its_way_teaches_nothing(fleets: Any) -> None:
    policy = DrawFeedback(Spends(), Margin(0.0, 2e-4), 0.0)
    observation = fleets.of([AWAKE] * 2, 100.0).observation
    follow(policy, observation, 1.0, 10)
    policy.decide(replace(observation, now_s=10.0, gpu_budget_w=107.0, draw_w=100.0))
    policy.decide(replace(observation, now_s=10.1, gpu_budget_w=107.0, draw_w=100.0))
    assert policy.ratio == pytest.approx(1.0)
    policy.decide(replace(observation, now_s=11.0, gpu_budget_w=107.0, draw_w=100.0))
    assert policy.ratio < 1.0


def test_what_was_learned_keeps_no_fleet_asleep_for_ever(fleets: Any) -> None:
    inner = Spends()
    policy = DrawFeedback(inner, Margin(0.02, 2e-4), 0.0)
    observation = fleets.of([AWAKE] * 2, 100.0).observation
    follow(policy, observation, 1.2, 20)
    assert inner.budgets_w[-1] < 85.0
    inner.replicas = 0  # not enough for any
    follow(policy, replace(observation, now_s=20.0), 0.0, 600)
    assert inner.budgets_w[-1] == pytest.approx(98.0, rel=1e-2)


@pytest.mark.parametrize(("night_w", "is_kept"), [(0.0, True), (29.0, True), (30.0, False)])
def test_a_night_that_holds_nobody_awake_is_no_reason_to_forget(
    fleets: Any, night_w: float, is_kept: bool
) -> None:
    inner = Spends()
    policy = DrawFeedback(inner, Margin(0.02, 2e-4), asleep_w=10.0, awake_w=20.0)
    observation = fleets.of([AWAKE] * 2, 100.0).observation
    follow(policy, observation, 1.2, 20)
    learned = policy.ratio
    assert learned > 1.05
    inner.replicas = 0
    follow(policy, replace(observation, now_s=20.0, gpu_budget_w=night_w), 0.0, 600)
    assert (policy.ratio == learned) is is_kept


def test_a_fleet_that_falls_asleep_for_its_draw_again_and_again_rests_longer_each_time(
    fleets: Any,
) -> None:
    inner = Spends()
    policy = DrawFeedback(inner, Margin(0.02, 2e-4), 0.0)
    observation = fleets.of([AWAKE] * 2, 100.0).observation
    now_s, rests = 0.0, []
    for _ in range(6):
        inner.replicas = 2
        follow(policy, replace(observation, now_s=now_s), 1.2, 20)
        inner.replicas = 0
        now_s, begun_s = now_s + 20.0, now_s + 20.0
        follow(policy, replace(observation, now_s=now_s, draw_w=0.0), 0.0, 2)
        now_s, asleep_w = now_s + 1.0, inner.budgets_w[-1]
        while inner.budgets_w[-1] == asleep_w:
            now_s += 1.0
            policy.decide(replace(observation, now_s=now_s, draw_w=0.0))
        rests.append(now_s - begun_s)
    assert rests == [LEAST_REST_S, 10.0, 20.0, 40.0, MOST_REST_S, MOST_REST_S]


def test_the_margin_is_left_of_what_the_awake_draw_not_of_what_sleepers_do(fleets: Any) -> None:
    inner = Spends(replicas=4)
    policy = DrawFeedback(inner, Margin(0.02, 2e-4), asleep_w=10.0)
    observation = fleets.of([AWAKE] * 4 + [ASLEEP] * 12, 200.0).observation
    follow(policy, observation, 1.0, 60)
    margin_w = policy.margin.share(4 / 16) * (200.0 - 12 * 10.0)
    assert inner.budgets_w[-1] == pytest.approx(200.0 - margin_w)


def test_one_bad_reading_costs_a_few_percent_of_the_power_for_seconds(fleets: Any) -> None:
    policy = DrawFeedback(Spends(), Margin(0.02, 2e-4), 0.0)
    observation = fleets.of([AWAKE] * 2, 100.0).observation
    follow(policy, observation, 1.0, 10)
    policy.decide(replace(observation, now_s=10.0, draw_w=500.0))
    draws_w = follow(policy, replace(observation, now_s=11.0, draw_w=98.0), 1.0, 10)
    assert draws_w[-1] > 96.0


def test_the_margin_shrinks_while_replicas_wake_without_drawing_too_much(fleets: Any) -> None:
    policy = DrawFeedback(Spends(replicas=3), Margin(0.0, 2e-4), 0.0)
    observation = fleets.of([AWAKE] * 2, 100.0).observation
    policy.margin.variance = 1e-3
    follow(policy, observation, 0.95, 60)
    assert policy.margin.variance < 1e-4
    assert policy.ratio == 1.0


@pytest.mark.parametrize("ticks_s", [(10.0, 11.0), (9.8, 10.0, 10.1)])
def test_a_step_of_the_budget_teaches_nothing_however_close_the_ticks(
    fleets: Any, ticks_s: tuple[float, ...]
) -> None:
    policy = DrawFeedback(Spends(), Margin(0.0, 2e-4), 0.0)
    observation = fleets.of([AWAKE] * 2, 100.0).observation
    follow(policy, observation, 1.0, 9)
    for now_s, draw_w in zip(ticks_s, (100.0, 90.0, 77.0), strict=False):
        policy.decide(replace(observation, now_s=now_s, gpu_budget_w=70.0, draw_w=draw_w))
    assert (policy.ratio, policy.margin.variance) == pytest.approx((1.0, 0.0))


@pytest.mark.parametrize(("replicas", "budget_w"), [(6, 118.4), (6, 129.6), (8, 150.9)])
def test_a_budget_that_stays_makes_no_replica_sleep_and_wake_in_turn(
    fleets: Any, frontier: Frontier, replicas: int, budget_w: float
) -> None:
    inner = FollowBudget(frontier, frontier.drain.draw_w)
    policy = DrawFeedback(inner, Margin(0.05, 2e-4), frontier.asleep_w)
    observation, counts = fleets.of([AWAKE] * replicas, budget_w).observation, []
    for _ in range(20):
        counts.append(len(policy.decide(observation := later(observation)).awake))
    assert set(counts[5:]) == {counts[5]}


@given(st.integers(1, 15), st.floats(0.75, 1.25), st.floats(7.0, 13.0))
@settings(max_examples=50, deadline=None)
def test_a_fleet_keeps_to_its_budget_whatever_its_awake_and_its_sleepers_draw_beside_the_plan(
    fleets: Any, awake: int, bias: float, slept_w: float
) -> None:
    asleep = 16 - awake
    policy = DrawFeedback(Spends(awake, asleep * 10.0), Margin(0.0, 1.0), asleep_w=10.0)
    observation, draw_w = fleets.of([AWAKE] * awake + [ASLEEP] * asleep, 600.0).observation, 0.0
    for _ in range(120):
        plan = policy.decide(observation)
        draw_w = bias * (plan.draw_w - asleep * 10.0) + asleep * slept_w
        observation = later(observation, draw_w=draw_w, asleep_w=slept_w)
    assert draw_w == pytest.approx(600.0, rel=5e-3)


def test_a_cut_that_puts_most_to_sleep_finds_what_was_learned_of_those_that_are_awake(
    fleets: Any,
) -> None:
    inner = Spends(replicas=16)
    policy = DrawFeedback(inner, Margin(0.0, 1.0), asleep_w=10.0)
    observation = fleets.of([AWAKE] * 16, 1600.0).observation
    follow(policy, observation, 1.2, 60)
    inner.replicas = 4
    follow(policy, replace(observation, now_s=60.0, gpu_budget_w=400.0), 1.0, 1)
    assert inner.budgets_w[-1] == pytest.approx(120.0 + (400.0 - 120.0) / 1.2, rel=1e-3)


def test_what_clocks_take_to_move_is_no_error_of_the_points(fleets: Any) -> None:
    policy = DrawFeedback(Spends(), Margin(0.0, 1.0), 0.0)
    observation, last_w = fleets.of([AWAKE] * 2, 100.0).observation, 100.0
    for budget_w in (100.0, 96.0, 92.0, 88.0, 84.0, 80.0, 77.0):
        plan_w = policy.decide(observation := replace(observation, gpu_budget_w=budget_w)).draw_w
        observation = later(observation, draw_w=LAG_S * last_w + (1 - LAG_S) * plan_w)
        last_w = plan_w
    assert (policy.ratio, policy.margin.variance) == pytest.approx((1.0, 0.0))


def test_the_fewer_are_awake_the_less_of_their_error_is_believed_at_once(fleets: Any) -> None:
    policy = DrawFeedback(Spends(4, 120.0), Margin(0.0, 1.0), asleep_w=10.0)
    observation = fleets.of([AWAKE] * 4 + [ASLEEP] * 12, 200.0).observation
    follow(policy, observation, 1.0, 10)
    policy.decide(replace(observation, now_s=10.0, draw_w=204.0))
    error, share_of_draw = 4.0 / 80.0, 80.0 / 200.0
    assert policy.ratio == pytest.approx(1 + GAIN_PER_TICK * error * share_of_draw)
