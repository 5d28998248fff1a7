from __future__ import annotations

import copy
from typing import Any

import pytest
from tests.fixtures.running_sites import STATUS, status_of

from steppe.config import SitesSection
from steppe.sites.beats.message import read_beat, write_beat, write_snapshot
from steppe.sites.own_view import OwnModel, OwnView
from steppe.sites.view import PoolPoint, PoolView, SiteView

NOON_S = 1_800_014_400.0
"""12:00 UTC."""


@pytest.fixture
def section() -> SitesSection:
    peer = {"name": "b", "url": "https://h:1", "region": "eu", "token_keys": ["k"]}
    files = dict.fromkeys(("certificate", "key", "authority", "token_key"), "file")
    return SitesSection.model_validate(
        {
            "name": "a",
            "region": "cn",
            "data_classes": ["general", "personal"],
            "price_per_kwh": [0.01 * n for n in range(24)],
            "gco2_per_kwh": [400.0],
            "currency": "CNY",
            "peers": [peer],
            **files,
        }
    )


def view_of(section: SitesSection, status: dict[str, Any]) -> SiteView:
    own = OwnView(section, {"m": OwnModel("r1", 2.0)})
    own.take(status, 5.0, NOON_S)
    assert own.view is not None
    return own.view


def pool_of(section: SitesSection, **values: Any) -> PoolView:
    status = copy.deepcopy(STATUS)
    status["models"]["m"] |= values
    return view_of(section, status).pools["m"]


def test_before_the_first_tick_a_site_shows_nothing(section: SitesSection) -> None:
    own = OwnView(section, {})
    own.take({"controller": {"age_s": None, "stale": False}, "models": {}}, 5.0, NOON_S)
    assert own.view is None
    assert (own.shown().budget_w, own.shown().pools, own.shown().region) == (0.0, {}, "cn")


def test_what_a_site_shows_is_a_valid_beat(section: SitesSection) -> None:
    view = view_of(section, status_of())
    for each in (view, OwnView(section, {}).shown()):
        body = write_beat(write_snapshot(each, "0" * 16, 1), "b")
        assert read_beat(body, each.received_s).view == each


def test_the_surplus_is_what_is_left_of_wind_and_sun_within_the_headroom(
    section: SitesSection,
) -> None:
    for surplus_w, draw_w, headroom_w, left_w in (
        (900.0, 300.0, 700.0, 600.0),
        (900.0, 300.0, 100.0, 100.0),
        (200.0, 300.0, 700.0, 0.0),
        (900.0, 300.0, -5.0, 0.0),
    ):
        status = status_of(surplus_w=surplus_w, draw_w=draw_w, headroom_w=headroom_w)
        assert view_of(section, status).surplus_w == left_w


def test_prices_begin_with_the_present_hour(section: SitesSection) -> None:
    view = view_of(section, status_of())
    assert [view.price_micro[n] for n in (0, 11, 12)] == [120_000, 230_000, 0]
    assert view.gco2 == (400.0,) * 24


def test_a_model_shows_its_last_minute(section: SitesSection) -> None:
    pool = pool_of(section)
    assert (pool.ttft_s, pool.tpot_s, pool.uj_per_token) == (0.1, 0.02, 500_000.0)
    assert pool.points == (PoolPoint(1000.0, 400.0), PoolPoint(2000.0, 1000.0))


def test_a_model_without_requests_shows_its_operating_point(section: SitesSection) -> None:
    pool = pool_of(
        section, ttft_p95_s=None, tpot_mean_s=None, joules_per_token=None,
        full_joules_per_token=0.7,
    )  # fmt: skip
    assert (pool.ttft_s, pool.tpot_s, pool.uj_per_token) == (1.0, 0.02, 700_000.0)


def test_what_waiting_requests_will_take_is_not_free(section: SitesSection) -> None:
    assert pool_of(section, waiting=10, deferrable_waiting=4).free_tps == 1400.0 - 6 / 0.02
    assert pool_of(section, waiting=1000).free_tps == 0.0


def test_a_model_that_sleeps_has_to_wake_first(section: SitesSection) -> None:
    assert pool_of(section, awake=0, serves_in_s=12.0).ttft_s == 12.0
    assert pool_of(section, awake=0).ttft_s == 30.0


def test_a_tenant_without_regions_stays_in_the_own_one(section: SitesSection) -> None:
    status = status_of()
    asked = {"priority": "standard", "data_class": "general", "output_tps": 5.0}
    status["models"]["m"]["demand"] = [asked | {"regions": None}, asked | {"regions": ["eu", "us"]}]
    own, both = view_of(section, status).demand
    assert (set(own.regions), set(both.regions)) == ({"cn"}, {"eu"})


def test_of_many_kinds_of_requests_the_most_frequent_are_shown(section: SitesSection) -> None:
    status = status_of()
    status["models"]["m"]["demand"] = [
        {"priority": "standard", "regions": None, "data_class": f"c{n}", "output_tps": float(n)}
        for n in range(200)
    ]
    view = view_of(section, status)
    assert [each.output_tps for each in view.demand] == [float(n) for n in range(199, 135, -1)]
    read_beat(write_beat(write_snapshot(view, "0" * 16, 1), "b"), 0.0)


def test_a_gateway_that_is_silent_leaves_no_room(section: SitesSection) -> None:
    own = OwnView(section, {"m": OwnModel("r1", 2.0)})
    own.lose()
    assert own.view is None
    own.take(status_of(), 5.0, NOON_S)
    own.lose()
    assert own.view is not None
    assert (own.view.headroom_w, own.view.surplus_w, own.view.draw_w) == (0.0, 0.0, 300.0)
    assert own.view.pools["m"].free_tps == 0.0
