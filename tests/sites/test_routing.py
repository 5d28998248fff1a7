from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.sites.conftest import POOL, SITE, MakeAsked, MakeSite

from steppe.sites.beats.peers import Health
from steppe.sites.quotas import QuotaLease
from steppe.sites.routing import FIRST_REST_S, LONGEST_REST_S, Destination, Routing
from steppe.sites.state import PeerState, SitesState
from steppe.sites.view import RequestView, SiteView

REGIONS = {"b": "south", "c": "south"}
URL = "https://10.0.0.2:8443"
NOW_S = 100.0


def peer(view: SiteView | None, site: str, **fields: Any) -> PeerState:
    found = PeerState(site, URL, REGIONS[site], Health.LIVE, 0.01, view)
    return replace(found, **fields)


@pytest.fixture
def state(make_site: MakeSite) -> SitesState:
    """Return a state: no surplus here, much at b, a little at c; quotas to both."""
    views = {
        name: make_site(name, region="south", surplus_w=surplus_w, received_s=NOW_S)
        for name, surplus_w in (("b", 400.0), ("c", 0.0))
    }
    leases = tuple(
        QuotaLease(name, "m", priority, 1000.0, 1000.0, NOW_S - 5.0, 60.0)
        for name in REGIONS
        for priority in ("interactive", "standard", "deferrable")
    )
    peers = tuple(peer(view, name) for name, view in views.items())
    return SitesState("a", "0" * 16, 1, 1.0, make_site("a", received_s=NOW_S), peers, leases)


def routing(state: SitesState | None = None, share: float = 1.0) -> Routing:
    """Return the routing of site a after this state; its quotas have risen."""
    made = Routing("a", REGIONS, now_s=NOW_S - 10.0, rng=random.Random(1), share=share)
    if state is not None:
        for ago_s in (3.0, 2.0, 1.0, 0.0):
            made.update(state, NOW_S - ago_s)
    return made


def changed(state: SitesState, site: str, **fields: Any) -> SitesState:
    """Return a state in which a site is different."""
    peers = tuple(replace(p, **fields) if p.site == site else p for p in state.peers)
    return replace(state, peers=peers)


def test_a_request_goes_where_the_surplus_is(state: SitesState, make_asked: MakeAsked) -> None:
    assert routing(state).choose(make_asked(), (), NOW_S) == Destination("b", "green")


def test_everything_stays_here_without_a_recent_state(
    state: SitesState, make_asked: MakeAsked
) -> None:
    alone = Destination(None, "alone")
    assert routing().choose(make_asked(), (), NOW_S) == alone
    known = routing(state)
    assert known.choose(make_asked(), (), NOW_S + 3.0).site == "b"
    assert known.choose(make_asked(), (), NOW_S + 3.01) == alone
    known.forget()
    assert known.choose(make_asked(), (), NOW_S) == alone
    assert routing(replace(state, here=None)).choose(make_asked(), (), NOW_S) == alone


def test_a_site_gets_nothing_that_is_lost_suspect_or_in_another_region_than_configured(
    state: SitesState, make_asked: MakeAsked, make_site: MakeSite
) -> None:
    moved = make_site("b", region="north", surplus_w=400.0, received_s=NOW_S)
    for worse in (
        changed(state, "b", health=Health.LOST),
        changed(state, "b", view=None),
        changed(state, "b", view=moved),
        replace(state, suspects={"b": NOW_S + 60.0}),
        replace(state, leases=tuple(lease for lease in state.leases if lease.site != "b")),
    ):
        assert routing(worse).choose(make_asked(), (), NOW_S).site != "b"


def test_a_site_whose_heartbeat_grew_old_gets_nothing(
    state: SitesState, make_asked: MakeAsked, make_site: MakeSite
) -> None:
    for age_s, site in ((4.0, "b"), (5.0, None)):
        view = make_site("b", region="south", surplus_w=400.0, received_s=NOW_S - age_s)
        only_b = replace(changed(state, "b", view=view), peers=state.peers[:1])
        only_b = changed(only_b, "b", view=view)
        assert routing(only_b).choose(make_asked(), (), NOW_S).site == site


def test_the_period_of_the_sites_decides_what_is_old(
    state: SitesState, make_asked: MakeAsked, make_site: MakeSite
) -> None:
    view = make_site("b", region="south", surplus_w=400.0, received_s=NOW_S - 40.0)
    slow = replace(changed(state, "b", view=view), period_s=10.0)
    assert routing(slow).choose(make_asked(), (), NOW_S + 4.0).site == "b"


def test_at_most_two_sites_are_tried_and_none_twice(
    state: SitesState, make_asked: MakeAsked
) -> None:
    known = routing(state)
    assert known.choose(make_asked(), ("b",), NOW_S).site in ("c", None)
    assert known.choose(make_asked(), ("b", "c"), NOW_S) == Destination(None, "tried")


def test_requests_since_a_heartbeat_count_until_the_next_one(
    state: SitesState, make_asked: MakeAsked
) -> None:
    known, asked = routing(state), make_asked()
    ways = [known.choose(asked, (), NOW_S).site for _ in range(30)]
    assert ways.count("b") == 8  # of 400 free tokens per second each takes 50
    known.update(state, NOW_S)
    assert known.choose(asked, (), NOW_S).site != "b"


def test_a_quota_is_spent_and_given_back(state: SitesState, make_asked: MakeAsked) -> None:
    few = tuple(replace(lease, output_tps=30.0) for lease in state.leases if lease.site == "b")
    known, asked = routing(replace(state, leases=few)), make_asked(output_tokens=40)
    assert known.choose(asked, (), NOW_S).site == "b"
    assert known.choose(asked, (), NOW_S).site is None
    known.serve(asked, "b", 0)
    assert known.choose(asked, (), NOW_S).site == "b"


