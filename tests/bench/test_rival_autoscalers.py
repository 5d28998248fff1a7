"""Autoscalers at a locked clock, as the benchmarks compare them."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fixtures.fake_fleet import FakeFleet, modelled_frontier

import policies
import rival_autoscalers as autoscalers
import scenarios
from bench_fleets import Size, make_bench
from rival_plans import best_lock
from rival_policies import ClocksAndReplicasGoal, ReplicasGoal
from steppe.config import ControlSection
from steppe.control.policy.goals import decide
from steppe.control.policy.policy import PoolFacts
from steppe.control.state import Observation, ReplicaState
from steppe.frontier.pareto import Frontier

AWAKE, ASLEEP = ReplicaState.AWAKE, ReplicaState.ASLEEP
FRONTIER = modelled_frontier()
CLOCKS_MHZ = [point.clock_mhz for point in FRONTIER.full_batch.points]
budgets = st.floats(0, 400)
clocks = st.sampled_from(CLOCKS_MHZ)


def facts() -> PoolFacts:
    return PoolFacts(FRONTIER, 4, 1, ControlSection(), 0.2, 300.0, lambda *_: ())


def fleet(budget_w: float, waiting: int = 9) -> Observation:
    observation = FakeFleet.of([AWAKE] * 4, budget_w, waiting).observation
    idle = tuple(replace(replica, outstanding=0) for replica in observation.replicas)
    return replace(observation, replicas=idle)


@given(budget_w=budgets, clock_mhz=clocks)
def test_a_locked_clock_wakes_as_many_replicas_as_the_budget_covers(
    budget_w: float, clock_mhz: int
) -> None:
    plan = decide(autoscalers.StaticClockGoal(FRONTIER, clock_mhz), fleet(budget_w))
    assert {point.clock_mhz for point in plan.awake} <= {clock_mhz}
    assert {point.batch_limit for point in plan.awake} <= {FRONTIER.full.batch_limit}
    assert plan.draw_w <= budget_w or not plan.feasible
    draw_w = next(p.draw_w for p in FRONTIER.full_batch.points if p.clock_mhz == clock_mhz)
    room_w = budget_w - 4 * FRONTIER.asleep_w
    assert len(plan.awake) == max(0, min(4, math.floor(room_w / (draw_w - FRONTIER.asleep_w))))


@given(budgets)
def test_the_best_locked_clock_gives_what_replicas_give_or_more_and_never_more_than_both_knobs(
    budget_w: float,
) -> None:
    observation = fleet(budget_w)
    best_tps = max(
        decide(autoscalers.StaticClockGoal(FRONTIER, mhz), observation).output_tps
        for mhz in CLOCKS_MHZ
    )
    assert best_tps >= decide(ReplicasGoal(FRONTIER), observation).output_tps
    both = decide(ClocksAndReplicasGoal(FRONTIER), observation)
    assert best_tps <= both.output_tps * (1 + 1e-9)


def test_without_a_clock_the_lock_is_the_one_with_the_fewest_joules_per_token() -> None:
    plan = autoscalers.StaticClockReplicas(facts()).decide(fleet(1e4))
    cheapest = min(FRONTIER.full_batch.points, key=lambda point: point.joules_per_token)
    assert set(plan.awake) == {cheapest}
    assert cheapest.clock_mhz < FRONTIER.full.clock_mhz


def test_a_clock_that_misses_the_slo_is_no_default_unless_all_miss_it() -> None:
    points = [replace(p, tpot_s=200.0 / p.clock_mhz) for p in FRONTIER.full_batch.points]
    timed = Frontier.of(points, FRONTIER.asleep_w, FRONTIER.idle_w, "modelled")
    cheapest_mhz = best_lock(timed, 1.0).clock_mhz
    assert best_lock(timed, 0.1).clock_mhz >= 2000 > cheapest_mhz
    assert best_lock(timed, 0.001).clock_mhz == cheapest_mhz


@pytest.mark.parametrize(("waiting", "awake"), [(0, 1), (13, 2), (1000, 4)])
def test_a_locked_autoscaler_follows_the_requests_whatever_the_budget(
    waiting: int, awake: int
) -> None:
    goal = autoscalers.ReactiveGoal(FRONTIER, 0.8, CLOCKS_MHZ[0])
    assert decide(goal, fleet(1.0, waiting)).awake == (FRONTIER.full_batch.floor,) * awake


@given(budget_w=budgets, waiting=st.integers(0, 100), clock_mhz=clocks)
def test_a_capped_autoscaler_has_what_it_needs_and_no_more_than_the_budget_covers(
    budget_w: float, waiting: int, clock_mhz: int
) -> None:
    observation = fleet(budget_w, waiting)
    capped = decide(autoscalers.CappedGoal(FRONTIER, 0.8, clock_mhz), observation)
    needed = decide(autoscalers.ReactiveGoal(FRONTIER, 0.8, clock_mhz), observation)
    covered = decide(autoscalers.StaticClockGoal(FRONTIER, clock_mhz), observation)
    assert len(capped.awake) == min(len(needed.awake), len(covered.awake))
    assert capped.draw_w <= budget_w or not capped.feasible


@pytest.mark.parametrize(("fill", "awake"), [(0.5, 4), (1.0, 2)])
@pytest.mark.parametrize(
    "policy", [autoscalers.ClockLockedAutoscaler, autoscalers.CappedAutoscaler]
)
def test_a_tuned_autoscaler_keeps_its_replicas_as_full_as_it_was_asked_to(
    policy: type[autoscalers.CappedAutoscaler], fill: float, awake: int
) -> None:
    observation = FakeFleet.of([AWAKE] + [ASLEEP] * 3, 1e4, 31).observation
    plan = policy(facts(), CLOCKS_MHZ[3], fill).decide(observation)
    assert [point.clock_mhz for point in plan.awake] == [CLOCKS_MHZ[3]] * awake


@pytest.mark.slow
@pytest.mark.parametrize("name", ["static_clock", "capped_autoscaler", "dynamo_llm", "slo_dvfs"])
def test_rivals_keep_to_a_budget_that_steps(name: str) -> None:
    bench = make_bench(Size("8b", 4, 160.0))
    happening = scenarios.forty_steps(bench.full_w, 160.0)
    summary, _ = policies.run(bench, name, happening)
    over_j = summary["tracking"]["over_budget_j"]
    assert over_j is not None
    assert over_j <= 0.01 * summary["energy_j"]
    assert summary["output_tokens"] > 0.3 * bench.frontier.full.output_tps * 4 * 160
