from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from steppe.errors import UsageError
from steppe.sites.plan.solve import plan_sites
from steppe.sites.plan.terms import Edge, Flow, PlanPool, PlanSite, PlanTerms, SitesPlan, Way
from steppe.sites.quotas import RAMP_PER_S

REGIONS = frozenset({"north", "south"})
PRICE = 1e-7
"""Price of a joule, 0.36 per kilowatt-hour."""


def site(
    name: str, renewable_w: Sequence[float], *, budget_w: float = 1000.0, **fields: Any
) -> PlanSite:
    """Return a site whose pool gives 1,000 tokens/s for 500 W."""
    steps = len(renewable_w)
    given = {
        "region": "north",
        "data_classes": frozenset({"public"}),
        "base_w": 0.0,
        "grid_cost": [PRICE] * steps,
        "pools": {"m": PlanPool((Edge(1000.0, 500.0),), 0.2)},
        **fields,
    }
    return PlanSite(name, budget_w=[budget_w] * steps, renewable_w=renewable_w, **given)


def flow(origin: str, output_tps: Sequence[float], **fields: Any) -> Flow:
    given = {"priority": "standard", "regions": REGIONS, "ttft_s": 1.0, **fields}
    return Flow(origin, "m", data_class="public", output_tps=output_tps, **given)


def trips(*names: str, rtt_s: float = 0.02) -> dict[tuple[str, str], float]:
    return {(one, other): rtt_s for one in names for other in names if one != other}


def planned(
    sites: Sequence[PlanSite],
    *flows: Flow,
    last: Mapping[Way, float] | None = None,
    terms: PlanTerms | None = None,
    rtt_s: float = 0.02,
) -> SitesPlan:
    names = [one.name for one in sites]
    return plan_sites(sites, flows, trips(*names, rtt_s=rtt_s), terms or PlanTerms(), last)


AB = Way("a", "b", "m", "standard")


def test_work_goes_to_surplus_as_far_as_it_reaches() -> None:
    plan = planned([site("a", [100.0]), site("b", [150.0])], flow("a", [600.0]))
    assert plan.quotas[AB] >= 299.0
    assert plan.grid_j == pytest.approx(50.0 * 900.0)
    assert plan.missed == pytest.approx(0.0, abs=1e-3)


def test_without_surplus_or_a_lower_price_work_stays() -> None:
    plan = planned([site("a", [0.0]), site("b", [0.0])], flow("a", [600.0]))
    assert plan.quotas == {}
    assert plan.moved == pytest.approx(0.0, abs=1e-3)


def test_work_goes_where_energy_costs_less() -> None:
    sites = [site("a", [0.0]), site("b", [0.0], grid_cost=[PRICE / 2])]
    assert planned(sites, flow("a", [600.0])).quotas == pytest.approx({AB: 600.0})


def test_a_site_that_lacks_power_sends_what_it_cannot_serve() -> None:
    sites = [site("a", [0.0], budget_w=100.0), site("b", [0.0], grid_cost=[2 * PRICE])]
    assert planned(sites, flow("a", [600.0])).quotas == pytest.approx({AB: 400.0})


def test_what_no_site_can_serve_is_missed_and_the_urgent_is_served_first() -> None:
    sites = [site("a", [0.0], budget_w=100.0), site("b", [0.0], budget_w=100.0)]
    urgent = flow("a", [300.0], priority="interactive")
    plan = planned(sites, urgent, flow("a", [300.0]))
    assert plan.missed == pytest.approx(200.0 * 900.0, rel=1e-6)
    assert plan.served == pytest.approx(400.0 * 900.0, rel=1e-6)


@pytest.mark.parametrize(
    ("there", "asked"),
    [
        ({"region": "west"}, {}),
        ({"data_classes": frozenset()}, {}),
        ({"pools": {}}, {}),
        ({}, {"ttft_s": 0.21}),
    ],
)
def test_no_quota_leads_to_a_site_that_may_not_serve(
    there: dict[str, Any], asked: dict[str, Any]
) -> None:
    plan = planned([site("a", [0.0]), site("b", [500.0], **there)], flow("a", [600.0], **asked))
    assert plan.quotas == {}


def test_deferrable_work_ignores_distance_and_waits_for_surplus() -> None:
    sites = [site("a", [0.0, 0.0]), site("b", [0.0, 500.0])]
    waiting = flow("a", [300.0, 0.0], priority="deferrable", ttft_s=0.1)
    plan = planned(sites, waiting, rtt_s=0.5)
    assert plan.grid_j == pytest.approx(0.0, abs=1.0)
    assert plan.draw_w["b"] == pytest.approx((0.0, 150.0), abs=1e-3)
    assert plan.missed == pytest.approx(0.0, abs=1.0)


def test_deferrable_work_that_waits_already_is_planned() -> None:
    sites = [site("a", [500.0]), site("b", [500.0])]
    waiting = flow("a", [0.0], priority="deferrable", backlog_tokens=9e5)
    assert planned(sites, waiting).served == pytest.approx(9e5, rel=1e-6)


