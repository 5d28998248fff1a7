from __future__ import annotations

import typing
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from steppe.config import ControlSection, HorizonSection
from steppe.config.control import PolicyName
from steppe.control.horizon.bounds import HorizonBounds
from steppe.control.policy.choose import PoolFacts, make_policy
from steppe.control.policy.damping import Ramp, ScaleDownDelay
from steppe.control.policy.draw_feedback import DrawFeedback
from steppe.control.policy.raise_batch_limits import RaiseBatchLimits
from steppe.control.state import ReplicaState
from steppe.errors import InfeasibleError
from steppe.frontier.pareto import Frontier

NEEDS: dict[str, Any] = {"nameplate": {"nameplate_w": 90.0}, "power_cap": {"least_cap_w": 30.0}}
IGNORE_THE_BUDGET = ("full_clocks", "reactive")
MAY_SLEEP = ("follow_budget", "save_energy", "replicas", "clocks_and_replicas", "nameplate")


def steady(now_s: float, horizon_s: float, step_s: float) -> Sequence[tuple[float, float]]:
    return [(now_s + i * step_s, 100.0) for i in range(round(horizon_s / step_s + 0.5))]


def facts(frontier: Frontier, replicas: int = 4) -> PoolFacts:
    return PoolFacts(frontier, replicas, 0.2, 300.0, steady)


def section(policy: Any, **more: Any) -> ControlSection:
    return ControlSection(policy=policy, **NEEDS.get(policy, {}), **more)


@pytest.mark.parametrize("name", typing.get_args(PolicyName))
def test_every_policy_that_can_be_asked_for_decides(
    frontier: Frontier, fleets: Any, name: str
) -> None:
    policy = make_policy(section(name), facts(frontier))
    plan = policy.decide(fleets.of([ReplicaState.AWAKE] * 4, 170.0).observation)
    assert plan.awake
    assert (plan.draw_w <= 170.0) is (name not in IGNORE_THE_BUDGET)
    assert (len(plan.awake) < 4) <= (name in (*MAY_SLEEP, "reactive"))


def test_the_default_follows_the_budget_with_feedback_ramp_and_dwell(frontier: Frontier) -> None:
    policy = make_policy(ControlSection(), facts(frontier))
    assert isinstance(policy, DrawFeedback)
    assert isinstance(policy.inner, Ramp)
    assert policy.inner.rise_w_per_s == pytest.approx(0.25 * 4 * frontier.full.draw_w)
    assert isinstance(policy.inner.inner, RaiseBatchLimits)
    assert isinstance(policy.inner.inner.inner, ScaleDownDelay)


@pytest.mark.parametrize("slo_s", [0.01, 0.05, 0.2])
def test_the_budget_is_followed_at_points_that_keep_the_slo_if_any_does(
    frontier: Frontier, fleets: Any, slo_s: float
) -> None:
    points = tuple(replace(p, tpot_s=p.batch_limit / p.output_tps) for p in frontier.points)
    timed = replace(frontier, points=points)
    fastest_s = min(point.tpot_s for point in points)
    policy = make_policy(section("follow_budget"), PoolFacts(timed, 4, slo_s, 300.0, steady))
    plan = policy.decide(fleets.of([ReplicaState.AWAKE] * 4, 170.0).observation)
    slowest_s = max(point.tpot_s for point in plan.awake)
    assert slowest_s <= slo_s or slo_s < fastest_s


def test_a_horizon_is_planned_only_where_it_is_configured(frontier: Frontier, fleets: Any) -> None:
    horizon = HorizonSection(step_s=600, steps=6)
    policy: Any = make_policy(section("follow_budget", horizon=horizon), facts(frontier))
    assert isinstance(policy.inner.inner.inner.inner, HorizonBounds)
    assert policy.decide(fleets.of([ReplicaState.AWAKE] * 4, 100.0).observation).awake


def test_a_horizon_counts_on_no_point_that_breaks_the_slo(frontier: Frontier) -> None:
    points = tuple(replace(p, tpot_s=p.batch_limit / p.output_tps) for p in frontier.points)
    slo_s = sorted(point.tpot_s for point in points)[len(points) // 2]
    pool = PoolFacts(replace(frontier, points=points), 4, slo_s, 300.0, steady)
    policy: Any = make_policy(ControlSection(horizon=HorizonSection()), pool)
    known = policy.inner.inner.inner.inner.horizon.terms.frontier.candidates
    assert max(point.tpot_s for point in known) <= slo_s


@pytest.mark.parametrize(("speedup", "every_s"), [(1.0, 60.0), (24.0, 2.5), (360.0, 1.0)])
def test_a_horizon_is_a_day_of_trace_time_however_fast_the_trace_passes(
    frontier: Frontier, speedup: float, every_s: float
) -> None:
    pool = replace(facts(frontier), speedup=speedup)
    policy: Any = make_policy(ControlSection(horizon=HorizonSection()), pool)
    planned = policy.inner.inner.inner.inner
    terms = planned.horizon.terms
    assert planned.horizon.steps * terms.step_s * speedup == pytest.approx(86_400)
    assert planned.every_s == every_s
    assert terms.patience_s == pool.max_wait_s


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"policy": "nameplate"}, "policy nameplate needs nameplate_w"),
        ({"policy": "power_cap"}, "policy power_cap needs least_cap_w"),
        ({"policy": "clocks", "horizon": {}}, "policy clocks has no use for a horizon"),
        ({"policy": "magic"}, "Input should be"),
    ],
)
def test_a_policy_without_what_it_needs_is_an_error(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ControlSection.model_validate(values)


def test_an_slo_that_no_point_keeps_is_an_error(frontier: Frontier) -> None:
    slow = Frontier.of(
        [
            p.__class__(p.clock_mhz, p.batch_limit, p.output_tps, p.draw_w, 9.0)
            for p in frontier.points
        ],
        frontier.asleep_w,
        frontier.idle_w,
        "modelled",
    )
    with pytest.raises(InfeasibleError, match=r"per output token \(0.9 of an SLO of"):
        make_policy(section("save_energy"), facts(slow))
