"""Numbers whose least one is found without a look at each of them."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steppe.control.least import BLOCK, LeastOf

FEW = st.sampled_from([0.0, 1.0, 2.0, inf])  # few, so that there are ties


def first_least(values: list[float], start: int) -> int:
    """Look at each."""
    least = min(values)
    return values.index(least, start) if least in values[start:] else values.index(least)


@given(
    st.lists(FEW, min_size=1, max_size=3 * BLOCK),
    st.lists(st.tuples(st.integers(0, 3 * BLOCK - 1), FEW, st.integers(0, 3 * BLOCK))),
)
def test_the_first_least_number_is_the_one_that_a_look_at_each_finds(
    values: list[float], changes: list[tuple[int, float, int]]
) -> None:
    numbers, plain = LeastOf(values), list(values)
    for index, value, start in [(0, values[0], 0), *changes]:
        numbers.set(index % len(plain), value)
        plain[index % len(plain)] = value
        assert numbers.values == plain
        assert numbers.least == min(plain)
        assert numbers.first_least(start) == first_least(plain, start)


def test_without_a_number_the_least_is_infinite() -> None:
    assert LeastOf([]).least == inf


@pytest.mark.parametrize("start", [0, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 5 * BLOCK])
def test_ties_are_found_from_the_start_on_and_then_from_the_begin(start: int) -> None:
    numbers = LeastOf([1.0] * (2 * BLOCK))
    assert numbers.first_least(start) == (start if start < 2 * BLOCK else 0)
