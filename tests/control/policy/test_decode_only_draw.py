from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steppe.control.plan import AwakeBounds, Plan
from steppe.control.policy.decode_only_draw import (
    MOST_DEPTH,
    DecodeOnlyDraw,
    ReclaimUnderdraw,
    full_share,
)
from steppe.control.policy.draw_feedback import DrawFeedback
from steppe.control.policy.margin import Margin
from steppe.control.policy.policies import BoundedPolicy, FollowBudget
from steppe.control.state import Observation, ReplicaState
from steppe.frontier.pareto import Frontier
from steppe.roofline.point import OperatingPoint

AWAKE, ASLEEP = ReplicaState.AWAKE, ReplicaState.ASLEEP
SMALL, LARGE = OperatingPoint(600, 100, 15.0, 40.0), OperatingPoint(600, 200, 20.0, 60.0)


def holding(fleets: Any, *outstanding: int) -> Observation:
    """Return what is observation of replicas that are awake and hold so many requests."""
    observation: Observation = fleets.of([AWAKE] * len(outstanding), 100.0).observation
    held = zip(observation.replicas, outstanding, strict=True)
    return replace(observation, replicas=tuple(replace(r, outstanding=o) for r, o in held))


def plan_of(*points: OperatingPoint) -> Plan:
    """Return the plan in which replicas run at these points."""
    return Plan(points, sum(point.draw_w for point in points))


def test_who_holds_more_than_its_limit_and_the_next_batch_admits_nobody(fleets: Any) -> None:
    assert full_share(holding(fleets, 200, 200), plan_of(LARGE, SMALL)) == pytest.approx(0.4)
    assert full_share(holding(fleets, 200, 200), plan_of(SMALL, SMALL)) == 1.0
    assert full_share(holding(fleets, 202, 102), plan_of(LARGE, SMALL)) == 0.0


def test_who_is_soon_within_its_limit_counts_little(fleets: Any) -> None:
    assert full_share(holding(fleets, 108), plan_of(SMALL)) == pytest.approx(0.25)


def test_an_error_teaches_more_the_more_of_the_draw_admits_nobody() -> None:
    few, most = DecodeOnlyDraw(), DecodeOnlyDraw()
    assert few.explains(-0.03, 0.25)
    assert most.explains(-0.03, 0.75)
    assert 0.0 < few.depth < most.depth < 0.03


def test_the_larger_limits_go_to_the_fuller_replicas(fleets: Any) -> None:
    assert full_share(holding(fleets, 100, 200), plan_of(SMALL, LARGE)) == 0.0


def test_a_fleet_that_sleeps_or_plans_nothing_has_no_dip(fleets: Any) -> None:
    sleeping = fleets.of([ASLEEP] * 2, 100.0).observation
    assert full_share(sleeping, plan_of(SMALL, SMALL)) == 0.0
    assert full_share(holding(fleets, 500), Plan((), 0.0)) == 0.0


@dataclass
class Plant:
    """Plans one point after the other, and draws less while its replica admits nobody."""

    points: list[OperatingPoint]
    depth: float
    errors: list[float] = field(default_factory=list)

    def decide(self, observation: Observation) -> Plan:
        return plan_of(self.points.pop(0))

    def run(self, policy: DrawFeedback, observation: Observation) -> None:
        while self.points:
            plan = policy.decide(observation)
            draw_w = plan.draw_w * (1 - self.depth * full_share(observation, plan))
            observation = replace(observation, now_s=observation.now_s + 1.0, draw_w=draw_w)


def test_a_dip_is_learned_as_a_dip_and_not_as_an_error_of_the_frontier(fleets: Any) -> None:
    plant = Plant([SMALL] * 40, 0.06)
    policy = DrawFeedback(plant, Margin(0.0, 1e-3), 0.0)
    plant.run(policy, holding(fleets, 200))
    assert policy.dip.depth == pytest.approx(0.06, rel=0.01)
    assert policy.ratio == 1.0


