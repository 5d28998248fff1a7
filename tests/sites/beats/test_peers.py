from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fixtures.beating_sites import view_of

from steppe.sites.beats.message import Beat, Origin
from steppe.sites.beats.peers import RTTS, BeatSettings, Health, PeerTable, StaleBeatError

OWN_RUN, RUN, LATER_RUN = "0" * 16, "1" * 16, "2" * 16
SETTINGS = BeatSettings()


def beat(
    seq: int, at_s: float, *, heard: int | None = None, run: str = RUN, at_us: int = 0
) -> Beat:
    origin = None if heard is None else Origin(OWN_RUN, heard)
    view = replace(view_of("hohhot", seq=seq), received_s=at_s)
    return Beat("shanghai", Origin(run, seq), origin, None, at_us, 10.0, view)


@pytest.fixture
def table() -> PeerTable:
    return PeerTable(["hohhot"], OWN_RUN, SETTINGS)


def receive(table: PeerTable, beat: Beat) -> None:
    """Take a beat at a site whose own beats count the seconds."""
    table.receive(beat, own_seq=int(beat.view.received_s))


def health(table: PeerTable, now_s: float) -> Health:
    return table.health("hohhot", now_s)


def feed(table: PeerTable, first: int, last: int) -> None:
    """A beat at each second of these, in which our last one was heard."""
    for seq in range(first, last + 1):
        receive(table, beat(seq, float(seq), heard=seq - 1))


def test_a_site_is_unheard_before_its_first_beat(table: PeerTable) -> None:
    assert health(table, 100.0) is Health.UNHEARD
    assert table.live(100.0) == []
    assert table.age_s("hohhot", 100.0) is None


def test_a_site_is_live_from_its_first_beat(table: PeerTable) -> None:
    feed(table, 1, 1)
    assert health(table, 1.0) is Health.LIVE
    assert [view.site for view in table.live(1.0)] == ["hohhot"]


def test_a_site_is_lost_after_three_missed_beats_and_not_before(table: PeerTable) -> None:
    feed(table, 1, 5)
    assert health(table, 5 + 3.4) is Health.LIVE
    assert health(table, 5 + 3.6) is Health.LOST
    assert table.losses("hohhot") == 1


def test_a_beat_that_is_soon_forgotten_ends_sooner(table: PeerTable) -> None:
    receive(table, replace(beat(1, 1.0, heard=0), ttl_s=0.5))
    assert health(table, 2.0) is Health.LOST


def test_a_site_that_was_lost_is_back_after_three_beats(table: PeerTable) -> None:
    feed(table, 1, 3)
    found = []
    for seq in range(20, 24):
        feed(table, seq, seq)
        found.append(health(table, float(seq)))
    assert found == [Health.RETURNING, Health.RETURNING, Health.LIVE, Health.LIVE]


def test_a_site_that_flaps_stays_out_until_it_was_quiet_for_a_while(table: PeerTable) -> None:
    second = 1
    for _ in range(3):
        feed(table, second, second + 3)
        second += 8
    feed(table, second, second + 5)
    assert health(table, second + 5.0) is Health.DAMPED
    feed(table, second + 6, second + 30)
    assert health(table, second + 30.0) is Health.DAMPED
    feed(table, second + 31, second + 120)
    assert health(table, second + 120.0) is Health.LIVE


def test_two_losses_in_an_hour_damp_no_site(table: PeerTable) -> None:
    for start in (1, 1800):
        feed(table, start, start + 5)
        assert health(table, start + 20.0) is Health.LOST
    feed(table, 3000, 3002)
    assert health(table, 3002.0) is Health.LIVE


def test_a_site_that_no_longer_hears_us_gets_no_work(table: PeerTable) -> None:
    feed(table, 1, 10)
    found = []
    for seq in range(11, 16):
        receive(table, beat(seq, float(seq), heard=9))
        found.append(health(table, float(seq)))
    assert found == [Health.LIVE] * 2 + [Health.ONE_WAY] * 3
    feed(table, 16, 16)
    assert health(table, 16.0) is Health.LIVE


