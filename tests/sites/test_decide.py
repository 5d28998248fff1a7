from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from tests.sites.conftest import MakeAsked, MakeSite

from steppe.control.ticket import PRIORITIES
from steppe.sites.decide import Choice, decide
from steppe.sites.pins import Pin
from steppe.sites.prepared import PreparedSites, Weights
from steppe.sites.quotas import QuotaLease, Quotas
from steppe.sites.view import RequestView, SiteView

NOW_S = 101.0


def prepared(
    *views: SiteView, rtt_s: float = 0.02, weights: Weights | None = None
) -> PreparedSites:
    names = [view.site for view in views]
    peers = {view.site: view for view in views[1:]}
    return PreparedSites(
        names, views[0], peers, dict.fromkeys(names[1:], rtt_s), weights or Weights()
    )


def full_quotas(names: Sequence[str], output_tps: float = 1e4) -> Quotas:
    quotas = Quotas(names, NOW_S - 20.0)
    quotas.grant(
        QuotaLease(name, "m", priority, output_tps, 1e6, NOW_S - 20.0, 60.0)
        for name in names[1:]
        for priority in PRIORITIES
    )
    quotas.advance(NOW_S - 10.0)
    quotas.advance(NOW_S)
    return quotas


def chosen(
    asked: RequestView, sites: PreparedSites, quotas: Quotas | None = None, **known: Any
) -> Choice:
    given = {"pin": None, "refused": {}, "now_s": NOW_S, "rng": random.Random(7), **known}
    return decide(asked, sites, quotas or full_quotas(sites.names), **given)


def test_an_interactive_request_goes_to_surplus(make_site: MakeSite, make_asked: MakeAsked) -> None:
    sites = prepared(make_site(), make_site("b", surplus_w=300.0), make_site("c"))
    assert chosen(make_asked(), sites) == Choice("b", "green")


def test_an_interactive_request_prefers_the_slo_to_surplus(
    make_site: MakeSite, make_asked: MakeAsked
) -> None:
    sites = prepared(make_site(), make_site("b", surplus_w=300.0, pool={"ttft_s": 3.0}))
    assert chosen(make_asked(ttft_s=1.0), sites) == Choice("a", "cost")


def test_the_round_trip_counts_against_the_slo(make_site: MakeSite, make_asked: MakeAsked) -> None:
    views = make_site(), make_site("b", surplus_w=300.0)
    asked = make_asked(ttft_s=0.25)
    assert chosen(asked, prepared(*views, rtt_s=0.04)).site == "b"
    assert chosen(asked, prepared(*views, rtt_s=0.06)).site == "a"


def test_among_sites_without_surplus_the_cheaper_one_serves(
    make_site: MakeSite, make_asked: MakeAsked
) -> None:
    cheap = make_site("b", price_micro=(100_000,) * 24)
    assert chosen(make_asked(), prepared(make_site(), cheap)) == Choice("b", "cost")


def test_among_equally_cheap_sites_the_nearest_serves(
    make_site: MakeSite, make_asked: MakeAsked
) -> None:
    assert chosen(make_asked(), prepared(make_site(), make_site("b"))) == Choice("a", "cost")


def test_a_site_that_is_too_slow_sends_on(make_site: MakeSite, make_asked: MakeAsked) -> None:
    sites = prepared(make_site(pool={"ttft_s": 2.0}), make_site("b"))
    assert chosen(make_asked(ttft_s=1.0), sites) == Choice("b", "slo")


@pytest.mark.parametrize(
    "masked",
    [
        {"region": "west"},
        {"data_classes": frozenset({"personal"})},
        {"received_s": NOW_S - 3.5},
        {"headroom_w": 19.0},
        {"pool": {"free_tps": 49.0}},
        {"pool": {"model": "n"}},
        {"pool": {"revision": "r2"}},
    ],
)
def test_nothing_goes_to_a_site_that_does_not_fit(
    make_site: MakeSite, make_asked: MakeAsked, masked: dict[str, Any]
) -> None:
    sites = prepared(make_site(), make_site("b", **{"surplus_w": 300.0, **masked}))
    for priority in PRIORITIES:
        assert chosen(make_asked(priority=priority, revision="r1"), sites).site == "a"


def test_nothing_goes_to_a_site_that_refused_until_its_time_is_over(
    make_site: MakeSite, make_asked: MakeAsked
) -> None:
    sites = prepared(make_site(), make_site("b", surplus_w=300.0))
    assert chosen(make_asked(), sites, refused={"b": NOW_S + 1.0}).site == "a"
    assert chosen(make_asked(), sites, refused={"b": NOW_S}).site == "b"