def test_a_fleet_that_draws_too_much_is_believed_in_a_dip_as_well(fleets: Any) -> None:
    plant = Plant([SMALL] * 60, -0.1)
    policy = DrawFeedback(plant, Margin(0.0, 1e-3), 0.0)
    plant.run(policy, holding(fleets, 200))
    assert policy.dip.depth == 0.0
    assert policy.ratio == pytest.approx(1.1, rel=0.01)


@given(st.lists(st.tuples(st.floats(-0.3, 0.3), st.floats(0, 1)), max_size=50))
def test_a_dip_is_never_believed_to_be_deeper_than_it_may_be(errors: Any) -> None:
    dip = DecodeOnlyDraw()
    for error, share in errors:
        dip.explains(error, share)
        assert 0 <= dip.depth <= MOST_DEPTH


def test_a_dip_is_filled_up_with_what_the_others_can_draw(fleets: Any) -> None:
    """Both at 40 W leave watts free; one gets 60 W once the other draws 5 W less than 40."""
    observation = replace(holding(fleets, 200, 200), gpu_budget_w=95.0)
    inner = FollowBudget(Frontier((SMALL, LARGE), 16.0, 20.0, "modelled"), 40.0)
    assert inner.decide(observation).awake == (SMALL, SMALL)
    assert ReclaimUnderdraw(inner, DecodeOnlyDraw(0.1)).decide(observation).awake == (SMALL, SMALL)
    assert ReclaimUnderdraw(inner, DecodeOnlyDraw(0.15)).decide(observation).awake == (LARGE, SMALL)


def test_a_dip_is_not_filled_up_with_a_plan_that_gives_fewer_tokens(fleets: Any) -> None:
    slow = OperatingPoint(600, 200, SMALL.output_tps - 1.0, 45.0)

    class Wasteful(BoundedPolicy):
        def decide_among(self, observation: Observation, bounds: AwakeBounds) -> Plan:
            return plan_of(slow if observation.gpu_budget_w > 40.0 else SMALL)

    observation = replace(holding(fleets, 300), gpu_budget_w=40.0)
    assert ReclaimUnderdraw(Wasteful(), DecodeOnlyDraw(MOST_DEPTH)).decide(observation).awake == (
        SMALL,
    )


def test_what_is_learned_of_a_dip_fills_it_up(fleets: Any) -> None:
    dip, depth = DecodeOnlyDraw(), 0.15
    frontier = Frontier((SMALL, LARGE), 16.0, 20.0, "modelled")
    filled_up = ReclaimUnderdraw(FollowBudget(frontier, 40.0), dip)
    policy = DrawFeedback(filled_up, Margin(0.0, 1e-3), frontier.asleep_w, dip)
    observation = replace(holding(fleets, 200, 200), gpu_budget_w=95.0)
    draws_w = []
    for _ in range(20):
        plan = policy.decide(observation)
        draws_w.append(plan.draw_w * (1 - depth * full_share(observation, plan)))
        observation = replace(observation, now_s=observation.now_s + 1.0, draw_w=draws_w[-1])
    assert draws_w[0] == pytest.approx(68.0)
    assert draws_w[-1] == pytest.approx(94.0)


@given(
    depth=st.floats(0, MOST_DEPTH),
    budget_w=st.floats(0, 400),
    outstanding=st.lists(st.integers(0, 40), min_size=1, max_size=5),
)
def test_a_plan_that_fills_a_dip_draws_no_more_than_the_budget_or_else_the_inner_plan(
    fleets: Any,
    frontier: Frontier,
    depth: float,
    budget_w: float,
    outstanding: list[int],
) -> None:
    observation = replace(holding(fleets, *outstanding), gpu_budget_w=budget_w)
    inner = FollowBudget(frontier, frontier.drain.draw_w)
    before, plan = (
        inner.decide(observation),
        ReclaimUnderdraw(inner, DecodeOnlyDraw(depth)).decide(observation),
    )
    drawn_w = plan.draw_w * (1 - depth * full_share(observation, plan))
    assert drawn_w <= max(budget_w, before.draw_w) + 1e-9
    assert plan.output_tps >= before.output_tps - 1e-9
