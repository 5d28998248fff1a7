from __future__ import annotations

from steppe.batch.runner.pace import LONGEST_GUESS_S, Pace


def test_rows_that_are_refused_together_halve_the_number_once() -> None:
    pace = Pace.begin(64).refused(10.0, 3.0).refused(10.1, 1.0).refused(10.2, None)
    assert pace.room(12.9, 0) == 0
    assert pace.room(13.0, 0) == 32


def test_a_later_time_in_a_second_refusal_is_kept_too() -> None:
    pace = Pace.begin(8).refused(10.0, 1.0).refused(10.1, 50.0)
    assert pace.room(60.0, 0) == 0
    assert pace.room(60.1, 0) == 4


def test_each_answer_gives_one_more_up_to_the_most() -> None:
    pace = Pace.begin(4).refused(0.0, 0.0)
    assert [pace.room(1.0, 0), pace.answered().room(1.0, 0)] == [2, 3]
    for _ in range(9):
        pace = pace.answered()
    assert pace.room(1.0, 1) == 3


def test_refusals_without_a_time_are_answered_by_longer_and_longer_pauses() -> None:
    pace, now_s, pauses_s = Pace.begin(8), 0.0, []
    for _ in range(8):
        pace = pace.refused(now_s, None)
        pauses_s.append(pace.paused_until_s - now_s)
        now_s = pace.paused_until_s
    assert pauses_s == [2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]
    assert max(pauses_s) == LONGEST_GUESS_S


def test_a_gateway_that_wants_rows_again_ends_the_pause_that_a_lack_of_power_made() -> None:
    pace = Pace.begin(8).told(0).refused(0.0, 3600.0)
    assert pace.told(5).room(1.0, 0) == 5
    limited = Pace.begin(8).told(0).refused(0.0, 3600.0, is_limit=True)
    assert limited.told(5).room(1.0, 0) == 0


def test_a_gateway_that_is_away_is_asked_less_and_less_often() -> None:
    pace, now_s, pauses_s = Pace.begin(8), 0.0, []
    for _ in range(6):
        pace = pace.lost(now_s, 5.0)
        pauses_s.append(pace.paused_until_s - now_s)
        now_s = pace.paused_until_s
    assert pauses_s == [0.5, 1.0, 2.0, 4.0, 5.0, 5.0]
    assert pace.answered().lost(now_s, 5.0).paused_until_s - now_s == 0.5


def test_rows_that_wait_for_their_energy_are_above_what_the_gateway_wants() -> None:
    pace = Pace.begin(8).told(10).holding(3.7)
    assert pace.room(0.0, 0) == 13
    assert pace.told(0).room(0.0, 0) == 0


def test_one_row_after_each_pause_finds_out_whether_the_tenant_can_pay() -> None:
    pace, now_s, pauses_s = Pace.begin(64).told(40), 0.0, []
    for _ in range(6):
        pace = pace.refused(now_s, None, unpaid="insufficient_funds")
        assert pace.room(pace.paused_until_s - 0.1, 0) == 0
        pauses_s.append(pace.paused_until_s - now_s)
        now_s = pace.paused_until_s
        assert (pace.room(now_s, 0), pace.room(now_s, 1)) == (1, 0)
    assert pauses_s == [2.0, 4.0, 8.0, 16.0, 32.0, 60.0]
    assert pace.answered().room(now_s, 0) == 40
    assert pace.told(0).room(now_s, 0) == 0


def test_more_power_does_not_end_the_pause_of_a_tenant_that_cannot_pay() -> None:
    pace = Pace.begin(8).told(0).refused(0.0, 3600.0, unpaid="no_account")
    assert pace.told(5).room(1.0, 0) == 0
