from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fixtures.fake_fleet import FakeFleet

from steppe.control.plan import Plan
from steppe.control.policy.feedback import (
    GAIN_PER_TICK,
    LAG_S,
    LEAST_RATIO,
    LEAST_REST_S,
    MOST_RATIO,
    MOST_REST_S,
    FeedbackMemory,
    FeedbackSettings,
    learn_draw,
    note_plan,
    usable_watts,
)
from steppe.control.policy.goals import FollowBudget
from steppe.control.policy.margin import learn_variance, margin_share
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


class Planned(Protocol):
    """Plans for the budget of an observation."""

    def decide(self, observation: Observation) -> Plan: ...


@dataclass
class Follower:
    """Plans for the usable watts, with the feedback around it."""

    inner: Planned
    settings: FeedbackSettings
    memory: FeedbackMemory = field(default_factory=FeedbackMemory)

    def decide(self, observation: Observation) -> Plan:
        memory = learn_draw(observation, self.memory, self.settings)
        usable_w = usable_watts(observation, memory, self.settings)
        plan = self.inner.decide(observation.with_budget(usable_w))
        self.memory = note_plan(observation, memory, plan)
        return plan


def later(observation: Observation, **changes: Any) -> Observation:
    """Return the same a second later."""
    return replace(observation, now_s=observation.now_s + 1.0, **changes)


def follow(policy: Follower, observation: Observation, bias: float, ticks: int) -> list[float]:
    """Return the draw of a plant that draws `bias` times what is planned, tick by tick, W."""
    draws_w = []
    for _ in range(ticks):
        plan = policy.decide(observation)
        draws_w.append(bias * plan.draw_w)
        observation = later(observation, draw_w=draws_w[-1])
    return draws_w


@pytest.mark.parametrize("bias", [0.8, 0.95, 1.1, 1.25])
def test_the_draw_of_a_biased_plant_converges_to_the_budget_less_its_margin(bias: float) -> None:
    policy = Follower(Spends(), FeedbackSettings(0.0, 0.0, 0.02, 2e-4))
    draws_w = follow(policy, FakeFleet.of([AWAKE] * 2, 100.0).observation, bias, 120)
    assert policy.memory.ratio == pytest.approx(bias, rel=1e-3)
    assert draws_w[-1] == pytest.approx(98.0, rel=1e-3)


def test_a_plant_that_draws_a_tenth_too_much_is_soon_within_the_budget() -> None:
    policy = Follower(Spends(), FeedbackSettings(0.0, 0.0, 0.02, 2e-4))
    draws_w = follow(policy, FakeFleet.of([AWAKE] * 2, 100.0).observation, 1.1, 120)
    assert draws_w[0] > 100.0
    assert max(draws_w[10:]) <= 100.0


@pytest.mark.parametrize("bias", [1.4, 1.67, 2.0, 3.0])
def test_a_plant_that_draws_far_too_much_is_within_the_budget_after_three_ticks(
    bias: float,
) -> None:
    policy = Follower(Spends(), FeedbackSettings(0.0, 0.0, 0.02, 2e-4))
    draws_w = follow(policy, FakeFleet.of([AWAKE] * 2, 100.0).observation, bias, 120)
    assert draws_w[0] > 130.0
    assert max(draws_w[3:]) <= 100.0
    assert draws_w[-1] == pytest.approx(98.0, rel=1e-3)


def test_one_reading_far_above_the_plan_is_taken_up_gradually() -> None:
    policy = Follower(Spends(), FeedbackSettings(0.0, 0.0, 0.02, 2e-4))
    observation = FakeFleet.of([AWAKE] * 2, 100.0).observation
    policy.decide(observation)
    policy.decide(later(observation, draw_w=300.0))
    assert policy.memory.ratio < 1.1, "it may be a bad one"


@pytest.mark.parametrize(
    "change",
    [
        {"waiting": 0, "draw_w": 50.0},
        {"draw_w": None},
        {"states": [AWAKE, ReplicaState.DRAINING], "draw_w": 50.0},
        {"states": [AWAKE, ReplicaState.STARTING], "draw_w": 50.0},
    ],
)
def test_errors_with_other_causes_do_not_count(change: dict[str, Any]) -> None:
    policy = Follower(Spends(), FeedbackSettings(0.0, 0.0, 0.02, 2e-4))
    observation = FakeFleet.of(change.pop("states", [AWAKE] * 2), 100.0).observation
    for _ in range(20):
        policy.decide(observation := later(observation, **{"draw_w": 150.0, **change}))
    assert (policy.memory.ratio, policy.memory.variance) == (1.0, 0.0)


