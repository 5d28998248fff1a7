"""Requests that failed at some replicas and should go to others."""

from __future__ import annotations

import pytest
from tests.gateway.site import Site

from steppe.gateway.routing import Route, RoutingTable


async def replicas(site: Site, avoid: str) -> set[str]:
    """Return which of two replicas get requests."""
    both = {name: await site.replica(name) for name in ("r0", "r1")}
    site.route(*both.values())
    for _ in range(6):
        assert (await site.post(x_steppe_avoid=avoid))[0] == 200
    assert site.gateway.status().outstanding == {"r0": 0, "r1": 0}
    return {name for name, replica in both.items() if replica.received}


@pytest.mark.parametrize(("avoid", "expected"), [("r0", {"r1"}), ("r9,r1", {"r0"})])
async def test_a_request_avoids_replicas_that_failed_it(
    site: Site, avoid: str, expected: set[str]
) -> None:
    assert await replicas(site, avoid) == expected


@pytest.mark.parametrize("avoid", ["", "r0,r1"])
async def test_where_no_other_replica_has_room_any_will_do(site: Site, avoid: str) -> None:
    assert await replicas(site, avoid) == {"r0", "r1"}


def test_only_a_replica_with_room_is_another_one() -> None:
    table = RoutingTable()
    table.replace((Route("r0", "http://0", 4), Route("r1", "http://1", 1)))
    first = table.acquire_but({"r0"})
    assert first is not None
    assert first.replica == "r1"
    assert table.acquire_but({"r0"}) is None
    table.begin(first)
    table.release(first)
    assert table.acquire_but({"r0"}) == first
    assert table.acquire_but({"r1"}, places=4) == Route("r0", "http://0", 4)
