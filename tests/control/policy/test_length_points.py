"""Plans for the requests that come now: their points, and when they hold running requests."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.fixtures.fake_fleet import FakeFleet
from tests.fixtures.modelled_fleet import SWEPT, modelled_fleet

from steppe.control.plan import Plan
from steppe.control.policy.goals import FollowBudget, SaveEnergy
from steppe.control.policy.length_points import LengthPoints
from steppe.control.state import Learned, Observation, ReplicaState
from steppe.frontier.at_lengths import LatencyLimits
from steppe.frontier.pareto import Frontier
from steppe.roofline.lengths import RequestLengths
from steppe.roofline.step_costs import CostFactors

REPLICAS, LIMITS = 4, LatencyLimits(2.0, 0.15)
SUMMARIES = RequestLengths(2000, 30)


@pytest.fixture(scope="module")
def swept() -> Frontier:
    frontier: Frontier = modelled_fleet("70b").frontier
    return frontier


def points_of(frontier: Frontier) -> LengthPoints:
    found = LengthPoints.of(frontier, LIMITS)
    assert found is not None
    return found


def following(frontier: Frontier) -> FollowBudget:
    return FollowBudget(frontier, frontier.drain.draw_w, points_of(frontier))


def saving(frontier: Frontier) -> SaveEnergy:
    return SaveEnergy(frontier, frontier.drain.draw_w, 0.8, points_of(frontier))


def observed(
    budget_w: float, lengths: RequestLengths | None, rate_rps: float = 0.0, waiting: int = 0
) -> Observation:
    """Return an awake fleet whose clients send so many requests per second."""
    fleet = FakeFleet.of([ReplicaState.AWAKE] * REPLICAS, budget_w, waiting)
    tokens = 0.0 if lengths is None else lengths.output_tokens
    return replace(fleet.observation, demand_tps=rate_rps * tokens, lengths=lengths)


@pytest.mark.parametrize(
    ("share", "holds"),
    [(0.2, True), (0.3, False), (0.36, True), (0.42, True), (0.5, False), (1.1, False)],
)
def test_batch_limits_bind_running_requests_only_where_a_replica_is_at_its_lowest_clock(
    swept: Frontier, share: float, holds: bool
) -> None:
    policy, budget_w = following(swept), share * REPLICAS * swept.full.draw_w
    plan = policy.decide(observed(budget_w, SWEPT, rate_rps=30, waiting=50))
    lowest_mhz = min(point.clock_mhz for point in swept.candidates)
    at_lowest = any(point.clock_mhz == lowest_mhz for point in plan.awake)
    assert plan.holds is at_lowest is holds


def most_rps(plan: Plan, lengths: RequestLengths) -> float:
    return plan.output_tps / lengths.output_tokens


def test_the_same_requests_per_second_need_more_watts_if_their_prompts_are_longer(
    swept: Frontier,
) -> None:
    short, long = RequestLengths(500, 60), RequestLengths(3000, 60)
    for policy in (following(swept), saving(swept)):
        plans = [policy.decide(observed(1e6, each, rate_rps=10)) for each in (short, long)]
        assert plans[0].draw_w < 0.9 * plans[1].draw_w
        assert all(most_rps(plan, short) > 10 for plan in plans)


def test_without_known_requests_points_are_those_of_the_sweep(swept: Frontier) -> None:
    policy = following(swept)
    unknown, same = (policy.decide(observed(1e6, each, waiting=9)) for each in (None, SWEPT))
    assert unknown == same


def test_points_without_the_costs_of_a_step_hold_for_one_length(swept: Frontier) -> None:
    assert LengthPoints.of(replace(swept, costs=None), LIMITS) is None
    fixed = FollowBudget(swept, swept.drain.draw_w)
    plans = [fixed.decide(observed(20_000.0, each, waiting=9)) for each in (SWEPT, SUMMARIES)]
    assert plans[0] == plans[1]
    assert plans[0].holds


def test_a_reserve_raises_what_is_covered(swept: Frontier) -> None:
    quiet = observed(1e6, SUMMARIES, rate_rps=8)
    wary = quiet.with_learned(Learned(reserve=0.6))
    for policy in (following(swept), saving(swept)):
        assert policy.decide(wary).output_tps > 1.2 * policy.decide(quiet).output_tps


def test_the_guard_takes_the_fleet_to_the_most_tokens_that_the_watts_allow(
    swept: Frontier,
) -> None:
    quiet = observed(0.8 * REPLICAS * swept.full.draw_w, SUMMARIES, rate_rps=2)
    guarded = quiet.with_learned(Learned(at_ceiling=True))
    busy = observed(quiet.gpu_budget_w, SUMMARIES, rate_rps=2, waiting=500)
    for policy in (following(swept), saving(swept)):
        plan = policy.decide(guarded)
        assert plan.output_tps > 2 * policy.decide(quiet).output_tps
        assert plan.draw_w <= quiet.gpu_budget_w
        assert plan.output_tps >= 0.95 * following(swept).decide(busy).output_tps


def test_replicas_that_cost_more_than_modelled_give_fewer_tokens_for_the_same_watts(
    swept: Frontier,
) -> None:
    policy = following(swept)
    short = observed(0.5 * REPLICAS * swept.full.draw_w, SUMMARIES, waiting=99)
    costly = short.with_learned(Learned(CostFactors(1.0, 1.0, 1.3, 1.3)))
    plan = policy.decide(costly)
    assert plan.output_tps < 0.9 * policy.decide(short).output_tps
    assert plan.draw_w <= short.gpu_budget_w
