"""What holds for every request, whatever the sites are like."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.sites.conftest import ASKED, POOL, SITE

from steppe.control.ticket import PRIORITIES
from steppe.sites.decide import Choice, decide
from steppe.sites.pins import Pin
from steppe.sites.prepared import MISSED_S, PreparedSites
from steppe.sites.quotas import OWED_S, QuotaLease, Quotas
from steppe.sites.view import PoolView, RequestView, SiteView

NOW_S = 100.0
REGIONS, CLASSES = ("north", "south", "west"), ("public", "personal")
ALL = frozenset(REGIONS)
watts = st.sampled_from([0.0, 7.0, 40.0, 90.0, 300.0])


@st.composite
def drawn_pools(draw: st.DrawFn) -> PoolView:
    return replace(
        POOL,
        model=draw(st.sampled_from(["m", "m", "m", "n"])),
        revision=draw(st.sampled_from(["r1", "r1", "r2"])),
        free_tps=draw(st.sampled_from([0.0, 45.0, 130.0, 400.0])),
        ttft_s=draw(st.floats(0.0, 3.0)),
        tpot_s=draw(st.floats(0.01, 0.1)),
        uj_per_token=draw(st.floats(1e5, 1e6)),
    )


@st.composite
def drawn_sites(draw: st.DrawFn, name: str) -> SiteView:
    return replace(
        SITE,
        site=name,
        received_s=NOW_S - draw(st.sampled_from([0.0, 0.5, 2.0, 2.9, 3.1, 6.0])),
        headroom_w=draw(watts),
        surplus_w=draw(watts),
        price_micro=(draw(st.integers(-100_000, 900_000)),),
        gco2=(draw(st.floats(0.0, 900.0)),),
        currency=draw(st.sampled_from(["CNY", "EUR"])),
        region=draw(st.sampled_from(REGIONS)),
        data_classes=draw(
            st.sampled_from([frozenset(CLASSES), frozenset({"public"}), frozenset()])
        ),
        pools={"p": draw(drawn_pools())},
    )


requests = st.builds(
    replace,
    st.just(ASKED),
    revision=st.sampled_from([None, None, "r1"]),
    priority=st.sampled_from(PRIORITIES),
    regions=st.sampled_from([ALL, ALL, ALL, frozenset({"north"}), frozenset({"south", "west"})]),
    data_class=st.sampled_from(["public", "public", "personal"]),
    output_tokens=st.integers(1, 200),
    deadline_s=st.sampled_from([None, None, 5.0, 30.0]),
    ttft_s=st.floats(0.1, 3.0),
    hops=st.sampled_from([0, 0, 0, 0, 1, 2]),
)


@dataclass(frozen=True)
class World:
    """Sites, what may be sent to them, and requests."""

    here: SiteView
    peers: dict[str, SiteView]
    leased_tps: dict[str, float]
    asked: list[RequestView]
    pinned: str | None
    refused: dict[str, float]
    seed: int

    def prepared(self) -> PreparedSites:
        names = (self.here.site, *self.peers)
        return PreparedSites(names, self.here, self.peers, dict.fromkeys(self.peers, 0.01))

    def quotas(self) -> Quotas:
        quotas = Quotas((self.here.site, *self.peers), NOW_S - 20.0)
        quotas.grant(
            QuotaLease(name, "m", priority, tps, 1e6, NOW_S - 20.0, 60.0)
            for name, tps in self.leased_tps.items()
            for priority in PRIORITIES
        )
        quotas.advance(NOW_S - 10.0)
        quotas.advance(NOW_S)
        return quotas

    def choices(self) -> list[tuple[RequestView, Choice]]:
        """Return all choices, each noted before the next."""
        sites, quotas, rng = self.prepared(), self.quotas(), random.Random(self.seed)
        pin = self.pinned and Pin(self.pinned, 500, NOW_S - 1.0, NOW_S - 99.0)
        found = []
        for asked in self.asked:
            choice = decide(
                asked, sites, quotas, pin=pin or None, refused=self.refused, now_s=NOW_S, rng=rng
            )
            found.append((asked, choice))
            if choice.site is not None:
                sites.take(asked, choice.site)
                quotas.spend(choice.site, "m", asked.priority, asked.output_tokens)
        return found

    def sent(self) -> list[tuple[RequestView, SiteView]]:
        """Return the requests that went to other sites."""
        return [(a, self.peers[c.site]) for a, c in self.choices() if c.site in self.peers]


@st.composite
def worlds(draw: st.DrawFn) -> World:
    names = [f"s{number}" for number in range(draw(st.integers(2, 5)))]
    return World(
        here=draw(drawn_sites("home")),
        peers={name: draw(drawn_sites(name)) for name in names},
        leased_tps={name: draw(st.sampled_from([0.0, 8.0, 25.0, 90.0])) for name in names},
        asked=draw(st.lists(requests, min_size=4, max_size=12)),
        pinned=draw(st.sampled_from([None, "home", *names])),
        refused=draw(st.dictionaries(st.sampled_from(names), st.floats(90.0, 110.0), max_size=2)),
        seed=draw(st.integers(0, 99)),
    )


every = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@every
@given(worlds())
def test_no_request_leaves_the_regions_of_its_tenant(world: World) -> None:
    views = world.peers | {"home": world.here}
    for asked, choice in world.choices():
        if choice.site is not None:
            assert views[choice.site].region in asked.regions
            assert asked.data_class in views[choice.site].data_classes


@every
@given(worlds())
def test_no_request_makes_a_second_hop(world: World) -> None:
    assert all(asked.hops == 0 for asked, _ in world.sent())


@every
@given(worlds())
def test_no_quota_is_exceeded_by_more_than_may_be_owed(world: World) -> None:
    quotas, sent = world.quotas(), world.sent()
    for name in world.peers:
        for priority in PRIORITIES:
            tokens = sum(
                a.output_tokens for a, v in sent if (v.site, a.priority) == (name, priority)
            )
            left = quotas.left_of("m", priority)[list(world.peers).index(name) + 1]
            owed = OWED_S * quotas.rate_of(name, "m", priority)
            assert tokens <= left + owed + 1e-6


@every
@given(worlds())
def test_no_site_is_sent_more_than_its_headroom_and_room(world: World) -> None:
    sent = world.sent()
    for view in world.peers.values():
        pool = view.pools["p"]
        count = sum(there is view for _, there in sent)
        assert count / pool.tpot_s <= pool.free_tps * (1 + 1e-9) + 1e-6
        assert count / pool.tpot_s * pool.uj_per_token * 1e-6 <= view.headroom_w + 1e-6


@every
@given(worlds())
def test_nothing_goes_to_a_site_that_is_silent_or_refused_or_lacks_the_model(world: World) -> None:
    for asked, view in world.sent():
        pool = view.pools["p"]
        assert NOW_S - view.received_s <= MISSED_S
        assert world.refused.get(view.site, 0.0) <= NOW_S
        assert pool.model == asked.model
        assert asked.revision in (None, pool.revision)


@every
@given(worlds())
def test_the_same_knowledge_gives_the_same_decisions(world: World) -> None:
    assert world.choices() == world.choices()


@every
@given(worlds())
def test_a_decision_changes_nothing(world: World) -> None:
    sites, quotas = world.prepared(), world.quotas()
    for asked in world.asked:
        again = [
            decide(asked, sites, quotas, pin=None, refused={}, now_s=NOW_S, rng=random.Random(7))
            for _ in range(2)
        ]
        assert again[0] == again[1]
        assert sites.room_w.tolist() == world.prepared().room_w.tolist()
