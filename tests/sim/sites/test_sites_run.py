"""Several sites in one virtual time: requests go where the wind is, and nothing is lost."""

from __future__ import annotations

import pytest
from tests.fixtures.simulated_sites import EVERYWHERE, REGIONS, TRIPS_S, WIND_W, MakeSites, Ran

from steppe.config.several_sites import RoutingName
from steppe.control.batch_work import When
from steppe.sim.batch_jobs import Job
from steppe.sim.sites.policies import ROUTINGS
from steppe.sim.sites.settings import TenantTerms


@pytest.fixture(scope="module")
def windy(make_sites: MakeSites) -> Ran:
    """Return a run in which `b` has wind of its own."""
    return make_sites().run()


@pytest.fixture(scope="module")
def at_home(make_sites: MakeSites) -> Ran:
    """Return the same run with each request at its own site."""
    return make_sites().run("local")


def test_requests_go_to_the_site_with_wind(windy: Ran) -> None:
    assert windy.moved_share("a") > 0.3
    assert windy.moved_share("c") > 0.3
    assert windy.moved_share("b") < 0.1
    assert {call.site for call in windy.calls if call.is_moved} == {"b"}


def test_each_request_ends_once_and_with_its_whole_answer(windy: Ran, at_home: Ran) -> None:
    for ran in (windy, at_home):
        assert len({call.id for call in ran.calls}) == len(ran.calls) == 3 * 90
        assert {call.finish for call in ran.calls} == {"length"}


def test_own_wind_serves_more_than_without_moves(windy: Ran, at_home: Ran) -> None:
    grid_j = [
        sum(tick.sources_w["grid"] for each in ran.records.values() for tick in each.ticks)
        for ran in (windy, at_home)
    ]
    assert grid_j[0] < 0.95 * grid_j[1]


def test_the_way_there_and_back_is_part_of_the_time_to_the_first_token(windy: Ran) -> None:
    for call in windy.calls:
        assert call.ttft_s is not None
        if call.is_moved:
            assert call.ttft_s > TRIPS_S[call.home, call.site]
    request = next(r for r in windy.records["b"].requests if r.tenant == "site:a")
    call = next(call for call in windy.by_home("a") if call.id == request.id)
    assert call.ttft_s is not None
    assert request.ttft_s is not None
    assert call.ttft_s == pytest.approx(request.ttft_s + TRIPS_S["a", "b"])


def test_the_books_of_each_site_add_up(windy: Ran) -> None:
    for site, records in windy.records.items():
        totals = windy.totals[site]
        charged_j = sum(request.energy_j or 0.0 for request in records.requests)
        parts_j = charged_j + totals.idle_energy_j + totals.transition_energy_j
        assert parts_j == pytest.approx(totals.energy_j, rel=1e-9)
    of_calls_j = sum(call.energy_j for call in windy.calls)
    of_sites_j = sum(r.energy_j or 0.0 for each in windy.records.values() for r in each.requests)
    assert of_calls_j == pytest.approx(of_sites_j, rel=1e-9)


@pytest.mark.slow
def test_the_same_run_twice_is_the_same_run(make_sites: MakeSites, windy: Ran) -> None:
    again = make_sites().run()
    assert again.calls == windy.calls
    assert again.records == windy.records


@pytest.mark.parametrize(
    "routing",
    ["steppe", *(pytest.param(name, marks=pytest.mark.slow) for name in ROUTINGS[:-1])],
)
def test_no_request_leaves_the_regions_of_its_tenant(
    make_sites: MakeSites, routing: RoutingName
) -> None:
    tenants = {
        "at home": TenantTerms(frozenset({"north"}), "general"),
        "two": TenantTerms(frozenset({"north", "east"}), "general"),
        "secret": TenantTerms(frozenset(REGIONS.values()), "secret"),
        "free": EVERYWHERE,
    }
    ran = make_sites(tenants=tuple(tenants), long_s=25.0).run(routing, tenants=tenants)
    for call in ran.calls:
        terms = tenants[call.tenant]
        if call.site:
            assert REGIONS[call.site] in terms.regions
            assert terms.data_class == "general"
        else:
            assert call.finish in ("forbidden", "rejected")
    assert all(call.finish == "length" for call in ran.calls if call.tenant == "free")
    assert all(call.finish == "forbidden" for call in ran.calls if call.tenant == "secret")


def test_a_full_site_refuses_and_the_request_is_served_elsewhere(make_sites: MakeSites) -> None:
    ran = make_sites(rate_rps=7.0, long_s=30.0).run("greenest")
    refused = [call for call in ran.calls if call.refusals]
    assert refused, "greenest sends all to one site"
    assert any(call.finish == "length" for call in refused)
    assert not any(call.finish in ("failed", "rejected") for call in refused)


@pytest.mark.slow
def test_rows_of_a_batch_job_go_to_the_site_with_surplus_and_end_once(
    make_sites: MakeSites,
) -> None:
    job = Job("job", 5.0, 30, 60.0, 30.0, when=When.SURPLUS)
    ran = make_sites(jobs=(job,)).run(wind_w={"a": 1.0, "b": WIND_W})
    rows = [call for call in ran.calls if call.row and call.finish == "length"]
    assert len(rows) == len({call.id for call in rows}) == 30
    assert sum(call.site == "b" for call in rows) > 20, "`a` has no wind for them"