def test_gateways_share_the_leases(state: SitesState, make_asked: MakeAsked) -> None:
    few = tuple(replace(lease, output_tps=100.0) for lease in state.leases if lease.site == "b")

    def sent(share: float) -> int:
        known = routing(replace(state, leases=few), share)
        asked = make_asked(output_tokens=50)
        return sum(known.choose(asked, (), NOW_S).site == "b" for _ in range(30))

    assert (sent(1.0), sent(0.5)) == (4, 2)


def test_a_site_that_refuses_rests_longer_each_time_until_it_serves(
    state: SitesState, make_asked: MakeAsked
) -> None:
    known, asked, now_s, rests = routing(state), make_asked(), NOW_S, []
    for _ in range(8):
        known.refuse(asked, "b", now_s, status=503)
        begin_s = now_s
        while "b" in known.resting(now_s):
            now_s += 0.5
        rests.append(now_s - begin_s)
    assert rests == [2.0, 4.0, 8.0, 16.0, 32.0, LONGEST_REST_S, LONGEST_REST_S, LONGEST_REST_S]
    known.serve(asked, "b", 10)
    known.refuse(asked, "b", now_s, status=503)
    assert "b" in known.resting(now_s + FIRST_REST_S - 0.1)
    assert "b" not in known.resting(now_s + FIRST_REST_S)


def test_several_refusals_of_one_moment_and_those_of_one_request_rest_no_longer(
    state: SitesState, make_asked: MakeAsked
) -> None:
    known, asked = routing(state), make_asked()
    for _ in range(10):
        known.refuse(asked, "b", NOW_S, status=503)
    assert "b" not in known.resting(NOW_S + FIRST_REST_S)
    for later_s in (10.0, 20.0):
        known.refuse(asked, "b", NOW_S + later_s, status=403)
        assert "b" not in known.resting(NOW_S + later_s + FIRST_REST_S)


def test_a_site_that_rests_gets_nothing_and_gets_work_again_after_it(
    state: SitesState, make_asked: MakeAsked
) -> None:
    known, asked = routing(state), make_asked()
    known.refuse(asked, "b", NOW_S, status=503)
    assert known.choose(asked, (), NOW_S).site != "b"
    assert known.choose(asked, (), NOW_S + FIRST_REST_S).site == "b"


def test_a_conversation_stays_and_its_moves_are_counted(
    state: SitesState, make_asked: MakeAsked
) -> None:
    known, asked = routing(state), make_asked(conversation="k", priority="standard")
    assert known.choose(asked, (), NOW_S).site == "b"
    # Less than the energy that was spent on its prefix is to be won.
    assert known.choose(asked, (), NOW_S + 1.0) == Destination("b", "pinned")
    assert known.moved == 0
    known.update(changed(state, "b", health=Health.LOST), NOW_S + 2.0)
    assert known.choose(asked, (), NOW_S + 2.0).site != "b"
    assert known.moved == 1


def test_a_conversation_whose_site_refused_is_free(
    state: SitesState, make_asked: MakeAsked
) -> None:
    known, asked = routing(state), make_asked(conversation="k")
    assert known.choose(asked, (), NOW_S).site == "b"
    known.refuse(asked, "b", NOW_S, status=503)
    assert known.choose(asked, ("b",), NOW_S).site != "b"
    assert known.moved == 0  # it is at no site when it is asked for again


PRIORITIES = st.sampled_from(["interactive", "standard", "deferrable"])


@given(
    st.lists(st.tuples(PRIORITIES, st.frozensets(st.sampled_from(["north", "south", "west"])))),
    st.lists(st.sampled_from(["b", "c"]), max_size=2),
    st.integers(0, 2**32),
)
def test_no_request_leaves_the_regions_of_its_tenant(
    requests: list[tuple[str, frozenset[str]]], tried: list[str], seed: int
) -> None:
    pools = {"m": replace(POOL, free_tps=1e6)}
    views = {
        name: replace(SITE, site=name, region=region, received_s=NOW_S, pools=pools)
        for name, region in (("a", "north"), ("b", "south"), ("c", "west"))
    }
    peers = tuple(
        PeerState(name, URL, views[name].region, Health.LIVE, 0.01, views[name])
        for name in ("b", "c")
    )
    leases = tuple(
        QuotaLease(name, "m", priority, 1e5, 1e5, NOW_S - 5.0, 60.0)
        for name in ("b", "c")
        for priority in ("interactive", "standard", "deferrable")
    )
    state = SitesState("a", "0" * 16, 1, 1.0, views["a"], peers, leases)
    known = Routing("a", {"b": "south", "c": "west"}, now_s=NOW_S - 10.0, rng=random.Random(seed))
    for ago_s in (2.0, 1.0, 0.0):
        known.update(state, NOW_S - ago_s)
    for priority, regions in requests:
        asked = RequestView("m", None, priority, regions, "public", 10, 10, conversation="k")
        site = known.choose(asked, tried, NOW_S).site
        assert site is None or (views[site].region in regions and site not in tried)


def test_a_site_is_lost_if_a_recent_state_says_so(state: SitesState) -> None:
    known = routing(changed(state, "b", health=Health.LOST))
    assert [known.is_lost(site, NOW_S) for site in ("b", "c", "d")] == [True, False, False]
    assert not known.is_lost("b", NOW_S + 3.01)
    assert not routing().is_lost("b", NOW_S)
    known.forget()
    assert not known.is_lost("b", NOW_S)
