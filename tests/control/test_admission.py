from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from steppe.control.admission import DEFERRABLE, LATE_SHARE, AdmissionQueue, Ticket
from steppe.control.tenant_lines import LATE_TURN


def test_the_most_urgent_goes_first_and_then_who_came_first() -> None:
    queue = AdmissionQueue()
    for ticket in (Ticket(2, 1), Ticket(1, 2), Ticket(0, 3), Ticket(1, 4), Ticket(0, 5)):
        queue.join(ticket)
    assert [queue.pop(0.0) for _ in range(6)] == [
        Ticket(0, 3),
        Ticket(0, 5),
        Ticket(1, 2),
        Ticket(1, 4),
        Ticket(2, 1),
        None,
    ]


def test_only_a_higher_class_outranks_and_then_the_last_of_the_lowest() -> None:
    queue = AdmissionQueue()
    assert queue.outranked_by(Ticket(0, 9)) is None
    for ticket in (Ticket(1, 1, 5.0), Ticket(2, 2), Ticket(2, 4), Ticket(1, 5, 9.0)):
        queue.join(ticket)
    assert queue.outranked_by(Ticket(2, 9)) is None
    assert (
        queue.outranked_by(Ticket(1, 9, 99.0)) == queue.outranked_by(Ticket(0, 9)) == Ticket(2, 4)
    )


def test_who_has_to_wait_again_gets_its_old_place() -> None:
    queue = AdmissionQueue()
    queue.join(Ticket(1, 1))
    queue.join(Ticket(1, 2))
    assert queue.pop(0.0) == Ticket(1, 1)
    queue.join(Ticket(1, 1))
    assert queue.pop(0.0) == Ticket(1, 1)


def test_a_late_request_waits_until_none_of_its_class_is_on_time() -> None:
    queue = AdmissionQueue()
    early, late, timely, other = (
        Ticket(1, 1, 5.0),
        Ticket(1, 2, 9.0),
        Ticket(1, 3, 20.0),
        Ticket(2, 4),
    )
    for ticket in (late, other, timely, early):
        queue.join(ticket)
    assert [queue.pop(10.0) for _ in range(4)] == [timely, early, late, other]


def test_a_late_request_has_its_turn_though_others_keep_coming_on_time() -> None:
    queue = AdmissionQueue()
    for number in range(2):
        queue.join(Ticket(1, number, 5.0))
    served = []
    for number in range(2, 2 + 7 * LATE_TURN):
        queue.join(Ticket(1, number, 1000.0))
        ticket = queue.pop(10.0)
        assert ticket is not None
        served.append(ticket.number)
    turns = [place for place, number in enumerate(served) if number < 2]
    assert turns == [3 * LATE_TURN, 6 * LATE_TURN + 1]
    assert [served[place] for place in turns] == [0, 1]


def test_clients_that_ask_again_at_once_all_wait_for_a_bounded_time() -> None:
    queue, waits, place_s, more = AdmissionQueue(), list[float](), 0.4, 4
    arrivals_s = {Ticket.of(1, number, 0.0, 5.0): 0.0 for number in range(more)}
    for ticket in arrivals_s:
        queue.join(ticket)
    for number in range(more, 2000):
        now_s = number * place_s
        served = queue.pop(now_s)
        assert served is not None
        waits.append(now_s - arrivals_s.pop(served))
        asks_again = Ticket.of(1, number, now_s, 5.0)
        arrivals_s[asks_again] = now_s
        queue.join(asks_again)
    waits += [2000 * place_s - arrival_s for arrival_s in arrivals_s.values()]
    assert max(waits) <= more * (LATE_TURN * more + 1) * place_s


def test_a_request_is_late_after_a_share_of_its_slo_and_deferrable_work_never() -> None:
    assert Ticket.of(1, 7, 100.0, 2.0) == Ticket(1, 7, 100.0 + 2.0 * LATE_SHARE)
    assert Ticket.of(DEFERRABLE, 7, 100.0, 2.0).late_s == math.inf


@given(st.lists(st.tuples(st.sampled_from(["join", "leave", "pop"]), st.integers(0, 200))))
def test_it_always_serves_the_first_of_those_who_wait(moves: list[tuple[str, int]]) -> None:
    queue, waiting, passed = AdmissionQueue(), set[Ticket](), dict.fromkeys(range(3), 0)
    for now, (move, number) in enumerate(moves):
        now_s = float(now)
        ticket = Ticket(number % 3, number, float(number))
        if move == "join" and ticket not in waiting:
            queue.join(ticket)
            waiting.add(ticket)
        elif move == "leave":
            queue.leave(ticket)
            waiting.discard(ticket)
        elif move == "pop":
            rank = min((each.rank for each in waiting), default=0)
            late = min((t for t in waiting if t.rank == rank and t.late_s < now_s), default=None)
            first = late
            if passed[rank] < LATE_TURN * sum(each.rank == rank for each in waiting):
                order = sorted(waiting, key=lambda t: (t.rank, t.late_s < now_s, t.number))
                first = next(iter(order), None)
            assert queue.pop(now_s) == first
            waiting -= {first}
            passed[rank] = 0 if late in (None, first) else passed[rank] + 1
        for rank in set(passed) - {each.rank for each in waiting}:
            passed[rank] = 0
        assert len(queue) == len(waiting)


def test_those_who_left_are_forgotten() -> None:
    queue = AdmissionQueue()
    for number in range(1000):
        queue.join(Ticket(1, number))
        queue.leave(Ticket(1, number))
    queue.join(Ticket(1, 1000))
    assert queue.pop(0.0) == Ticket(1, 1000)
    assert queue.pop(0.0) is None


def test_a_class_gets_its_share_of_what_requests_took_and_not_of_what_was_expected() -> None:
    queue, took = AdmissionQueue((0.0, 0.2, 0.2)), {0: 0, 1: 0, 2: 0}
    for number in range(6):
        queue.join(Ticket(number % 3, number, cost=(9.0, 9.0, 90.0)[number % 3]))
    for number in range(6, 1000):
        ticket = queue.pop(0.0)
        assert ticket is not None
        took[ticket.rank] += 9
        queue.settle(ticket, 9.0)
        queue.join(ticket._replace(number=number))
    whole = sum(took.values())
    assert [round(tokens / whole, 2) for tokens in took.values()] == [0.6, 0.2, 0.2]


def test_a_tenant_whose_requests_took_less_than_expected_is_not_behind_the_others() -> None:
    queue, served = AdmissionQueue(), {"a": 0, "b": 0}
    queue.join(Ticket(1, 0, tenant="a", cost=100.0))
    queue.join(Ticket(1, 1, tenant="b", cost=10.0))
    for number in range(2, 202):
        ticket = queue.pop(0.0)
        assert ticket is not None
        served[ticket.tenant] += 1
        queue.settle(ticket, 10.0)
        queue.join(ticket._replace(number=number))
    assert abs(served["a"] - served["b"]) <= 2
