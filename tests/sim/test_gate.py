"""The gate orders and routes as the gateway does."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steppe.control.admission import AdmissionQueue, Ticket
from steppe.gateway.routing import Route, RoutingTable
from steppe.sim.events import EventQueue
from steppe.sim.gate import Patience, SimulatedGateway
from steppe.sim.request import Request, SimulatedArrival

REPLICAS = 5
ENDLESS = Patience(1000, 1000.0, 2.0)


class Door:
    """A gate that notes where each request goes, and how it was refused."""

    def __init__(self, patience: Patience = ENDLESS, replicas: int = 1) -> None:
        self.queue = EventQueue()
        self.sent: list[tuple[int, int]] = []
        self.ended: list[tuple[int, str, float]] = []
        self.gate = SimulatedGateway(replicas, patience, self.queue, self._send, self._end)

    def submit(self, number: int, rank: int = 1) -> None:
        self.gate.submit(Request(number, SimulatedArrival(self.queue.now_s, 10, 10, rank)))

    def _send(self, replica: int, request: Request) -> None:
        self.sent.append((replica, request.number))

    def _end(self, request: Request) -> None:
        self.ended.append((request.number, request.finish, request.end_s))


@given(seed=st.integers(0, 1 << 32))
def test_requests_go_where_the_gateway_sends_them(seed: int) -> None:
    rng, door, table = Random(seed), Door(replicas=REPLICAS), RoutingTable()
    limits = [rng.randint(1, 6) for _ in range(REPLICAS)]
    routes = tuple(Route(str(i), "", limit) for i, limit in enumerate(limits))
    table.replace(routes)
    door.gate.route(limits)
    placed: list[int] = []
    fresh: list[int] = []
    for number in range(60):
        if placed and rng.random() < 0.4:
            left = placed.pop(rng.randrange(len(placed)))
            if left in fresh:
                fresh.remove(left)
                table.begin(routes[left])
                door.gate.begin(left, 1)
            table.release(routes[left])
            door.gate.release(left)
            continue
        if fresh and rng.random() < 0.4:
            begun = fresh.pop(rng.randrange(len(fresh)))
            table.begin(routes[begun])
            door.gate.begin(begun, 1)
        route = table.acquire()
        if route is None:
            continue
        door.submit(number)
        placed.append(int(route.replica))
        fresh.append(int(route.replica))
        assert door.sent[-1] == (placed[-1], number)


@given(ranks=st.lists(st.integers(0, 2), min_size=1, max_size=30))
def test_requests_leave_in_the_order_of_the_gateway(ranks: list[int]) -> None:
    door, order = Door(), AdmissionQueue()
    for number, rank in enumerate(ranks):
        door.queue.run_until(0.1 * number)
        door.submit(number, rank)
        order.join(Ticket.of(rank, number, 0.1 * number, ENDLESS.ttft_s))
    door.gate.route([len(ranks)])
    now_s = door.queue.now_s
    expected = [ticket.number for ticket in iter(lambda: order.pop(now_s), None)]
    assert [number for _, number in door.sent] == expected


def test_a_request_that_finds_the_queue_full_is_rejected() -> None:
    door = Door(Patience(most=2, longest_s=9.0, ttft_s=2.0))
    for number in range(3):
        door.submit(number)
    assert door.ended == [(2, "rejected", 0.0)]
    assert door.gate.waiting == 2


def test_when_the_queue_is_full_the_last_of_a_lower_class_gives_way() -> None:
    door = Door(Patience(most=2, longest_s=9.0, ttft_s=2.0))
    for number, rank in enumerate((2, 2, 0, 2)):
        door.submit(number, rank)
    assert door.ended == [(1, "shed", 0.0), (3, "rejected", 0.0)]
    assert door.gate.waiting == 2


def test_a_request_is_shed_when_it_has_waited_as_long_as_allowed() -> None:
    door = Door(Patience(most=10, longest_s=5.0, ttft_s=2.0))
    door.queue.at(1.0, lambda *_: door.submit(1))
    door.queue.at(2.0, lambda *_: door.submit(2))
    door.queue.at(5.5, lambda *_: door.submit(3))
    door.queue.run_until(8.0)
    assert door.ended == [(1, "shed", 6.0), (2, "shed", 7.0)]
    assert door.gate.waiting == 1
    door.queue.run_until(11.0)
    assert door.ended[-1] == (3, "shed", 10.5)


def test_who_was_served_is_not_shed_later() -> None:
    door = Door(Patience(most=10, longest_s=5.0, ttft_s=2.0))
    door.submit(1)
    door.gate.route([1])
    door.queue.run_until(20.0)
    assert door.sent == [(0, 1)]
    assert door.ended == []


@pytest.mark.parametrize("limits", [[0, 0], [1, 1]])
def test_the_places_of_a_lost_replica_are_free_and_it_gets_nothing_more(limits: list[int]) -> None:
    door = Door(replicas=2)
    door.gate.route([1, 1])
    door.submit(1)
    door.gate.release_all(0)
    door.gate.route(limits)
    door.submit(2)
    door.submit(3)
    assert door.gate.outstanding == limits
    assert door.gate.waiting == 2 - sum(limits)


def test_whose_replica_died_waits_no_longer_than_from_its_arrival() -> None:
    door = Door(Patience(most=10, longest_s=5.0, ttft_s=2.0))
    door.gate.route([1])
    door.submit(1)
    door.queue.at(1.0, lambda *_: door.submit(2))
    door.queue.run_until(3.0)
    door.gate.release_all(0)
    door.gate.submit_again(Request(1, SimulatedArrival(0.0, 10, 10, 1)))
    door.queue.run_until(9.0)
    assert door.ended == [(1, "shed", 5.0), (2, "shed", 6.0)]
