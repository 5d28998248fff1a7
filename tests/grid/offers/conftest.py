from __future__ import annotations

from collections.abc import Callable

import pytest

from steppe.grid.offers.offer import Call, FlexOffer, offered
from steppe.grid.offers.sources import Source
from steppe.grid.plan.terms import Edge, Site, per_mwh
from steppe.power.battery import Battery

MakeOffer = Callable[..., FlexOffer]


@pytest.fixture
def site() -> Site:
    """Return a site of about 1 MW: its first edge yields twice as much per joule as its second."""
    battery = Battery(3.6e9, 5e5, 5e5, 0.95, 0.95)
    edges = (Edge(5e5, 1e5), Edge(4e5, 4e4))
    return Site(1e5, edges, 2e6, per_mwh(5000.0), per_mwh(60.0), battery)


@pytest.fixture
def make_offer() -> MakeOffer:
    """Return an offer of the same watts in both directions from 0 to 7200 s."""

    def make(watts: float, recovery_s: float = 0.0) -> FlexOffer:
        source = Source("work", watts, 0.0, 100.0, 0.0, recovery_s=recovery_s)
        power = offered([[source]] * 9, Call(60.0, 900.0))
        return FlexOffer("offer-1", 0.0, 7200.0, power, power)

    return make
