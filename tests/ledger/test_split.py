"""A number split by weights: exact, and within one of the exact parts."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from steppe.ledger.split import split


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
