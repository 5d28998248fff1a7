from __future__ import annotations

import pytest

from steppe.errors import UsageError
from steppe.grid.plan.settle import ImbalancePrice, amount_of, settled

PRICE = ImbalancePrice(short=90_000_000, long=30_000_000)


def test_what_is_drawn_beyond_the_position_costs_the_price_of_the_short() -> None:
    (one,) = settled([1_000_000], [1_400_000], [PRICE], 900)
    assert one.imbalance_w == 400_000
    assert one.amount == 9_000_000  # 0.1 MWh at 90


def test_what_is_not_drawn_yields_the_price_of_the_long() -> None:
    (one,) = settled([1_000_000], [600_000], [PRICE], 900)
    assert one.amount == -3_000_000


def test_what_was_drawn_as_bought_costs_nothing_more() -> None:
    assert settled([5, -5], [5, -5], [PRICE, PRICE], 900)[1].amount == 0


def test_a_negative_price_of_the_long_is_paid() -> None:
    (one,) = settled([400_000], [0], [ImbalancePrice(1, -10_000_000)], 900)
    assert one.amount == 1_000_000


def test_amounts_are_rounded_to_the_nearest_millionth() -> None:
    assert amount_of(1, 1, 900) == 0
    assert amount_of(4, 1_000_000, 900) == 1
    assert amount_of(-4, 1_000_000, 900) == -1


def test_series_of_other_lengths_are_refused() -> None:
    with pytest.raises(UsageError, match="found 1, 2 and 1"):
        settled([1], [1, 2], [PRICE], 900)
