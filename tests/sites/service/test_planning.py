from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.sites.conftest import MakeSite

from steppe.sites.plan.inputs import MOST_FLOWS, PlanInputs
from steppe.sites.quotas import QuotaLease
from steppe.sites.service.planning import LEAST_S, Planning
from steppe.sites.view import Demand, Expected, SiteView

STEP_S, PERIOD_S, LEASE_S = 900.0, 300.0, 30.0
ASKED = Demand("m", "standard", frozenset({"north", "south"}), "public", 200.0)


def forecast(watts: float, steps: int = 16, step_s: float = STEP_S) -> tuple[Expected, ...]:
    return tuple(Expected(step_s * n, watts, watts, watts) for n in range(steps))


@pytest.fixture
def calm(make_site: MakeSite) -> SiteView:
    return make_site("a", budget_w=500.0, forecast=forecast(0.0), demand=(ASKED,))


@pytest.fixture
def windy(make_site: MakeSite) -> SiteView:
    return make_site("b", budget_w=900.0, surplus_w=500.0, forecast=forecast(900.0))


def inputs(here: SiteView, *peers: SiteView, rtt_s: float = 0.02) -> PlanInputs:
    trips = {peer.site: rtt_s for peer in peers}
    return PlanInputs(here, peers, trips, {"m": 2.0}, STEP_S)


def leases(
    planning: Planning, now_s: float, live: str = "b", **grants: Any
) -> tuple[QuotaLease, ...]:
    return planning.leases(live, grants, now_s)


@pytest.fixture
def planned(calm: SiteView, windy: SiteView) -> Planning:
    planning, found = Planning("a", PERIOD_S, LEASE_S), inputs(calm, windy)
    planning.take(found.plan(planning.begin(found, 0.0)), 0.0)
    return planning


def test_a_calm_site_may_send_to_a_windy_one(planned: Planning) -> None:
    (lease,) = leases(planned, 5.0)
    assert (lease.site, lease.model, lease.priority) == ("b", "m", "standard")
    assert 200.0 < lease.output_tps <= 250.0 + 1e-6
    assert (lease.granted_s, lease.lasts_s) == (5.0, LEASE_S)


def test_a_windy_site_keeps_its_work(calm: SiteView, windy: SiteView) -> None:
    here = replace(windy, demand=(ASKED,))
    plan = inputs(here, replace(calm, demand=())).plan(None)
    assert plan is not None
    assert plan.leases("b", 0.0, LEASE_S) == ()


def test_tenants_that_stay_in_their_region_send_nothing_elsewhere(
    calm: SiteView, windy: SiteView
) -> None:
    stays = replace(calm, region="south", demand=(ASKED._replace(regions=frozenset({"south"})),))
    plan = inputs(stays, windy).plan(None)
    assert plan is not None
    assert plan.quotas == {}


@pytest.mark.parametrize("other", [(), forecast(900.0, 8), forecast(900.0, 16, 300.0)])
def test_a_site_with_other_steps_is_left_out(
    calm: SiteView, windy: SiteView, other: tuple[Expected, ...]
) -> None:
    assert inputs(calm, replace(windy, forecast=other)).plan(None) is None


def test_a_site_that_does_not_show_its_demand_keeps_what_it_serves(
    calm: SiteView, windy: SiteView, make_site: MakeSite
) -> None:
    full = make_site("c", {"free_tps": 100.0}, region="south", forecast=forecast(0.0))
    plan = inputs(calm, windy, full).plan(None)
    assert plan is not None
    assert {way.origin for way in plan.quotas} == {"a"}


def test_leases_are_renewed_until_the_plan_is_old(planned: Planning) -> None:
    (lease,) = leases(planned, 2 * PERIOD_S)
    assert lease.granted_s == 2 * PERIOD_S
    (ended,) = leases(planned, 2 * PERIOD_S + 1.0)
    assert ended.output_tps == 0.0
    assert leases(planned, 2 * PERIOD_S + 1.0 + LEASE_S) == ()


def test_a_lease_to_a_site_that_is_not_live_ends_at_once(planned: Planning) -> None:
    assert leases(planned, 1.0)[0].output_tps > 0.0
    assert [each.output_tps for each in leases(planned, 2.0, live="")] == [0.0]
    assert leases(planned, 2.0 + LEASE_S, live="") == ()
    assert leases(planned, 3.0 + LEASE_S)[0].output_tps > 0.0


def test_the_larger_one_of_grant_and_plan_holds(planned: Planning) -> None:
    found = {each.priority: each for each in leases(planned, 1.0, b={"m": 70.0})}
    assert (found["deferrable"].output_tps, found["deferrable"].site) == (70.0, "b")
    assert found["standard"].output_tps > 200.0


def test_a_plan_is_due_when_sites_come_go_or_change(calm: SiteView, windy: SiteView) -> None:
    planning, first = Planning("a", PERIOD_S, LEASE_S), inputs(calm, windy)
    assert not planning.is_due(inputs(calm), 0.0)
    assert planning.is_due(first, 0.0)
    planning.begin(first, 0.0)
    later_s = LEAST_S + 1.0
    assert not planning.is_due(first, later_s)
    assert planning.is_due(first, PERIOD_S)
    jumped = replace(windy, surplus_w=windy.surplus_w - 100.0)
    grown = replace(calm, demand=(ASKED._replace(output_tps=450.0),))
    for changed in (inputs(calm), inputs(calm, jumped), inputs(grown, windy)):
        assert planning.is_due(changed, later_s)
        assert not planning.is_due(changed, LEAST_S - 1.0)
    small = replace(windy, surplus_w=windy.surplus_w - 70.0)
    assert not planning.is_due(inputs(calm, small), later_s)


def test_round_trips_between_others_go_over_this_site(
    calm: SiteView, windy: SiteView, make_site: MakeSite
) -> None:
    far = make_site("c", forecast=forecast(0.0), demand=(ASKED,), budget_w=300.0)
    found = PlanInputs(calm, (windy, far), {"b": 0.9, "c": 1.0}, {"m": 2.0}, STEP_S)
    plan = found.plan(None)
    assert plan is not None
    # 1.9 s and the first token there are more than 2 s; from here it is 0.9 s.
    ways = {(way.origin, way.site) for way in plan.quotas}
    assert ("a", "b") in ways
    assert ("c", "b") not in ways


def test_of_many_flows_those_with_the_most_tokens_are_planned(
    calm: SiteView, windy: SiteView
) -> None:
    many = [ASKED._replace(output_tps=0.01) for _ in range(2 * MOST_FLOWS)]
    here = replace(calm, demand=(*many, ASKED))
    plan = inputs(here, windy).plan(None)
    assert plan is not None
    (quota,) = plan.quotas.values()
    assert quota > 200.0
