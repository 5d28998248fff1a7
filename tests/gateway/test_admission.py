from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from steppe.gateway.admission import AdmissionQueue, Ticket


def test_the_most_urgent_goes_first_and_then_who_came_first() -> None:
    queue = AdmissionQueue()
    for ticket in (Ticket(2, 1), Ticket(1, 2), Ticket(0, 3), Ticket(1, 4), Ticket(0, 5)):
        queue.join(ticket)
    assert [queue.pop() for _ in range(6)] == [
        Ticket(0, 3),
        Ticket(0, 5),
        Ticket(1, 2),
        Ticket(1, 4),
        Ticket(2, 1),
        None,
    ]


def test_who_has_to_wait_again_gets_its_old_place() -> None:
    queue = AdmissionQueue()
    queue.join(Ticket(1, 1))
    queue.join(Ticket(1, 2))
    assert queue.pop() == Ticket(1, 1)
    queue.join(Ticket(1, 1))
    assert queue.pop() == Ticket(1, 1)


@given(st.lists(st.tuples(st.sampled_from(["join", "leave", "pop"]), st.integers(0, 200))))
def test_it_always_serves_the_first_of_those_who_wait(moves: list[tuple[str, int]]) -> None:
    queue, waiting = AdmissionQueue(), set[Ticket]()
    for move, number in moves:
        ticket = Ticket(number % 3, number)
        if move == "join" and ticket not in waiting:
            queue.join(ticket)
            waiting.add(ticket)
        elif move == "leave":
            queue.leave(ticket)
            waiting.discard(ticket)
        elif move == "pop":
            first = min(waiting, default=None)
            assert queue.pop() == first
            waiting -= {first}
        assert len(queue) == len(waiting)


def test_those_who_left_are_forgotten() -> None:
    queue = AdmissionQueue()
    for number in range(1000):
        queue.join(Ticket(1, number))
        queue.leave(Ticket(1, number))
    queue.join(Ticket(1, 1000))
    assert queue.pop() == Ticket(1, 1000)
    assert queue.pop() is None