@pytest.mark.parametrize("state", [ReplicaState.DRAINING, ReplicaState.STARTING])
def test_a_draw_that_stays_above_its_plan_while_a_replica_starts_or_drains_is_corrected(
    state: ReplicaState,
) -> None:
    policy = Follower(Spends(), FeedbackSettings(0.0, 0.0, 0.02, 2e-4))
    draws_w = follow(policy, FakeFleet.of([AWAKE, state], 100.0).observation, 1.1, 60)
    assert draws_w[1] > 100.0
    assert max(draws_w[10:]) <= 100.0


def test_a_draw_above_its_plan_counts_whether_or_not_work_waits() -> None:
    policy = Follower(Spends(), FeedbackSettings(0.0, 0.0, 0.02, 2e-4))
    follow(policy, replace(FakeFleet.of([AWAKE] * 2, 100.0).observation, waiting=0), 1.1, 60)
    assert policy.memory.ratio == pytest.approx(1.1, rel=1e-3)


def test_requests_inside_a_sleeping_replica_do_not_make_the_others_busy() -> None:
    policy = Follower(Spends(replicas=1), FeedbackSettings(0.0, 0.0, 0.02, 2e-4))
    observation = FakeFleet.of([AWAKE, ASLEEP], 100.0, waiting=0).observation
    frozen = replace(observation.replicas[1], outstanding=5)
    observation = replace(observation, replicas=(observation.replicas[0], frozen))
    follow(policy, observation, 0.5, 20)
    assert observation.work_waits
    assert policy.memory.ratio == 1.0


@pytest.mark.parametrize(("draw_w", "counts"), [(90.0, False), (110.0, True)])
def test_replicas_that_have_just_woken_may_draw_less_than_planned_but_not_more(
    draw_w: float, counts: bool
) -> None:
    inner = Spends(replicas=1)
    policy = Follower(inner, FeedbackSettings(0.0, 0.0, 0.0, 2e-4))
    observation = FakeFleet.of([AWAKE] * 2, 100.0).observation
    follow(policy, observation, 1.0, 5)
    inner.replicas = 2
    policy.decide(replace(observation, now_s=5.0, draw_w=100.0))
    policy.decide(replace(observation, now_s=6.0, draw_w=draw_w))
    assert (policy.memory.ratio != 1.0) == counts


def test_a_tick_in_which_a_replica_wakes_in_place_of_another_does_not_count() -> None:
    policy = Follower(Spends(), FeedbackSettings(0.0, 0.0, 0.0, 2e-4))
    observation = FakeFleet.of([AWAKE] * 2, 100.0).observation
    follow(policy, observation, 1.0, 10)
    waking = replace(observation.replicas[1], is_waking=True)
    swapped = replace(observation, now_s=10.0, replicas=(observation.replicas[0], waking))
    policy.decide(replace(swapped, draw_w=80.0))
    assert policy.memory.ratio == 1.0


def test_a_draw_while_a_replica_wakes_does_not_count_however_long_it_takes() -> None:
    policy = Follower(Spends(), FeedbackSettings(0.0, 0.0, 0.0, 2e-4))
    observation = FakeFleet.of([AWAKE] * 2, 100.0).observation
    waking = replace(observation.replicas[1], is_waking=True)
    follow(policy, replace(observation, replicas=(observation.replicas[0], waking)), 0.6, 30)
    assert policy.memory.ratio == 1.0
    follow(policy, replace(observation, now_s=40.0), 0.9, 60)
    assert policy.memory.ratio == pytest.approx(0.9, rel=1e-3)


def test_a_few_that_drain_of_many_do_not_keep_the_others_from_learning() -> None:
    policy = Follower(Spends(replicas=19), FeedbackSettings(0.0, 0.0, 0.02, 2e-4))
    observation = FakeFleet.of([AWAKE] * 19 + [ReplicaState.DRAINING], 100.0).observation
    follow(policy, observation, 0.9, 60)
    assert policy.memory.ratio == pytest.approx(0.9, rel=1e-3)


