from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.grid.offers.conftest import MakeOffer

from steppe.errors import UsageError
from steppe.grid.offers.commitments import Commitment, Free, broken, committed, free_w
from steppe.grid.offers.offer import Call, FlexOffer, offered
from steppe.grid.offers.sources import Source

FIRST = Commitment("a", "reserve", 0, 3600, down_w=600)


def test_a_watt_is_not_sold_twice(make_offer: MakeOffer) -> None:
    promised = committed((), FIRST, make_offer(1000.0))
    second = Commitment("b", "capacity", 1800, 5400, down_w=500)
    with pytest.raises(UsageError, match="asked for 500 W down for capacity, found 400 W free"):
        committed(promised, second, make_offer(1000.0))
    assert len(committed(promised, replace(second, down_w=400), make_offer(1000.0))) == 2


def test_watts_are_free_again_after_the_end_and_the_recovery(make_offer: MakeOffer) -> None:
    offer = make_offer(1000.0, recovery_s=600.0)
    promised = committed((), replace(FIRST, recovery_s=600), offer)
    late = Commitment("b", "capacity", 4000, 5000, down_w=500, recovery_s=600)
    with pytest.raises(UsageError, match="found 400 W free"):
        committed(promised, late, offer)
    assert committed(promised, replace(late, from_s=4200), offer)
    assert free_w(offer, promised, 4200.0, 5000.0) == Free(1000, 1000)


def test_a_commitment_before_another_keeps_its_recovery_clear(make_offer: MakeOffer) -> None:
    offer = make_offer(1000.0, recovery_s=600.0)
    later = Commitment("a", "reserve", 3600, 5400, down_w=600, recovery_s=600)
    promised = committed((), later, offer)
    with pytest.raises(UsageError, match="found 400 W free"):
        committed(promised, Commitment("b", "x", 0, 3300, 500, recovery_s=600), offer)


def test_a_recovery_below_that_of_the_offer_is_refused(make_offer: MakeOffer) -> None:
    with pytest.raises(UsageError, match=r"recovery of 0 s, found that the offer needs 600\.0 s"):
        committed((), FIRST, make_offer(1000.0, recovery_s=600.0))


def test_both_directions_are_counted_apart(make_offer: MakeOffer) -> None:
    promised = committed((), FIRST, make_offer(1000.0))
    up = Commitment("b", "up", 0, 3600, up_w=1000)
    assert len(committed(promised, up, make_offer(1000.0))) == 2


def test_the_same_commitment_again_changes_nothing(make_offer: MakeOffer) -> None:
    promised = committed((), FIRST, make_offer(1000.0))
    assert committed(promised, FIRST, make_offer(0.0)) == promised
    with pytest.raises(UsageError, match="commitment a, found another one of this id"):
        committed(promised, replace(FIRST, down_w=1), make_offer(1000.0))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (replace(FIRST, until_s=7201), "found an offer from 0.0 to 7200.0 s"),
        (replace(FIRST, until_s=0), "asked for 0 to 0 s"),
        (replace(FIRST, down_w=0), "found nothing to sell"),
        (replace(FIRST, down_w=-1, up_w=5), "found nothing to sell"),
    ],
)
def test_what_is_not_within_the_offer_is_refused(
    wrong: Commitment, says: str, make_offer: MakeOffer
) -> None:
    with pytest.raises(UsageError, match=says):
        committed((), wrong, make_offer(1000.0))


def test_a_smaller_offer_names_what_it_cannot_keep_and_keeps_what_was_sold_first(
    make_offer: MakeOffer,
) -> None:
    second = Commitment("b", "capacity", 1800, 5400, down_w=400)
    promised = committed(committed((), FIRST, make_offer(1000.0)), second, make_offer(1000.0))
    assert broken(promised, make_offer(1000.0)) == ()
    assert broken(promised, make_offer(900.0)) == (second,)
    assert broken(promised, make_offer(500.0)) == (FIRST,)


@settings(deadline=None, max_examples=50, derandomize=True)
@given(
    st.lists(
        st.tuples(st.integers(0, 60), st.integers(1, 60), st.integers(1, 900), st.integers(0, 900)),
        max_size=12,
    )
)
def test_at_no_time_is_more_promised_than_offered(
    asked: list[tuple[int, int, int, int]],
) -> None:
    power = offered([[Source("work", 1000.0, 0.0, 1.0, 0.0)]] * 9, Call(0.0, 60.0))
    offer = FlexOffer("offer", 0.0, 120.0, power, power)
    promised: tuple[Commitment, ...] = ()
    for number, (from_s, length, down_w, up_w) in enumerate(asked):
        new = Commitment(str(number), "x", from_s, from_s + length, down_w, up_w)
        try:
            promised = committed(promised, new, offer)
        except UsageError:
            assert promised
    for at_s in range(121):
        taking = [one for one in promised if one.takes_at(at_s)]
        assert sum(one.down_w for one in taking) <= 1000
        assert sum(one.up_w for one in taking) <= 1000
