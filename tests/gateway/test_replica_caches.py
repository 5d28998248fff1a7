from __future__ import annotations

import asyncio
import math
from dataclasses import replace

import orjson
import pytest
from tests.gateway.site import SiteFactory

from steppe.control.admission import Ticket
from steppe.control.affinity import Decisions
from steppe.gateway.gate import AdmissionGate
from steppe.gateway.gate_errors import RefusedError
from steppe.gateway.replica_caches import LEAST_SAVED_BLOCKS, AffinitySettings, ReplicaCaches
from steppe.gateway.replica_slot import ReplicaSlot
from steppe.gateway.routing import Route, RoutingTable

PROMPT = (1, 2, 3)
ROUTES = tuple(Route(f"r{i}", f"http://r{i}", 8) for i in range(3))


def table_of(*routes: Route) -> tuple[RoutingTable, ReplicaCaches]:
    caches = ReplicaCaches(AffinitySettings(load_bound=2.0, blocks_per_replica=100))
    table = RoutingTable(caches=caches)
    table.replace(routes or ROUTES)
    return table, caches


def send(table: RoutingTable, blocks: tuple[int, ...]) -> str:
    """Send a request and end it; return its replica."""
    route = table.acquire(1, blocks)
    assert route is not None
    table.begin(route)
    table.release(route)
    return route.replica


def test_a_conversation_stays_at_its_replica() -> None:
    table, caches = table_of()
    first = send(table, PROMPT[:2])
    assert [send(table, PROMPT) for _ in range(4)] == [first] * 4
    assert caches.decisions == Decisions(nearest=4, unknown=1)


def test_prompts_without_blocks_rotate() -> None:
    table, _ = table_of()
    assert [send(table, ()) for _ in range(3)] == ["r0", "r1", "r2"]


def test_a_replica_that_slept_is_found_again() -> None:
    table, _ = table_of()
    first = send(table, PROMPT)
    others = tuple(route for route in ROUTES if route.replica != first)
    table.replace(others)
    assert send(table, (9,)) != first
    table.replace((*others, *(route for route in ROUTES if route.replica == first)))
    assert send(table, PROMPT) == first


def test_a_replica_that_restarted_has_an_empty_cache() -> None:
    for other in (Route("r0", "http://elsewhere", 8), replace(ROUTES[0], cache_losses=1)):
        table, caches = table_of()
        assert send(table, PROMPT) == "r0"
        table.replace((other, *ROUTES[1:]))
        send(table, PROMPT)
        assert caches.decisions == Decisions(unknown=2)


def test_the_worth_of_a_cache_counts_while_its_replica_sleeps() -> None:
    table, caches = table_of()
    first = send(table, PROMPT)
    table.replace(tuple(route for route in ROUTES if route.replica != first))
    send(table, PROMPT[:1])
    assert caches.worth()[first] > 0


def test_the_share_of_a_replica_follows_the_speed_of_its_plan() -> None:
    fast, slow = (
        replace(r, output_tps=tps) for r, tps in zip(ROUTES, (300.0, 100.0), strict=False)
    )
    table, _ = table_of(replace(fast, limit=90), replace(slow, limit=90))
    routes = [table.acquire() for _ in range(40)]
    assert sum(route is not None and route.replica == fast.replica for route in routes) == 30


def test_a_replica_that_drains_while_others_have_speeds_keeps_its_requests() -> None:
    routes = tuple(replace(route, output_tps=100.0) for route in ROUTES)
    table, _ = table_of(*routes)
    first, second = (table.acquire(1, (n,)) for n in (1, 2))
    assert first is not None
    assert second is not None
    table.replace(tuple(route for route in routes if route != first))
    assert table.all_outstanding()[first.replica] == 1
    assert table.all_outstanding()[second.replica] == 1


async def test_requests_of_a_conversation_reach_one_replica_over_http(
    open_site: SiteFactory,
) -> None:
    site = await open_site(affinity=AffinitySettings(2.0, 100))
    site.route(*[await site.replica(name) for name in ("r0", "r1")])
    system = {"role": "system", "content": "The wind rises. " * 100}
    turns: list[dict[str, str]] = [system]
    replicas = set()
    for turn in range(4):
        turns.append({"role": "user", "content": f"And on day {turn}?"})
        body = orjson.dumps({"messages": turns})
        _, headers, _ = await site.post(body=body, Content_Type="application/json")
        replicas.add(headers["X-Replica"])
    assert len(replicas) == 1
    text = (await site.get("/metrics"))[2].decode()
    assert 'steppe_prefix_placements_total{decision="nearest",model="m"} 3.0' in text
    assert site.gateway.status().cache_worth[replicas.pop()] > 0


BLOCKS = tuple(range(100, 100 + LEAST_SAVED_BLOCKS))
SETTINGS = AffinitySettings(1.0, 1000)
FAR_S = math.inf


async def gate_with_a_busy_holder(prefix_wait_s: float) -> tuple[AdmissionGate, ReplicaSlot]:
    """Return a gate whose replica r0 holds a prompt, and is overloaded by it."""
    gate = AdmissionGate(10, affinity=SETTINGS, prefix_wait_s=prefix_wait_s)
    gate.set_routes((Route("r0", "http://r0", 8), Route("r1", "http://r1", 8)), None)
    slot = await gate.enter(Ticket(1, 1), FAR_S, blocks=BLOCKS)
    assert slot.route.replica == "r0"
    return gate, slot


async def test_a_request_waits_for_the_busy_replica_that_holds_its_prompt() -> None:
    gate, slot = await gate_with_a_busy_holder(1000.0)
    task = asyncio.create_task(gate.enter(Ticket(1, 2), FAR_S, blocks=BLOCKS))
    await asyncio.sleep(0)
    other = await gate.enter(Ticket(1, 3), FAR_S)  # it is not held up
    assert (other.route.replica, task.done(), gate.waiting) == ("r1", False, 0)
    gate.leave(slot)
    assert (await task).route.replica == "r0"


async def test_it_goes_elsewhere_once_it_has_waited_as_long_as_it_may() -> None:
    gate, _ = await gate_with_a_busy_holder(0.001)
    assert (await gate.enter(Ticket(1, 2), FAR_S, blocks=BLOCKS)).route.replica == "r1"


async def test_it_does_not_wait_without_leave_or_for_a_short_part() -> None:
    for wait_s, blocks in ((0.0, BLOCKS), (1000.0, (*BLOCKS[:1], *range(30)))):
        gate, _ = await gate_with_a_busy_holder(wait_s)
        assert (await gate.enter(Ticket(1, 2), FAR_S, blocks=blocks)).route.replica == "r1"


async def test_a_gateway_that_stops_refuses_what_waits_for_a_replica() -> None:
    gate, _ = await gate_with_a_busy_holder(1000.0)
    task = asyncio.create_task(gate.enter(Ticket(1, 2), FAR_S, blocks=BLOCKS))
    await asyncio.sleep(0)
    gate.close()
    with pytest.raises(RefusedError, match="stopping"):
        await task


async def test_a_client_that_leaves_while_it_waits_frees_its_place() -> None:
    gate, slot = await gate_with_a_busy_holder(1000.0)
    task = asyncio.create_task(gate.enter(Ticket(1, 2), FAR_S, blocks=BLOCKS))
    await asyncio.sleep(0)
    gate.leave(slot)  # the place is its own now
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert gate.table.all_outstanding() == {"r0": 0, "r1": 0}