@settings(deadline=None)
@given(st.lists(st.floats(0, 1e4), min_size=1, max_size=50))
def test_the_correction_stays_within_its_bounds_whatever_is_measured(draws_w: list[float]) -> None:
    policy = Follower(Spends(), FeedbackSettings(0.0, 0.0, 0.02, 2e-4))
    observation = FakeFleet.of([AWAKE] * 2, 100.0).observation
    for draw_w in draws_w:
        plan = policy.decide(observation := later(observation, draw_w=draw_w))
        assert 0 <= plan.draw_w <= 100.0 / LEAST_RATIO
    assert LEAST_RATIO <= policy.memory.ratio <= MOST_RATIO


def test_a_noisy_plant_gets_a_wider_margin() -> None:
    policy = Follower(Spends(), FeedbackSettings(0.0, 0.0, 0.02, 2e-4))
    observation = FakeFleet.of([AWAKE] * 2, 100.0).observation
    for factor in itertools.islice(itertools.cycle((0.98, 1.02)), 200):
        plan = policy.decide(observation)
        observation = later(observation, draw_w=factor * plan.draw_w)
    assert 95.0 < policy.decide(observation).draw_w < 97.0


@pytest.mark.parametrize(("awake", "budget_w"), [(16, 50.0), (8, 200.0)])
def test_more_is_left_free_as_soon_as_a_cut_leaves_power_for_few_and_less_only_once_more_are_awake(
    awake: int, budget_w: float
) -> None:
    inner = Spends(replicas=awake)
    policy = Follower(inner, FeedbackSettings(0.0, 0.0, 0.01, 2e-4))
    observation = FakeFleet.of([AWAKE] * awake + [ASLEEP] * (16 - awake), 100.0).observation
    policy.decide(observation)
    policy.decide(replace(observation, now_s=1.0, gpu_budget_w=budget_w))
    assert inner.budgets_w == pytest.approx([99.0, budget_w * (1 - 0.01 * math.sqrt(2))])


def test_the_error_of_the_draw_is_that_of_awake_replicas() -> None:
    policy = Follower(Spends(4), FeedbackSettings(10.0, 0.0, 0.0, 2e-4))
    observation = FakeFleet.of([AWAKE] * 4 + [ASLEEP] * 12, 200.0).observation
    follow(policy, observation, 1.0, 10)
    policy.decide(replace(observation, now_s=10.0, draw_w=202.0))
    alone = learn_variance(0.0, 2.0 / (200.0 - 12 * 10.0), 4 / 16)
    assert policy.memory.variance == pytest.approx(alone)


@pytest.mark.parametrize(("factor", "widens"), [(0.8, False), (1.2, True)])
def test_only_a_draw_above_its_aim_makes_the_margin_wider(factor: float, widens: bool) -> None:
    policy = Follower(Spends(), FeedbackSettings(0.0, 0.0, 0.0, 2e-4))
    observation = FakeFleet.of([AWAKE] * 2, 100.0).observation
    follow(policy, observation, 1.0, 10)
    policy.decide(replace(observation, now_s=10.0, draw_w=factor * 100.0))
    assert (policy.memory.variance > 0) == widens


def test_a_replica_that_wakes_a_tick_later_than_planned_does_not_count() -> None:
    policy = Follower(Spends(replicas=1), FeedbackSettings(0.0, 0.0, 0.0, 2e-4))
    follow(policy, FakeFleet.of([AWAKE], 100.0).observation, 1.0, 10)
    swapping = FakeFleet.of([ASLEEP], 100.0).observation
    policy.decide(replace(swapping, now_s=10.0, draw_w=80.0))
    assert policy.memory.ratio == pytest.approx(1.0)


def test_the_last_step_of_a_leaving_replica_does_not_count() -> None:
    inner = Spends(replicas=20)
    policy = Follower(inner, FeedbackSettings(0.0, 0.0, 0.0, 2e-4))
    observation = FakeFleet.of([AWAKE] * 20, 100.0).observation
    follow(policy, observation, 1.0, 10)
    inner.replicas = 19
    policy.decide(replace(observation, now_s=10.0, draw_w=100.0))
    left = FakeFleet.of([AWAKE] * 19 + [ASLEEP], 100.0).observation
    policy.decide(replace(left, now_s=11.0, draw_w=103.0))
    assert (policy.memory.ratio, policy.memory.variance) == pytest.approx((1.0, 0.0))


