from __future__ import annotations

import typing
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError
from tests.fixtures.fake_fleet import FakeFleet

from steppe.config import ControlSection, HorizonSection
from steppe.config.control import PolicyName
from steppe.control.policy.make import make_policy
from steppe.control.policy.pipeline import PolicyPipeline
from steppe.control.policy.policy import PoolFacts
from steppe.control.state import ReplicaState
from steppe.errors import InfeasibleError
from steppe.frontier.pareto import Frontier
from steppe.power.battery import Battery, BatteryView

AWAKE = ReplicaState.AWAKE


def steady(now_s: float, horizon_s: float, step_s: float) -> Sequence[tuple[float, float]]:
    return [(now_s + i * step_s, 100.0) for i in range(round(horizon_s / step_s + 0.5))]


def facts(frontier: Frontier, control: ControlSection | None = None) -> PoolFacts:
    return PoolFacts(frontier, 4, 1, control or ControlSection(), 0.2, 300.0, steady)


def timed(frontier: Frontier) -> Frontier:
    """Return the points with the time per output token of their batch."""
    points = [replace(p, tpot_s=p.batch_limit / p.output_tps) for p in frontier.candidates]
    return Frontier.of(points, frontier.asleep_w, frontier.idle_w, frontier.source)


@pytest.mark.parametrize("name", typing.get_args(PolicyName))
def test_every_named_policy_decides(frontier: Frontier, name: str) -> None:
    policy = make_policy(facts(frontier, ControlSection(policy=name)))
    plan = policy.decide(FakeFleet.of([AWAKE] * 4, 170.0).observation)
    assert plan.awake
    assert (plan.draw_w <= 170.0) is (name != "full_clocks")


def test_full_clocks_ignore_the_budget(frontier: Frontier) -> None:
    policy = make_policy(facts(frontier, ControlSection(policy="full_clocks")))
    plan = policy.decide(FakeFleet.of([AWAKE, ReplicaState.ASLEEP], 1.0).observation)
    assert plan.awake == (frontier.full, frontier.full)
    assert plan.draw_w == 2 * frontier.full.draw_w


@pytest.mark.parametrize("slo_s", [0.01, 0.05, 0.2])
def test_only_points_that_keep_the_slo_are_used_if_any_does(
    frontier: Frontier, slo_s: float
) -> None:
    points = timed(frontier)
    fastest_s = min(point.tpot_s for point in points.candidates)
    policy = make_policy(replace(facts(points), tpot_s=slo_s))
    plan = policy.decide(FakeFleet.of([AWAKE] * 4, 170.0).observation)
    slowest_s = max(point.tpot_s for point in plan.awake)
    assert slowest_s <= slo_s or slo_s < fastest_s


@pytest.mark.parametrize(("speedup", "every_s"), [(1.0, 60.0), (24.0, 2.5), (360.0, 1.0)])
def test_the_horizon_is_a_day_of_trace_time_at_any_speedup(
    frontier: Frontier, speedup: float, every_s: float
) -> None:
    points = timed(frontier)
    slo_s = sorted(point.tpot_s for point in points.candidates)[10]
    pool = replace(
        facts(points, ControlSection(horizon=HorizonSection())),
        store=BatteryView(Battery(1e5, 100.0, 100.0), lambda: 0.0, steady),
        speedup=speedup,
        tpot_s=slo_s,
    )
    policy = make_policy(pool)
    assert isinstance(policy, PolicyPipeline)
    assert policy.horizon is not None
    terms = policy.horizon.terms
    assert policy.horizon.steps * terms.step_s * speedup == pytest.approx(86_400)
    assert policy.horizon.every_s == every_s
    assert terms.patience_s == pool.max_wait_s
    assert max(point.tpot_s for point in terms.frontier.candidates) <= slo_s


@pytest.mark.parametrize(("given_j", "expected"), [(None, 5.0), (0.0, 0.0)])
def test_a_wake_costs_five_seconds_of_an_idle_replica_unless_configured(
    frontier: Frontier, given_j: float | None, expected: float
) -> None:
    policy = make_policy(facts(frontier, ControlSection(wake_j=given_j)))
    assert isinstance(policy, PolicyPipeline)
    assert policy.keep_awake.wake_j == expected * frontier.idle_w


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"policy": "full_clocks", "horizon": {}}, "policy full_clocks has no use for a horizon"),
        ({"policy": "magic"}, "asked for follow_budget, save_energy, full_clocks or package"),
        ({"policy": "no class:here"}, "or package.module:Class"),
    ],
)
def test_a_policy_that_cannot_be_is_an_error(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ControlSection.model_validate(values)


def test_an_slo_that_no_point_keeps_is_an_error(frontier: Frontier) -> None:
    points = [replace(p, tpot_s=9.0) for p in frontier.points]
    slow = Frontier.of(points, frontier.asleep_w, frontier.idle_w, "modelled")
    with pytest.raises(InfeasibleError, match=r"per output token \(0.9 of an SLO of"):
        make_policy(facts(slow, ControlSection(policy="save_energy")))
