from __future__ import annotations

from steppe.fleet.driver.stall_detector import StallDetector


def test_a_loop_that_comes_round_does_not_stand_still() -> None:
    detector = StallDetector()
    assert [detector.stalled_s(looks, 10.0 * looks, 10.0 * looks) for looks in range(9)] == 9 * [
        0.0
    ]


def test_a_loop_stands_still_from_the_first_question_that_found_it_so() -> None:
    detector = StallDetector()
    assert detector.stalled_s(7, 1.0, 1.0) == 0.0
    assert detector.stalled_s(7, 50.0, 50.5) == 0.5
    assert detector.stalled_s(None, 51.0, 61.0) == 11.0
    assert detector.stalled_s(7, 62.0, 62.0) == 12.0
    assert detector.stalled_s(8, 63.0, 63.0) == 0.0


def test_no_answer_says_nothing_of_a_loop_that_was_never_seen() -> None:
    detector = StallDetector()
    assert [detector.stalled_s(None, 10.0 * call, 10.0 * call + 10) for call in range(9)] == 9 * [
        0.0
    ]
