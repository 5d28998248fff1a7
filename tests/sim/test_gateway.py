"""The simulated gateway orders and refuses requests as the live one does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steppe.control.admission import AdmissionQueue, Ticket
from steppe.load.arrivals import Arrival
from steppe.sim.events import EventQueue
from steppe.sim.gateway import GatewayLimits, SimulatedGateway
from steppe.sim.request import Request

ENDLESS = GatewayLimits(1000, 1000.0, 2.0)


class Recording:
    """A simulated gateway; notes where each request goes, and how it was refused."""

    def __init__(self, limits: GatewayLimits = ENDLESS, replicas: int = 1) -> None:
        self.queue = EventQueue()
        self.sent: list[tuple[int, int]] = []
        self.ended: list[tuple[int, str, float]] = []
        self.gateway = SimulatedGateway(replicas, limits, self.queue, self._send, self._end)

    def submit(self, number: int, rank: int = 1) -> None:
        self.gateway.submit(Request(number, Arrival(self.queue.now_s, 10, 10, rank)))

    def _send(self, replica: int, request: Request) -> None:
        self.sent.append((replica, request.number))

    def _end(self, request: Request) -> None:
        self.ended.append((request.number, request.finish, request.end_s))


@given(ranks=st.lists(st.integers(0, 2), min_size=1, max_size=30))
def test_requests_leave_in_the_order_of_the_gateway(ranks: list[int]) -> None:
    recording, order = Recording(), AdmissionQueue()
    for number, rank in enumerate(ranks):
        recording.queue.run_until(0.1 * number)
        recording.submit(number, rank)
        order.join(Ticket.of(rank, number, 0.1 * number, ENDLESS.ttft_s))
    recording.gateway.route([len(ranks)])
    now_s = recording.queue.now_s
    expected = [ticket.number for ticket in iter(lambda: order.pop(now_s), None)]
    assert [number for _, number in recording.sent] == expected


def test_a_request_that_finds_the_queue_full_is_rejected() -> None:
    recording = Recording(GatewayLimits(max_waiting=2, max_wait_s=9.0, ttft_s=2.0))
    for number in range(3):
        recording.submit(number)
    assert recording.ended == [(2, "rejected", 0.0)]
    assert recording.gateway.waiting == 2


def test_a_full_queue_sheds_the_last_request_of_a_lower_class() -> None:
    recording = Recording(GatewayLimits(max_waiting=2, max_wait_s=9.0, ttft_s=2.0))
    for number, rank in enumerate((2, 2, 0, 2)):
        recording.submit(number, rank)
    assert recording.ended == [(1, "shed", 0.0), (3, "rejected", 0.0)]
    assert recording.gateway.waiting == 2


def test_a_request_is_shed_after_the_longest_wait() -> None:
    recording = Recording(GatewayLimits(max_waiting=10, max_wait_s=5.0, ttft_s=2.0))
    recording.queue.at(1.0, lambda *_: recording.submit(1))
    recording.queue.at(2.0, lambda *_: recording.submit(2))
    recording.queue.at(5.5, lambda *_: recording.submit(3))
    recording.queue.run_until(8.0)
    assert recording.ended == [(1, "shed", 6.0), (2, "shed", 7.0)]
    assert recording.gateway.waiting == 1
    recording.queue.run_until(11.0)
    assert recording.ended[-1] == (3, "shed", 10.5)


def test_a_request_that_was_sent_is_not_shed_later() -> None:
    recording = Recording(GatewayLimits(max_waiting=10, max_wait_s=5.0, ttft_s=2.0))
    recording.submit(1)
    recording.gateway.route([1])
    recording.queue.run_until(20.0)
    assert recording.sent == [(0, 1)]
    assert recording.ended == []


@pytest.mark.parametrize("limits", [[0, 0], [1, 1]])
def test_a_lost_replica_loses_its_requests_and_gets_no_more(limits: list[int]) -> None:
    recording = Recording(replicas=2)
    recording.gateway.route([1, 1])
    recording.submit(1)
    recording.gateway.release_all(0)
    recording.gateway.route(limits)
    recording.submit(2)
    recording.submit(3)
    assert recording.gateway.slots.outstanding == limits
    assert recording.gateway.waiting == 2 - sum(limits)


def test_a_request_whose_replica_died_waits_no_longer_than_from_its_arrival() -> None:
    recording = Recording(GatewayLimits(max_waiting=10, max_wait_s=5.0, ttft_s=2.0))
    recording.gateway.route([1])
    recording.submit(1)
    recording.queue.at(1.0, lambda *_: recording.submit(2))
    recording.queue.run_until(3.0)
    recording.gateway.release_all(0)
    recording.gateway.submit_again(Request(1, Arrival(0.0, 10, 10, 1)))
    recording.queue.run_until(9.0)
    assert recording.ended == [(1, "shed", 5.0), (2, "shed", 6.0)]


def test_a_request_waits_a_moment_for_the_busy_replica_that_holds_its_prompt() -> None:
    limits = GatewayLimits(10, 9.0, 2.0, load_bound=1.0, prefix_wait_s=0.5)
    recording = Recording(limits, replicas=2)
    recording.gateway.route([8, 8])
    blocks = tuple(range(8))

    def submit(number: int) -> Request:
        arrival = Arrival(recording.queue.now_s, 4096, 10, 1, hash_ids=blocks, block_tokens=512)
        request = Request(number, arrival)
        recording.gateway.submit(request)
        return request

    first = submit(0)
    submit(1)
    assert recording.sent == [(0, 0)]
    recording.gateway.begin(0, [first])
    recording.gateway.release(0, first)
    assert recording.sent == [(0, 0), (0, 1)]
    submit(2)
    recording.queue.run_until(0.6)
    assert recording.sent[-1] == (1, 2)  # it has waited as long as it may
    submit(3)
    submit(4)
    recording.gateway.close()
    assert len(recording.sent) + len(recording.ended) == 5
