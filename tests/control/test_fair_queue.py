"""Tenants of a class share by weight, and classes have at least their shares."""

from __future__ import annotations

from collections import Counter
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steppe.control.admission import PRIORITIES, AdmissionQueue, Ticket

WEIGHTS = st.lists(st.sampled_from([0.5, 1.0, 2.0, 5.0]), min_size=2, max_size=5)
COSTS = st.lists(st.integers(1, 40), min_size=60, max_size=60)


def tickets(tenant: str, weight: float, costs: list[int], first: int = 0) -> list[Ticket]:
    return [
        Ticket(1, first + n, tenant=tenant, weight=weight, cost=float(cost))
        for n, cost in enumerate(costs)
    ]


@given(WEIGHTS, st.data())
def test_tenants_that_wait_are_served_in_proportion_to_their_weights(
    weights: list[float], data: st.DataObject
) -> None:
    queue = AdmissionQueue()
    names = {f"t{n}": weight for n, weight in enumerate(weights)}
    largest = {}
    for n, (name, weight) in enumerate(names.items()):
        costs = data.draw(COSTS)
        largest[name] = max(costs) / weight
        for each in tickets(name, weight, costs, 1000 * n):
            queue.join(each)
    served, left = Counter[str](), dict.fromkeys(names, 60)
    while all(left.values()):
        ticket = queue.pop(0.0)
        assert ticket is not None
        left[ticket.tenant] -= 1
        served[ticket.tenant] += int(ticket.cost)
        for one, weight in names.items():
            for other, of_other in names.items():
                ahead = served[one] / weight - served[other] / of_other
                assert ahead <= largest[one] + largest[other] + 1e-9


def test_a_tenant_that_comes_back_neither_saved_up_nor_owes() -> None:
    queue, numbers = AdmissionQueue(), count()
    for _ in range(100):
        queue.join(Ticket(1, next(numbers), tenant="a"))
    for _ in range(50):
        queue.pop(0.0)
    for _ in range(50):
        queue.join(Ticket(1, next(numbers), tenant="b"))
    served = [queue.pop(0.0) for _ in range(60)]
    first = Counter(ticket.tenant for ticket in served if ticket is not None)
    assert first == {"a": 30, "b": 30}


def test_leaving_and_joining_again_gives_no_more_than_waiting() -> None:
    queue, numbers = AdmissionQueue(), count()
    for _ in range(200):
        queue.join(Ticket(1, next(numbers), tenant="a"))
    served = Counter[str]()
    for _ in range(100):
        one = Ticket(1, next(numbers), tenant="b")
        queue.join(one)
        ticket = queue.pop(0.0)
        assert ticket is not None
        served[ticket.tenant] += 1
        queue.leave(one)
    assert served["b"] <= 51


def test_a_tenant_that_only_has_late_requests_still_gets_its_part() -> None:
    queue, numbers = AdmissionQueue(), count()
    for _ in range(20):
        queue.join(Ticket(1, next(numbers), 1.0, "late"))
        queue.join(Ticket(1, next(numbers), 99.0, "timely"))
    served = Counter(queue.pop(10.0).tenant for _ in range(20))  # type: ignore[union-attr]
    assert served == {"late": 10, "timely": 10}


def test_a_tenant_cannot_fill_the_queue_for_the_others() -> None:
    queue = AdmissionQueue()
    for number in range(10):
        queue.join(Ticket(1, number, tenant="flood"))
    assert queue.outranked_by(Ticket(1, 10, tenant="flood")) is None
    assert queue.outranked_by(Ticket(1, 10, tenant="calm")) == Ticket(1, 9, tenant="flood")
    for number in range(20, 30):
        queue.join(Ticket(1, number, tenant="calm"))
    assert queue.outranked_by(Ticket(1, 30, tenant="calm")) is None
    heavy = Ticket(1, 30, tenant="heavy", weight=0.05)
    assert queue.outranked_by(heavy) is None


def test_many_tenants_that_left_are_forgotten() -> None:
    queue, numbers = AdmissionQueue(), count()
    queue.join(Ticket(1, 0, tenant="stays"))
    for n in range(1, 1000):
        queue.join(Ticket(1, n, tenant=f"t{n}"))
        queue.leave(Ticket(1, n, tenant=f"t{n}"))
    assert len(queue._classes[1]._idle) <= 65
    assert next(numbers) == 0


SHARES = st.lists(st.floats(0, 1), min_size=3, max_size=3).map(
    lambda parts: tuple(part / max(1.0, sum(parts)) for part in parts)
)


@given(SHARES, st.lists(st.integers(1, 9), min_size=200, max_size=200))
def test_a_class_that_waits_gets_its_share(shares: tuple[float, ...], costs: list[int]) -> None:
    queue, numbers = AdmissionQueue(shares), count()
    served, total = [0.0] * len(PRIORITIES), 0.0
    for rank in range(len(PRIORITIES)):
        queue.join(Ticket(rank, next(numbers), cost=5.0))
    for cost in costs:
        ticket = queue.pop(0.0)
        assert ticket is not None
        served[ticket.rank] += ticket.cost
        total += ticket.cost
        queue.join(Ticket(ticket.rank, next(numbers), cost=float(cost)))
        for rank, share in enumerate(shares):
            assert served[rank] >= share * total - 9 * len(PRIORITIES)


def test_without_shares_an_urgent_class_always_goes_first() -> None:
    queue, numbers = AdmissionQueue(), count()
    queue.join(Ticket(2, next(numbers)))
    for _ in range(100):
        queue.join(Ticket(0, next(numbers)))
        ticket = queue.pop(0.0)
        assert ticket is not None
        assert ticket.rank == 0


def test_what_a_class_got_while_it_waited_alone_is_not_held_against_it() -> None:
    queue, numbers = AdmissionQueue((0.0, 0.0, 0.25)), count()
    for _ in range(200):
        queue.join(Ticket(2, next(numbers)))
    for _ in range(100):
        queue.pop(0.0)
    served = Counter[int]()
    for _ in range(80):
        queue.join(Ticket(0, next(numbers)))
        ticket = queue.pop(0.0)
        assert ticket is not None
        served[ticket.rank] += 1
    assert served[2] == pytest.approx(20, abs=3)
