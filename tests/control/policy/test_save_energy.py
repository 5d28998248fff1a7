from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.fixtures.fake_fleet import DelayedScaleDown, FakeFleet

from steppe.control.policy.goals import SaveEnergy, at_slo
from steppe.control.reconcile import DrainRule, reconcile
from steppe.control.state import Observation, ReplicaState
from steppe.errors import InfeasibleError
from steppe.frontier.pareto import Frontier
from steppe.roofline.point import OperatingPoint

AWAKE = ReplicaState.AWAKE


def policy_of(frontier: Frontier) -> SaveEnergy:
    return SaveEnergy(frontier, frontier.floor.draw_w, utilisation=0.8)


def asking(replicas: int, demand_tps: float, waiting: int = 0) -> Observation:
    observation: Observation = FakeFleet.of([AWAKE] * replicas, 1e6, waiting).observation
    idle = tuple(replace(replica, outstanding=0) for replica in observation.replicas)
    return replace(observation, replicas=idle, demand_tps=demand_tps)


@settings(deadline=None)
@given(st.integers(1, 20), st.floats(0, 1))
def test_the_plan_covers_the_demand_at_its_utilisation_for_the_least_draw(
    frontier: Frontier, replicas: int, share: float
) -> None:
    most_tps = replicas * frontier.full.output_tps
    demand_tps = 0.8 * share * most_tps * (1 - 1e-9)
    plan = policy_of(frontier).decide(asking(replicas, demand_tps))
    assert plan.output_tps >= demand_tps / 0.8 * (1 - 1e-9)
    all_alike = [p for p in frontier.points if replicas * p.output_tps >= demand_tps / 0.8]
    drained_w = (replicas - len(plan.awake)) * (frontier.floor.draw_w - frontier.asleep_w)
    assert plan.draw_w - drained_w <= replicas * all_alike[0].draw_w + 1e-6


def test_a_demand_beyond_the_fleet_gets_all_there_is(frontier: Frontier) -> None:
    plan = policy_of(frontier).decide(asking(3, 1e9))
    assert plan.awake == (frontier.full,) * 3


def test_requests_that_wait_raise_the_plan_until_they_have_a_place(frontier: Frontier) -> None:
    policy = policy_of(frontier)
    quiet, queue = (policy.decide(asking(3, 1.0, waiting)) for waiting in (0, 20))
    assert quiet.slots < 20 <= queue.slots
    assert queue.draw_w < 3 * frontier.full.draw_w


def test_the_budget_is_a_ceiling(frontier: Frontier) -> None:
    observation = replace(asking(3, 1e9), gpu_budget_w=100.0)
    assert policy_of(frontier).decide(observation).draw_w <= 100.0


@given(
    st.lists(
        st.builds(
            OperatingPoint,
            clock_mhz=st.just(900),
            batch_limit=st.just(4),
            output_tps=st.integers(1, 9).map(float),
            draw_w=st.integers(20, 29).map(float),
            tpot_s=st.integers(1, 5).map(float),
        ),
        min_size=1,
    ),
    st.integers(1, 5),
)
def test_an_slo_finds_all_points_that_are_the_best_within_it(
    measured: list[OperatingPoint], slo_s: int
) -> None:
    within = [point for point in measured if point.tpot_s <= slo_s]
    assume(within)
    best = Frontier.of(within, 10.0, 12.0, "modelled").points
    found = at_slo(Frontier.of(measured, 10.0, 12.0, "modelled"), slo_s).points
    assert [(p.draw_w, p.output_tps) for p in found] == [(p.draw_w, p.output_tps) for p in best]


def test_points_that_break_the_slo_are_dropped(frontier: Frontier) -> None:
    slow, fast = (
        replace(p, tpot_s=s) for p, s in zip(frontier.points[-2:], (0.3, 0.1), strict=True)
    )
    measured = replace(frontier, points=(slow, fast))
    assert at_slo(measured, 0.2).points == (fast,)
    with pytest.raises(InfeasibleError, match=r"asked for 0.05 s per output token, found 0.1 s"):
        at_slo(measured, 0.05)


def test_requests_inside_a_sleeping_replica_go_on_as_soon_as_the_budget_holds_it(
    frontier: Frontier,
) -> None:
    fleet = FakeFleet.of([AWAKE] + [ReplicaState.ASLEEP] * 3, 1e6, waiting=0)
    held = tuple(
        replace(replica, outstanding=4 if number < 2 else 0)
        for number, replica in enumerate(fleet.observation.replicas)
    )
    fleet.observation = replace(fleet.observation, replicas=held, demand_tps=20.0)
    policy, rule = DelayedScaleDown(policy_of(frontier), 10.0), DrainRule(frontier.drain, 30.0)
    for tick in range(100):
        observation = fleet.observe(float(tick))
        fleet.apply(reconcile(observation, policy.decide(observation), rule))
        assert fleet.observation.count(ReplicaState.ASLEEP) >= 2
        if tick > 2:
            assert fleet.observation.frozen == 0
    assert len(policy.decide(fleet.observation).awake) == 1
