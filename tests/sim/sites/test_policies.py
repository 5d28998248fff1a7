"""Each policy chooses the site that its name promises, and all of them keep the law."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from steppe.config.several_sites import RoutingName
from steppe.sim.sites.policies import ROUTINGS, ChoiceInputs, routing_of
from steppe.sites.pins import Pins
from steppe.sites.prepared import PreparedSites
from steppe.sites.quotas import QuotaLease, Quotas
from steppe.sites.view import PoolPoint, PoolView, RequestView, SiteView

NOW_S = 100.0
NAMES = ("a", "b", "c")
POOL = PoolView("m", "r1", 400.0, 0, 0.2, 0.02, 4e5, (PoolPoint(1000.0, 400.0),))
SITE = SiteView(
    "a", 1, NOW_S, 1e3, 5e2, 400.0, 0.0, 0.0, (), (300_000,), (600.0,), "CNY", "north",
    frozenset({"public"}), {"m": POOL},
)  # fmt: skip
ASKED = RequestView("m", None, "interactive", frozenset({"north", "south"}), "public", 1000, 200)


def known_of(here: SiteView = SITE, **peers: SiteView) -> ChoiceInputs:
    """Return what site `a` knows of `b`, 10 ms away, and `c`, 40 ms away."""
    sites = PreparedSites(NAMES, here, peers, {"b": 0.01, "c": 0.04})
    quotas = Quotas(NAMES, NOW_S - 10.0)
    quotas.grant(
        [QuotaLease(name, "m", "interactive", 1e4, 1e4, NOW_S - 10.0, 60.0) for name in peers]
    )
    quotas.advance(NOW_S - 9.0)
    quotas.advance(NOW_S)
    return ChoiceInputs(sites, quotas, Pins(), random.Random(1))


def site(name: str, *, waiting: int = 0, free_tps: float = 400.0, **fields: object) -> SiteView:
    pools = {"m": replace(POOL, waiting=waiting, free_tps=free_tps)}
    return replace(SITE, site=name, pools=pools, **fields)  # type: ignore[arg-type]


def chosen(name: RoutingName, known: ChoiceInputs, asked: RequestView = ASKED) -> str | None:
    return routing_of(name).choose(asked, known, NOW_S).site


def test_local_keeps_everything_even_when_it_is_full() -> None:
    known = known_of(site("a", free_tps=0.0, waiting=9), b=site("b"), c=site("c"))
    assert chosen("local", known) == "a"


def test_nearest_goes_on_to_the_next_one_when_its_own_is_full() -> None:
    assert chosen("nearest", known_of(b=site("b"), c=site("c"))) == "a"
    full = known_of(site("a", free_tps=0.0), b=site("b"), c=site("c"))
    assert chosen("nearest", full) == "b"


def test_round_robin_takes_all_sites_in_turn() -> None:
    known, routing = known_of(b=site("b"), c=site("c")), routing_of("round_robin")
    found = [routing.choose(ASKED, known, NOW_S).site for _ in range(6)]
    assert found == ["a", "b", "c", "a", "b", "c"]


def test_least_queue_takes_the_shortest_queue_and_then_the_most_room() -> None:
    known = known_of(site("a", waiting=3), b=site("b", waiting=1), c=site("c", waiting=2))
    assert chosen("least_queue", known) == "b"
    empty = known_of(b=site("b"), c=site("c", free_tps=800.0))
    assert chosen("least_queue", empty) == "c"


def test_greenest_takes_the_most_surplus() -> None:
    known = known_of(b=site("b", surplus_w=50.0), c=site("c", surplus_w=90.0))
    assert chosen("greenest", known) == "c"


def test_steppe_goes_where_there_is_surplus_within_its_leases() -> None:
    known = known_of(b=site("b"), c=site("c", surplus_w=90.0))
    assert chosen("steppe", known) == "c"
    known.quotas.spend("c", "m", "interactive", 1e9)
    assert chosen("steppe", known) == "a"


@pytest.mark.parametrize("name", ROUTINGS)
def test_no_policy_leaves_the_regions_of_a_tenant(name: RoutingName) -> None:
    at_home = replace(ASKED, regions=frozenset({"north"}))
    known = known_of(
        site("a", free_tps=0.0, waiting=9),
        b=site("b", region="south", surplus_w=300.0),
        c=site("c", region="south"),
    )
    assert {chosen(name, known, at_home) for _ in range(20)} == {"a"}
    assert chosen(name, known, replace(ASKED, regions=frozenset({"west"}))) is None


@pytest.mark.parametrize("name", ROUTINGS)
def test_a_request_of_another_site_is_not_sent_on(name: RoutingName) -> None:
    known = known_of(b=site("b", surplus_w=90.0), c=site("c", surplus_w=90.0))
    assert {chosen(name, known, replace(ASKED, hops=1)) for _ in range(20)} == {"a"}


@pytest.mark.parametrize("name", ROUTINGS)
def test_a_site_that_is_not_heard_gets_nothing(name: RoutingName) -> None:
    silent = site("b", surplus_w=300.0, received_s=NOW_S - 3.5)
    known = known_of(site("a", free_tps=0.0, waiting=9), b=silent)
    assert {chosen(name, known) for _ in range(20)} == {"a"}
