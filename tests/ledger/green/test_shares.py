"""Shares by the largest remainder method."""

from __future__ import annotations

from fractions import Fraction
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steppe.errors import UsageError
from steppe.ledger.green.shares import shared

WEIGHTS = st.dictionaries(st.text("abc", min_size=1, max_size=3), st.integers(0, 10**15))


@settings(max_examples=40)
@given(WEIGHTS, st.integers(0, 10**16))
def test_shares_sum_to_the_total_and_are_off_by_less_than_one(
    weights: dict[str, int], total: int
) -> None:
    weights["some"] = 1
    shares, whole = shared(total, weights), sum(weights.values())
    assert list(shares) == list(weights)
    assert sum(shares.values()) == total
    for key, weight in weights.items():
        assert abs(shares[key] - Fraction(total * weight, whole)) < 1


@settings(max_examples=40)
@given(WEIGHTS, st.data())
def test_a_share_is_never_above_its_weight(weights: dict[str, int], data: st.DataObject) -> None:
    total = data.draw(st.integers(0, sum(weights.values())))
    assert all(share <= weights[key] for key, share in shared(total, weights).items())


@settings(max_examples=40)
@given(WEIGHTS, st.integers(0, 10**16), st.randoms(use_true_random=False))
def test_the_order_of_the_keys_changes_nothing(
    weights: dict[str, int], total: int, chance: Random
) -> None:
    weights["some"] = 1
    keys = list(weights)
    chance.shuffle(keys)
    assert shared(total, {key: weights[key] for key in keys}) == shared(total, weights)


def test_equal_remainders_go_to_the_first_names() -> None:
    assert shared(5, {"c": 1, "a": 1, "b": 1}) == {"a": 2, "b": 2, "c": 1}


def test_nothing_is_shared_by_no_weight() -> None:
    assert shared(0, {"a": 0}) == {"a": 0}
    with pytest.raises(UsageError, match="asked to share 3, found no weight above 0"):
        shared(3, {"a": 0})


@pytest.mark.parametrize(("total", "weight"), [(-1, 1), (1, -1)])
def test_amounts_below_zero_are_refused(total: int, weight: int) -> None:
    with pytest.raises(UsageError, match="at least 0"):
        shared(total, {"a": weight, "b": 5})