def test_a_quota_does_not_change_for_a_small_gain() -> None:
    sites = [site("a", [0.0]), site("b", [0.0], grid_cost=[0.9999 * PRICE])]
    last: dict[Way, float] = {}
    free = PlanTerms(moved_token=0.0, changed_token=0.0)
    dear = PlanTerms(moved_token=0.0, changed_token=1e-5)
    assert planned(sites, flow("a", [600.0]), last=last, terms=free).quotas == pytest.approx(
        {AB: 600.0}
    )
    assert planned(sites, flow("a", [600.0]), last=last, terms=dear).quotas == {}
    held = planned(sites, flow("a", [600.0]), last={AB: 200.0}, terms=dear)
    assert held.quotas == pytest.approx({AB: 200.0})


def test_tenants_of_one_class_with_other_regions_share_a_quota() -> None:
    sites = [site("a", [0.0]), site("b", [0.0], grid_cost=[PRICE / 2], region="south")]
    bound = flow("a", [100.0], regions=frozenset({"north"}))
    plan = planned(sites, flow("a", [100.0]), flow("a", [50.0], ttft_s=2.0), bound)
    assert plan.quotas == pytest.approx({AB: 150.0})


def test_leases_to_a_site_share_its_ramp() -> None:
    sites = [site("a", [0.0]), site("c", [0.0]), site("b", [500.0])]
    plan = planned(sites, flow("a", [600.0]), flow("c", [200.0]))
    leases = [*plan.leases("a", 5.0, 30.0), *plan.leases("c", 5.0, 30.0)]
    assert {lease.site for lease in leases} == {"b"}
    assert sum(lease.ramp_tps2 for lease in leases) == pytest.approx(RAMP_PER_S * 1000.0)
    assert leases[0].output_tps == pytest.approx(600.0)
    assert plan.leases("b", 5.0, 30.0) == ()


def test_a_flow_has_few_targets_and_flows_spread_over_equal_sites() -> None:
    names = [f"s{number}" for number in range(12)]
    sites = [site(name, [0.0], budget_w=0.0) for name in names[:4]]
    sites += [site(name, [500.0], budget_w=400.0) for name in names[4:]]
    flows = [flow(name, [1000.0]) for name in names[:4]]
    plan = planned(sites, *flows, terms=PlanTerms(targets=5))
    for name in names[:4]:
        assert len([way for way in plan.quotas if way.origin == name]) <= 4
    assert plan.served == pytest.approx(4000.0 * 900.0, rel=1e-6), "each site is a target"


def test_series_of_other_lengths_and_unknown_sites_are_refused() -> None:
    with pytest.raises(UsageError, match="asked for 1 steps of standard flow of a, found 2"):
        planned([site("a", [0.0])], flow("a", [1.0, 2.0]))
    with pytest.raises(UsageError, match="asked for a flow of a known site, found x"):
        planned([site("a", [0.0])], flow("x", [1.0]))
    with pytest.raises(UsageError, match="found 0 sites"):
        planned([])


watts = st.floats(0.0, 800.0)
kinds = st.sampled_from(["interactive", "standard", "deferrable"])


@st.composite
def drawn(draw: st.DrawFn) -> tuple[list[PlanSite], list[Flow]]:
    names = ["a", "b", "c", "d"][: draw(st.integers(2, 4))]
    sites = [
        site(
            name,
            [draw(watts), draw(watts)],
            budget_w=draw(watts),
            base_w=draw(st.floats(0.0, 100.0)),
            region=draw(st.sampled_from(["north", "south", "west"])),
            grid_cost=[PRICE * draw(st.integers(0, 5)), PRICE],
        )
        for name in names
    ]
    flows = [
        flow(
            draw(st.sampled_from(names)),
            [draw(watts), draw(watts)],
            priority=draw(kinds),
            regions=draw(st.frozensets(st.sampled_from(["north", "south", "west"]))),
        )
        for _ in range(draw(st.integers(1, 4)))
    ]
    return sites, flows


@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(drawn())
def test_a_plan_keeps_law_capacity_and_power(case: tuple[list[PlanSite], list[Flow]]) -> None:
    sites, flows = case
    plan = planned(sites, *flows)
    by_name = {one.name: one for one in sites}
    for way, output_tps in plan.quotas.items():
        allowed = [f for f in flows if (f.origin, f.priority) == (way.origin, way.priority)]
        assert any(by_name[way.site].region in f.regions for f in allowed)
        assert output_tps <= sum(max(f.output_tps) for f in allowed) * 2 + 1e-3
    for one in sites:
        into = sum(tps for way, tps in plan.quotas.items() if way.site == one.name)
        assert into <= 1000.0 + 1e-3
        assert into * 0.5 <= max(0.0, one.budget_w[0] - one.base_w) + 1e-3
        for drawn_w, budget_w in zip(plan.draw_w[one.name], one.budget_w, strict=True):
            assert drawn_w <= max(budget_w, one.base_w) + 1e-3
    expected = sum(sum(f.output_tps) * 900.0 for f in flows)
    assert plan.served + plan.missed == pytest.approx(expected, rel=1e-6, abs=1.0)