def test_a_site_without_heartbeat_or_round_trip_gets_nothing(
    make_site: MakeSite, make_asked: MakeAsked
) -> None:
    here, there = make_site(), make_site("b", surplus_w=300.0)
    unheard = PreparedSites(["a", "b"], here, {}, {"b": 0.01})
    unmeasured = PreparedSites(["a", "b"], here, {"b": there}, {})
    assert chosen(make_asked(), unheard).site == "a"
    assert chosen(make_asked(), unmeasured).site == "a"


def test_nothing_goes_to_a_site_without_quota(make_site: MakeSite, make_asked: MakeAsked) -> None:
    sites = prepared(make_site(), make_site("b", surplus_w=300.0))
    for priority in PRIORITIES:
        asked = make_asked(priority=priority)
        assert chosen(asked, sites, Quotas(sites.names, NOW_S)).site == "a"


def test_a_request_makes_at_most_one_hop(make_site: MakeSite, make_asked: MakeAsked) -> None:
    sites = prepared(make_site(pool={"free_tps": 0.0}), make_site("b", surplus_w=300.0))
    assert chosen(make_asked(hops=1), sites) == Choice("a", "hop")


def test_a_deadline_that_a_site_cannot_keep_rules_it_out(
    make_site: MakeSite, make_asked: MakeAsked
) -> None:
    sites = prepared(make_site(), make_site("b", surplus_w=300.0, pool={"tpot_s": 0.05}))
    assert chosen(make_asked(deadline_s=5.0), sites).site == "a"
    assert chosen(make_asked(deadline_s=11.0), sites).site == "b"


def test_a_request_that_no_site_may_serve_goes_nowhere(
    make_site: MakeSite, make_asked: MakeAsked
) -> None:
    sites = prepared(make_site(), make_site("b"))
    assert chosen(make_asked(regions=frozenset({"east"})), sites) == Choice(None, "forbidden")


def test_a_request_waits_here_if_no_site_has_room(
    make_site: MakeSite, make_asked: MakeAsked
) -> None:
    full = {"free_tps": 0.0}
    sites = prepared(make_site(pool=full), make_site("b", pool=full))
    assert chosen(make_asked(), sites) == Choice("a", "full")
    elsewhere = prepared(make_site(region="east"), make_site("b", pool=full))
    assert chosen(make_asked(), elsewhere) == Choice(None, "full")


def test_a_deferrable_request_follows_the_plan_and_not_the_surplus(
    make_site: MakeSite, make_asked: MakeAsked
) -> None:
    sites = prepared(make_site(surplus_w=300.0), make_site("b"), make_site("c"))
    quotas = Quotas(sites.names, NOW_S - 20.0)
    quotas.grant([QuotaLease("c", "m", "deferrable", 1e3, 1e6, NOW_S - 20.0, 60.0)])
    quotas.advance(NOW_S - 10.0)
    quotas.advance(NOW_S)
    assert chosen(make_asked(priority="deferrable"), sites, quotas) == Choice("c", "plan")


def test_a_standard_request_weighs_time_against_energy(
    make_site: MakeSite, make_asked: MakeAsked
) -> None:
    views = make_site(), make_site("b", surplus_w=300.0)
    asked = make_asked(priority="standard")
    patient = Weights(money_per_s=1e-5)
    hurried = Weights(money_per_s=1.0)
    assert chosen(asked, prepared(*views, rtt_s=0.1, weights=patient)) == Choice("b", "green")
    assert chosen(asked, prepared(*views, rtt_s=0.1, weights=hurried)) == Choice("a", "cost")


def test_equal_sites_share_requests_by_their_room(
    make_site: MakeSite, make_asked: MakeAsked
) -> None:
    names = [f"s{number}" for number in range(10)]
    peers = [make_site(name, surplus_w=390.0) for name in names]
    sites = prepared(make_site(), *peers)
    quotas, rng = full_quotas(sites.names), random.Random(1)
    counts = dict.fromkeys(names, 0)
    for _ in range(60):
        site = chosen(make_asked(), sites, quotas, rng=rng).site
        assert site is not None
        sites.take(make_asked(), site)
        counts[site] += 1
    assert min(counts.values()) >= 4
    assert max(counts.values()) <= 8, "each has room for eight requests"


def test_a_conversation_stays_unless_the_gain_exceeds_what_its_cache_is_worth(
    make_site: MakeSite, make_asked: MakeAsked
) -> None:
    sites = prepared(make_site(), make_site("b", surplus_w=300.0))
    pin = Pin("a", 1000, NOW_S - 5.0, NOW_S - 90.0)
    few, many = make_asked(output_tokens=100), make_asked(output_tokens=200)
    assert chosen(few, sites, pin=pin) == Choice("a", "pinned")
    assert chosen(many, sites, pin=pin) == Choice("b", "green")
    just_moved = pin._replace(moved_s=NOW_S - 5.0)
    assert chosen(many, sites, pin=just_moved) == Choice("a", "pinned")


