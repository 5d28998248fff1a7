from __future__ import annotations

from steppe.batch.row import Claim, make_row
from steppe.batch.runner.claims import ClaimQueue


def claim(number: int, attempts: int = 0) -> Claim:
    return Claim(make_row(number, str(number), "/v1/completions", {}), attempts)


def numbers(queue: ClaimQueue) -> list[int]:
    found = []
    while (taken := queue.next()) is not None:
        found.append(taken.row.number)
    return found


def test_a_row_that_was_refused_goes_first() -> None:
    queue = ClaimQueue()
    queue.add([claim(0), claim(1)])
    queue.back(claim(7))
    assert numbers(queue) == [7, 0, 1]


def test_only_one_row_that_failed_often_is_open_at_a_time() -> None:
    queue = ClaimQueue()
    queue.add([claim(0), claim(1, 2), claim(2, 3), claim(3, 1)])
    assert numbers(queue) == [1, 0, 3]
    assert (len(queue), queue.sendable) == (1, 0)
    queue.ended(claim(1, 2))
    assert queue.sendable == 1
    assert numbers(queue) == [2]


def test_a_suspect_that_was_refused_lets_no_other_go_before_it() -> None:
    queue = ClaimQueue()
    queue.add([claim(1, 2), claim(2, 2)])
    first = queue.next()
    assert first is not None
    queue.back(first)
    assert numbers(queue) == [1]


def test_what_is_not_sent_can_be_taken_out() -> None:
    queue = ClaimQueue()
    queue.add([claim(0), claim(1, 2)])
    assert [each.row.number for each in queue.clear()] == [1, 0]
    assert (len(queue), queue.next()) == (0, None)
