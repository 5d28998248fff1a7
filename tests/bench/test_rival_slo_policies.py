"""Policies that keep an SLO at the least energy, as the benchmarks compare them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fixtures.fake_fleet import FakeFleet

import rival_slo_policies as rivals
from steppe.config import ControlSection
from steppe.control.measurements import LatencyCounts
from steppe.control.plan import Plan
from steppe.control.policy.goals import SLO_SHARE, decide
from steppe.control.policy.policy import PoolFacts
from steppe.control.state import Observation, ReplicaState
from steppe.frontier.at_lengths import LatencyLimits
from steppe.frontier.pareto import Frontier
from steppe.roofline.point import OperatingPoint

AWAKE, ASLEEP = ReplicaState.AWAKE, ReplicaState.ASLEEP
REPLICAS, TPOT_S = 4, 0.12


def _timed_frontier() -> Frontier:
    points = []
    for clock in range(600, 2041, 90):
        share = clock / 2040
        for batch in (1, 2, 4, 8, 16):
            step_s = 0.02 + 0.004 * batch / share
            draw_w = 22 + 8 * share + 42 * (0.3 + 0.7 * batch / 16) * share**3
            points.append(OperatingPoint(clock, batch, batch / step_s, draw_w, step_s))
    return Frontier.of(points, asleep_w=16.0, idle_w=20.0, source="modelled")


FRONTIER = _timed_frontier()
PROFILE = rivals.SloProfile(LatencyLimits(2.0, TPOT_S), None)
FULL_BATCH = FRONTIER.full_batch.points
budgets = st.floats(0, 400)


def fleet(budget_w: float = 1e4, waiting: int = 0, demand_tps: float = 0.0) -> Observation:
    observation = FakeFleet.of([AWAKE] * REPLICAS, budget_w, waiting).observation
    return replace(observation, demand_tps=demand_tps)


def facts(speedup: float = 1.0) -> PoolFacts:
    control = ControlSection(dwell_s=0.0)
    return PoolFacts(FRONTIER, REPLICAS, 1, control, TPOT_S, 300.0, lambda *_: (), speedup=speedup)


def dynamo(replicas: int = REPLICAS, clock_mhz: int | None = None) -> rivals.DynamoGoal:
    return rivals.DynamoGoal(FRONTIER, PROFILE, 0.95, replicas, clock_mhz)


@given(budget_w=budgets, replicas=st.integers(1, REPLICAS), wanted=st.sampled_from(FULL_BATCH))
def test_the_budget_is_a_cap_on_replicas_and_clock(
    budget_w: float, replicas: int, wanted: OperatingPoint
) -> None:
    plan = decide(dynamo(replicas, wanted.clock_mhz), fleet(budget_w, waiting=9))
    assert plan.draw_w <= budget_w or not plan.feasible
    assert len({point.clock_mhz for point in plan.awake}) <= 1
    assert len(plan.awake) <= replicas
    asleep_w = (REPLICAS - replicas) * FRONTIER.asleep_w
    if wanted.tpot_s <= TPOT_S and replicas * wanted.draw_w + asleep_w <= budget_w:
        assert plan.awake == (wanted,) * replicas


@given(load_tps=st.floats(1.0, 500.0))
def test_the_replicas_for_a_load_are_those_with_the_least_energy_that_keep_the_slo(
    load_tps: float,
) -> None:
    able_w = {}
    for replicas in range(1, REPLICAS + 1):
        draws_w = [
            point.draw_w
            for point in FRONTIER.candidates
            if point.tpot_s <= SLO_SHARE * TPOT_S
            and 0.95 * point.output_tps * replicas >= load_tps * (1 - 1e-12)
        ]
        if draws_w:
            asleep_w = (REPLICAS - replicas) * FRONTIER.asleep_w
            able_w[replicas] = replicas * min(draws_w) + asleep_w
    found = dynamo().replicas_for(fleet(), load_tps)
    assert found == (min(able_w, key=lambda n: able_w[n]) if able_w else REPLICAS)


def test_a_small_load_takes_a_low_clock_and_a_queue_or_a_late_request_the_highest() -> None:
    highest_mhz = FULL_BATCH[-1].clock_mhz
    quiet = fleet(demand_tps=10.0)
    assert dynamo().clock_for(quiet) < highest_mhz
    assert dynamo().clock_for(fleet(waiting=1, demand_tps=10.0)) == highest_mhz
    late = replace(quiet, latency=LatencyCounts(overdue=1))
    assert dynamo().clock_for(late) == highest_mhz


def test_replicas_change_once_a_period_and_clocks_more_often() -> None:
    policy = rivals.DynamoLLM(facts(speedup=10.0))  # 180 s of the run, and 0.5 s

    def plan(now_s: float, demand_tps: float) -> Plan:
        observation = FakeFleet.of([AWAKE, *[ASLEEP] * 3], 1e4, waiting=0).observation
        return policy.decide(replace(observation, now_s=now_s, demand_tps=demand_tps))

    low, mid, high = (plan(now_s, tps) for now_s, tps in ((0, 20.0), (1, 200.0), (180, 200.0)))
    assert len(low.awake) == len(mid.awake) < len(high.awake)
    assert low.awake[0].clock_mhz < mid.awake[0].clock_mhz


@given(budgets)
def test_every_replica_is_awake_and_no_clock_exceeds_the_cap(budget_w: float) -> None:
    plan = decide(rivals.SloDvfsGoal(FRONTIER, PROFILE), fleet(budget_w, waiting=9))
    assert len(plan.awake) == REPLICAS
    lowest = FRONTIER.full_batch.floor
    assert plan.draw_w <= budget_w or plan.awake == (lowest,) * REPLICAS


@pytest.mark.parametrize("waiting", [0, 1])
def test_clocks_are_the_lowest_that_keep_the_slo_and_the_highest_where_requests_wait(
    waiting: int,
) -> None:
    observation = fleet(waiting=waiting)
    (clock_mhz,) = {
        point.clock_mhz
        for point in decide(rivals.SloDvfsGoal(FRONTIER, PROFILE), observation).awake
    }
    if waiting:
        assert clock_mhz == FULL_BATCH[-1].clock_mhz
    else:
        assert clock_mhz == FULL_BATCH[0].clock_mhz  # one to three sequences each


def test_a_fuller_batch_takes_a_higher_clock() -> None:
    def clock_mhz(outstanding: int) -> int:
        observation = fleet()
        busy = tuple(replace(r, outstanding=outstanding) for r in observation.replicas)
        goal = rivals.SloDvfsGoal(FRONTIER, PROFILE)
        return decide(goal, replace(observation, replicas=busy)).awake[0].clock_mhz

    clocks = [clock_mhz(outstanding) for outstanding in (2, 8, 16)]
    assert clocks == sorted(clocks)
    assert clocks[0] < clocks[-1]
    at_16 = next(p for p in FULL_BATCH if p.clock_mhz == clocks[-1])
    assert at_16.tpot_s <= SLO_SHARE * TPOT_S
    below = [p for p in FULL_BATCH if p.clock_mhz < clocks[-1]]
    assert all(p.tpot_s > SLO_SHARE * TPOT_S for p in below)