def test_a_conversation_leaves_a_site_that_refused_or_is_too_slow(
    make_site: MakeSite, make_asked: MakeAsked
) -> None:
    sites = prepared(make_site(), make_site("b", pool={"ttft_s": 3.0}))
    pin = Pin("b", 1000, NOW_S - 5.0, NOW_S - 90.0)
    asked = make_asked(output_tokens=50)
    assert chosen(asked, sites, pin=pin) == Choice("b", "pinned")
    assert chosen(asked, sites, pin=pin, refused={"b": NOW_S + 9.0}).site == "a"
    assert chosen(replace(asked, ttft_s=1.0), sites, pin=pin).site == "a"


def test_a_conversation_goes_on_although_its_quota_is_used_up_and_a_new_one_does_not(
    make_site: MakeSite, make_asked: MakeAsked
) -> None:
    sites = prepared(make_site(), make_site("b", surplus_w=300.0))
    quotas, asked = full_quotas(sites.names, 100.0), make_asked()
    quotas.spend("b", "m", "interactive", quotas.left_of("m", "interactive")[1])
    assert chosen(asked, sites, quotas).site == "a"
    pin = Pin("b", 1000, NOW_S - 5.0, NOW_S - 90.0)
    assert chosen(asked, sites, quotas, pin=pin).site == "b"
    quotas.spend("b", "m", "interactive", 3000.0)
    assert chosen(asked, sites, quotas, pin=pin).site == "a"


def test_many_requests_at_once_count_as_often(make_site: MakeSite, make_asked: MakeAsked) -> None:
    views, asked = (make_site(), make_site("b", surplus_w=300.0)), make_asked()
    once, often = prepared(*views), prepared(*views)
    for _ in range(3):
        once.take(asked, "b")
    often.take(asked, "b", 3.0)
    assert often.surplus_w == pytest.approx(once.surplus_w)
    assert often.candidates(asked).room_tps == pytest.approx(once.candidates(asked).room_tps)


def test_prices_in_another_currency_are_not_compared(
    make_site: MakeSite, make_asked: MakeAsked
) -> None:
    foreign = make_site("b", currency="EUR", price_micro=(1_000,) * 24)
    assert chosen(make_asked(), prepared(make_site(), foreign)).site == "a"


def test_what_was_sent_counts_until_the_next_heartbeat_of_the_site(
    make_site: MakeSite, make_asked: MakeAsked
) -> None:
    here, there = make_site(), make_site("b", surplus_w=300.0)
    trips, asked = {"b": 0.02}, make_asked()
    first = PreparedSites(["a", "b"], here, {"b": there}, trips)
    for _ in range(8):
        assert first.room_w[1] >= 50.0 * 0.4
        first.take(asked, "b")
    assert chosen(asked, first).site == "a"
    again = PreparedSites(["a", "b"], here, {"b": there}, trips, before=first)
    assert chosen(asked, again).site == "a"
    assert again.candidates(asked).room_tps.tolist() == [400.0, 0.0]
    heard = PreparedSites(["a", "b"], here, {"b": replace(there, seq=2)}, trips, before=again)
    assert chosen(asked, heard).site == "b"


def test_a_pool_that_is_asked_for_by_two_kinds_of_requests_has_one_room(
    make_site: MakeSite, make_asked: MakeAsked
) -> None:
    sites = prepared(make_site(), make_site("b", surplus_w=300.0))
    one, other = make_asked(), make_asked(revision="r1", ttft_s=2.0)
    sites.candidates(one)
    sites.take(other, "b")
    sites.take(one, "b")
    late = make_asked(tpot_s=0.5)
    for asked in (one, other, late):
        assert sites.candidates(asked).room_tps[1] == pytest.approx(300.0)


def test_if_all_miss_the_slo_the_fastest_serves(make_site: MakeSite, make_asked: MakeAsked) -> None:
    quick = make_site("b", pool={"ttft_s": 1.5})
    green = make_site("c", surplus_w=300.0, pool={"ttft_s": 2.5})
    sites = prepared(make_site(pool={"ttft_s": 3.0}), quick, green)
    assert chosen(make_asked(ttft_s=0.5), sites) == Choice("b", "slo")


def test_a_cache_has_a_worth_although_a_site_does_not_state_the_energy_of_prompts(
    make_site: MakeSite, make_asked: MakeAsked
) -> None:
    unknown = {"prompt_uj_per_token": 0.0}
    sites = prepared(make_site(pool=unknown), make_site("b", surplus_w=300.0, pool=unknown))
    pin = Pin("a", 1000, NOW_S - 5.0, NOW_S - 90.0)
    assert chosen(make_asked(output_tokens=60), sites, pin=pin).site == "a"
    assert chosen(make_asked(output_tokens=90), sites, pin=pin).site == "b"