def test_a_window_in_which_the_draw_moved_does_not_count() -> None:
    policy = Follower(Spends(), FeedbackSettings(0.0, 0.0, 0.0, 2e-4))
    observation = FakeFleet.of([AWAKE] * 2, 100.0).observation
    follow(policy, observation, 1.0, 10)
    policy.decide(replace(observation, now_s=10.0, gpu_budget_w=107.0, draw_w=100.0))
    policy.decide(replace(observation, now_s=10.1, gpu_budget_w=107.0, draw_w=100.0))
    assert policy.memory.ratio == pytest.approx(1.0)
    policy.decide(replace(observation, now_s=11.0, gpu_budget_w=107.0, draw_w=100.0))
    assert policy.memory.ratio < 1.0


def test_no_correction_keeps_a_fleet_asleep_for_ever() -> None:
    inner = Spends()
    policy = Follower(inner, FeedbackSettings(0.0, 0.0, 0.02, 2e-4))
    observation = FakeFleet.of([AWAKE] * 2, 100.0).observation
    follow(policy, observation, 1.2, 20)
    assert inner.budgets_w[-1] < 85.0
    inner.replicas = 0  # not enough for any
    follow(policy, replace(observation, now_s=20.0), 0.0, 600)
    assert inner.budgets_w[-1] == pytest.approx(98.0, rel=1e-2)


@pytest.mark.parametrize(("night_w", "is_kept"), [(0.0, True), (29.0, True), (30.0, False)])
def test_a_budget_that_covers_no_awake_replica_is_no_reason_to_forget(
    night_w: float, is_kept: bool
) -> None:
    inner = Spends()
    policy = Follower(inner, FeedbackSettings(10.0, 20.0, 0.02, 2e-4))
    observation = FakeFleet.of([AWAKE] * 2, 100.0).observation
    follow(policy, observation, 1.2, 20)
    learned = policy.memory.ratio
    assert learned > 1.05
    inner.replicas = 0
    follow(policy, replace(observation, now_s=20.0, gpu_budget_w=night_w), 0.0, 600)
    assert (policy.memory.ratio == learned) is is_kept


def test_a_fleet_that_falls_asleep_again_and_again_waits_longer_each_time() -> None:
    inner = Spends()
    policy = Follower(inner, FeedbackSettings(0.0, 0.0, 0.02, 2e-4))
    observation = FakeFleet.of([AWAKE] * 2, 100.0).observation
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


def test_the_margin_is_a_share_of_the_draw_of_awake_replicas() -> None:
    inner = Spends(replicas=4)
    policy = Follower(inner, FeedbackSettings(10.0, 0.0, 0.02, 2e-4))
    observation = FakeFleet.of([AWAKE] * 4 + [ASLEEP] * 12, 200.0).observation
    follow(policy, observation, 1.0, 60)
    margin_w = margin_share(policy.memory.variance, 4 / 16, 0.02, 2e-4) * (200.0 - 12 * 10.0)
    assert inner.budgets_w[-1] == pytest.approx(200.0 - margin_w)


def test_one_bad_reading_costs_a_few_percent_of_the_power_for_seconds() -> None:
    policy = Follower(Spends(), FeedbackSettings(0.0, 0.0, 0.02, 2e-4))
    observation = FakeFleet.of([AWAKE] * 2, 100.0).observation
    follow(policy, observation, 1.0, 10)
    policy.decide(replace(observation, now_s=10.0, draw_w=500.0))
    draws_w = follow(policy, replace(observation, now_s=11.0, draw_w=98.0), 1.0, 10)
    assert draws_w[-1] > 96.0


def test_the_margin_shrinks_while_replicas_wake_without_drawing_too_much() -> None:
    policy = Follower(Spends(replicas=3), FeedbackSettings(0.0, 0.0, 0.0, 2e-4))
    observation = FakeFleet.of([AWAKE] * 2, 100.0).observation
    policy.memory = replace(policy.memory, variance=1e-3)
    follow(policy, observation, 0.95, 60)
    assert policy.memory.variance < 1e-4
    assert policy.memory.ratio == 1.0


