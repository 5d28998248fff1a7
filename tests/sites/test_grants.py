from __future__ import annotations

from typing import Any

import pytest
from tests.sites.conftest import MakeSite

from steppe.sites.grants import ROOM_SHARE, grants_of, leases_of
from steppe.sites.view import Demand, SiteView

DEMAND = Demand("m", "deferrable", frozenset({"north", "south"}), "public", 100.0)


def asking(make_site: MakeSite, name: str, *demand: Demand, **fields: Any) -> SiteView:
    return make_site(name, demand=demand, **fields)


def test_surplus_is_divided_by_what_the_others_have(make_site: MakeSite) -> None:
    here = make_site("a", surplus_w=100.0)  # 0.4 J a token: 250 tokens/s
    one = asking(make_site, "b", DEMAND)
    three = asking(make_site, "c", DEMAND._replace(output_tps=300.0))
    found = grants_of(here, [one, three])
    assert found["b"]["m"] == pytest.approx(ROOM_SHARE * 250.0 / 4)
    assert found["c"]["m"] == pytest.approx(ROOM_SHARE * 750.0 / 4)


@pytest.mark.parametrize(
    "demand",
    [
        DEMAND._replace(priority="standard"),
        DEMAND._replace(model="other"),
        DEMAND._replace(regions=frozenset({"south"})),
        DEMAND._replace(data_class="secret"),
        DEMAND._replace(output_tps=0.0),
    ],
)
def test_work_that_may_not_come_is_granted_nothing(make_site: MakeSite, demand: Demand) -> None:
    assert grants_of(make_site("a", surplus_w=100.0), [asking(make_site, "b", demand)]) == {}


def test_without_surplus_or_room_nothing_is_granted(make_site: MakeSite) -> None:
    peers = [asking(make_site, "b", DEMAND)]
    assert grants_of(make_site("a", surplus_w=0.0), peers) == {}
    assert grants_of(make_site("a", {"free_tps": 0.0}, surplus_w=100.0), peers) == {}
    assert grants_of(make_site("a", {"waiting": 100}, surplus_w=100.0), peers) == {}


def test_no_more_is_granted_than_is_free(make_site: MakeSite) -> None:
    here = make_site("a", {"free_tps": 30.0}, surplus_w=1e6)
    assert grants_of(here, [asking(make_site, "b", DEMAND)])["b"]["m"] == 30.0 * ROOM_SHARE


def test_a_grant_is_a_lease_of_deferrable_work_that_rises_slowly() -> None:
    (lease,) = leases_of("b", {"m": 200.0}, 7.0, 60.0)
    assert (lease.site, lease.model, lease.priority) == ("b", "m", "deferrable")
    assert (lease.output_tps, lease.ramp_tps2, lease.granted_s) == (200.0, 20.0, 7.0)
