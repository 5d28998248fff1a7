"""Shares of the idle energy: exact, fair, and provable one by one."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.ledger.periods.test_period import COUNTERS, LATE_US, NEXT, NEXT_RECEIPTS, receipt

from steppe.ledger.periods.checking import check_share
from steppe.ledger.periods.closing import close_hour
from steppe.ledger.periods.shares import prove_share, shares_of, split
from steppe.ledger.tree import ProofError


@settings(max_examples=80)
@given(st.integers(0, 10**15), st.lists(st.integers(0, 10**12), max_size=30))
def test_parts_add_up_and_are_within_one_of_the_exact_ones(amount: int, weights: list[int]) -> None:
    parts, total = split(amount, weights), sum(weights)
    assert sum(parts) == (amount if total else 0)
    for part, weight in zip(parts, weights, strict=True):
        exact = Fraction(amount * weight, total) if total else Fraction(0)
        assert abs(part - exact) < 1


def test_what_is_left_goes_to_the_largest_remainders_the_earlier_first() -> None:
    assert split(10, [1, 1, 1]) == [4, 3, 3]
    assert split(10, [5, 3, 1]) == [6, 3, 1]  # 5.56, 3.33, 1.11
    assert split(2, [0, 3, 3, 3]) == [0, 1, 1, 0]
    assert split(7, [0, 0]) == [0, 0]


def test_receipts_share_the_idle_energy_by_joules_and_corrections_have_none() -> None:
    shares = shares_of(NEXT.idle_uj, NEXT_RECEIPTS)
    assert [(s.receipt, s.idle_uj) for s in shares] == [
        ("id-3", 7_778),
        ("id-4", 0),
        ("id-5", 3_333),
    ]
    assert [each.idle_uj for each in NEXT_RECEIPTS] == [0, 0, 0]


@pytest.mark.parametrize("number", [1, 2, 3, 7, 8, 33])
def test_each_share_is_proven_by_itself(number: int) -> None:
    receipts = [receipt(seq, 1 + seq) for seq in range(number)]
    period = close_hour(COUNTERS, receipts, None, LATE_US)
    shares = shares_of(period.idle_uj, receipts)
    assert sum(share.idle_uj for share in shares) == period.idle_uj
    for place, share in enumerate(shares):
        path = prove_share(shares, place)
        check_share(period, share, place, path)
        for other in (replace(share, idle_uj=share.idle_uj + 1), replace(share, hash="0" * 64)):
            with pytest.raises(ProofError):
                check_share(period, other, place, path)