@pytest.mark.parametrize("ticks_s", [(10.0, 11.0), (9.8, 10.0, 10.1)])
def test_a_step_of_the_budget_does_not_count_however_close_the_ticks(
    ticks_s: tuple[float, ...],
) -> None:
    policy = Follower(Spends(), FeedbackSettings(0.0, 0.0, 0.0, 2e-4))
    observation = FakeFleet.of([AWAKE] * 2, 100.0).observation
    follow(policy, observation, 1.0, 9)
    for now_s, draw_w in zip(ticks_s, (100.0, 90.0, 77.0), strict=False):
        policy.decide(replace(observation, now_s=now_s, gpu_budget_w=70.0, draw_w=draw_w))
    assert (policy.memory.ratio, policy.memory.variance) == pytest.approx((1.0, 0.0))


@pytest.mark.parametrize(("replicas", "budget_w"), [(6, 118.4), (6, 129.6), (8, 150.9)])
def test_on_a_steady_budget_no_replica_sleeps_and_wakes_in_turn(
    frontier: Frontier, replicas: int, budget_w: float
) -> None:
    inner = FollowBudget(frontier, frontier.drain.draw_w)
    policy = Follower(inner, FeedbackSettings(frontier.asleep_w, 0.0, 0.05, 2e-4))
    observation, counts = FakeFleet.of([AWAKE] * replicas, budget_w).observation, []
    for _ in range(20):
        counts.append(len(policy.decide(observation := later(observation)).awake))
    assert set(counts[5:]) == {counts[5]}


@given(st.integers(1, 15), st.floats(0.75, 1.25), st.floats(7.0, 13.0))
@settings(max_examples=50, deadline=None)
def test_a_fleet_keeps_its_budget_whatever_awake_and_sleeping_replicas_draw(
    awake: int, bias: float, slept_w: float
) -> None:
    asleep = 16 - awake
    policy = Follower(Spends(awake, asleep * 10.0), FeedbackSettings(10.0, 0.0, 0.0, 1.0))
    observation, draw_w = FakeFleet.of([AWAKE] * awake + [ASLEEP] * asleep, 600.0).observation, 0.0
    for _ in range(120):
        plan = policy.decide(observation)
        draw_w = bias * (plan.draw_w - asleep * 10.0) + asleep * slept_w
        observation = later(observation, draw_w=draw_w, asleep_w=slept_w)
    assert draw_w == pytest.approx(600.0, rel=5e-3)


def test_a_correction_holds_for_the_awake_replicas_after_a_cut() -> None:
    inner = Spends(replicas=16)
    policy = Follower(inner, FeedbackSettings(10.0, 0.0, 0.0, 1.0))
    observation = FakeFleet.of([AWAKE] * 16, 1600.0).observation
    follow(policy, observation, 1.2, 60)
    inner.replicas = 4
    follow(policy, replace(observation, now_s=60.0, gpu_budget_w=400.0), 1.0, 1)
    assert inner.budgets_w[-1] == pytest.approx(120.0 + (400.0 - 120.0) / 1.2, rel=1e-3)


def test_the_time_that_clocks_take_to_move_is_no_error_of_the_points() -> None:
    policy = Follower(Spends(), FeedbackSettings(0.0, 0.0, 0.0, 1.0))
    observation, last_w = FakeFleet.of([AWAKE] * 2, 100.0).observation, 100.0
    for budget_w in (100.0, 96.0, 92.0, 88.0, 84.0, 80.0, 77.0):
        plan_w = policy.decide(observation := replace(observation, gpu_budget_w=budget_w)).draw_w
        observation = later(observation, draw_w=LAG_S * last_w + (1 - LAG_S) * plan_w)
        last_w = plan_w
    assert (policy.memory.ratio, policy.memory.variance) == pytest.approx((1.0, 0.0))


def test_with_fewer_awake_replicas_less_of_an_error_counts_at_once() -> None:
    policy = Follower(Spends(4, 120.0), FeedbackSettings(10.0, 0.0, 0.0, 1.0))
    observation = FakeFleet.of([AWAKE] * 4 + [ASLEEP] * 12, 200.0).observation
    follow(policy, observation, 1.0, 10)
    policy.decide(replace(observation, now_s=10.0, draw_w=204.0))
    error, share_of_draw = 4.0 / 80.0, 80.0 / 200.0
    assert policy.memory.ratio == pytest.approx(1 + GAIN_PER_TICK * error * share_of_draw)