def test_a_site_that_heard_an_earlier_run_of_ours_does_not_hear_us(table: PeerTable) -> None:
    old = replace(beat(9, 9.0), heard=Origin(LATER_RUN, 9000))
    receive(table, old)
    assert health(table, 9.0) is Health.ONE_WAY


def test_an_older_beat_is_refused_and_the_same_one_changes_nothing(table: PeerTable) -> None:
    receive(table, beat(5, 5.0, heard=4))
    receive(table, beat(5, 6.0, heard=4))
    assert table.age_s("hohhot", 6.0) == 1.0
    with pytest.raises(StaleBeatError, match="asked for a beat after 5, found 4"):
        receive(table, beat(4, 6.0, heard=4))


def test_a_new_run_begins_anew_and_the_ended_one_is_refused(table: PeerTable) -> None:
    receive(table, beat(900, 1.0, heard=0))
    receive(table, beat(1, 2.0, heard=1, run=LATER_RUN))
    assert table.newest("hohhot") == Origin(LATER_RUN, 1)
    with pytest.raises(StaleBeatError, match="which has ended"):
        receive(table, beat(901, 2.5, heard=1))


def test_the_round_trip_is_the_least_of_the_last_hundred(table: PeerTable) -> None:
    assert table.rtt_s("hohhot") is None
    receive(table, replace(beat(1, 1.0), rtt_s=0.033))
    assert table.rtt_s("hohhot") == 0.033
    table.note_rtt("hohhot", 0.020)
    for _ in range(RTTS - 1):
        table.note_rtt("hohhot", 0.021)
    assert table.rtt_s("hohhot") == 0.020
    table.note_rtt("hohhot", 0.022)
    assert table.rtt_s("hohhot") == 0.021


@given(st.lists(st.integers(-(1 << 62), 1 << 62), min_size=10, max_size=10))
def test_the_clock_of_another_site_changes_nothing(clocks_us: list[int]) -> None:
    right, wrong = (PeerTable(["hohhot"], OWN_RUN, SETTINGS) for _ in range(2))
    for seq, at_us in enumerate(clocks_us, start=1):
        receive(right, beat(seq, float(seq), heard=seq - 1))
        receive(wrong, beat(seq, float(seq), heard=seq - 1, at_us=at_us))
        assert health(right, seq + 1.0) is health(wrong, seq + 1.0) is Health.LIVE
    assert health(wrong, 13.4) is Health.LIVE
    assert health(right, 13.6) is health(wrong, 13.6) is Health.LOST


@given(st.lists(st.tuples(st.integers(0, 30), st.floats(0, 5)), max_size=40))
def test_the_number_of_the_newest_beat_never_falls(beats: list[tuple[int, float]]) -> None:
    table, now_s, newest = PeerTable(["hohhot"], OWN_RUN, SETTINGS), 0.0, -1
    for seq, wait_s in beats:
        now_s += wait_s
        try:
            receive(table, beat(seq, now_s, heard=0))
        except StaleBeatError:
            assert seq < newest
        origin = table.newest("hohhot")
        assert origin is not None
        assert origin.seq == max(newest, seq)
        newest = origin.seq


@given(st.lists(st.floats(0.0, 20.0), min_size=1, max_size=60))
def test_a_site_is_never_live_when_its_last_beat_is_old(waits_s: list[float]) -> None:
    table, now_s = PeerTable(["hohhot"], OWN_RUN, SETTINGS), 0.0
    for seq, wait_s in enumerate(waits_s):
        now_s += wait_s
        if table.age_s("hohhot", now_s) is not None and wait_s > SETTINGS.lost_after_s:
            assert health(table, now_s) is Health.LOST
        receive(table, beat(seq, now_s, heard=int(now_s)))
        assert health(table, now_s) in {Health.LIVE, Health.RETURNING, Health.DAMPED}
