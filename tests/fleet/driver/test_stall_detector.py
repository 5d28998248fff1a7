from __future__ import annotations

from steppe.fleet.driver.stall_detector import StallDetector


def test_a_loop_that_reads_the_budget_is_not_stalled() -> None:
    detector = StallDetector()
    assert [detector.stalled_s(looks, 10.0 * looks, 10.0 * looks) for looks in range(9)] == 9 * [
        0.0
    ]


def test_a_stall_begins_with_the_first_call_without_progress() -> None:
    detector = StallDetector()
    assert detector.stalled_s(7, 1.0, 1.0) == 0.0
    assert detector.stalled_s(7, 50.0, 50.5) == 0.5
    assert detector.stalled_s(None, 51.0, 61.0) == 11.0
    assert detector.stalled_s(7, 62.0, 62.0) == 12.0
    assert detector.stalled_s(8, 63.0, 63.0) == 0.0


def test_calls_without_a_result_show_no_stall_before_the_first_result() -> None:
    detector = StallDetector()
    assert [detector.stalled_s(None, 10.0 * call, 10.0 * call + 10) for call in range(9)] == 9 * [
        0.0
    ]
