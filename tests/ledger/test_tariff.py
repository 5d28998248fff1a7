"""Tariffs: which rate holds, and what a request costs."""

from __future__ import annotations

from dataclasses import asdict, replace
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.ledger.test_receipt import RECEIPT

from steppe.errors import UsageError
from steppe.ledger.tariff import NoRateError, Rate, Tariff, divided, tariff_of

HOUR_US = 3_600_000_000
TARIFF = Tariff(
    "tou-1",
    "CNY",
    0,
    8,
    (
        Rate("smollm2-135m", "deferrable", "surplus", prompt_nano=10, output_nano=40),
        Rate("smollm2-135m", from_hour=22, to_hour=6, prompt_nano=50, output_nano=200),
        Rate("smollm2-135m", prompt_nano=100, cached_nano=10, output_nano=400, joule_nano=7),
    ),
)


def test_a_tariff_is_read_back_from_its_bytes() -> None:
    assert Tariff.read(TARIFF.entry) == TARIFF


@pytest.mark.parametrize(
    ("asked", "hour_utc", "rate"),
    [
        (("deferrable", "surplus"), 4, 0),
        (("deferrable", "normal"), 4, 2),
        (("standard", "surplus"), 4, 2),
        (("standard", "normal"), 13, 2),  # 21:00 by its offset
        (("standard", "normal"), 14, 1),
        (("standard", "normal"), 21, 1),
        (("standard", "normal"), 22, 2),
    ],
)
def test_the_first_rate_that_fits_holds(asked: tuple[str, str], hour_utc: int, rate: int) -> None:
    assert TARIFF.rate_of("smollm2-135m", *asked, hour_utc * HOUR_US) == rate


def test_a_model_without_a_rate_is_refused() -> None:
    with pytest.raises(NoRateError, match="asked for a rate of other, standard, normal at hour 8"):
        TARIFF.rate_of("other", "standard", "normal", 0)


def test_a_receipt_costs_its_tokens_and_joules_at_the_rate_it_names() -> None:
    receipt = replace(RECEIPT, tariff=TARIFF.name_of(2))
    # 8 computed, 4 cached, 30 generated; 1.234567 J at 7
    assert TARIFF.price_nano(receipt) == 8 * 100 + 4 * 10 + 30 * 400 + 9


@pytest.mark.parametrize("tariff", ["", "tou-1", "tou-1/3", "tou-2/0", "tou-1/-1", "tou-1/x"])
def test_a_rate_that_a_tariff_lacks_has_no_price(tariff: str) -> None:
    with pytest.raises(NoRateError, match="found no such rate"):
        TARIFF.price_nano(replace(RECEIPT, tariff=tariff))


def test_a_rate_of_another_class_has_no_price() -> None:
    with pytest.raises(NoRateError, match="found it for smollm2-135m, deferrable"):
        TARIFF.price_nano(replace(RECEIPT, tariff="tou-1/0"))


@given(st.integers(-(10**9), 10**9), st.integers(1, 10**6))
def test_a_quotient_is_rounded_half_to_even(amount: int, by: int) -> None:
    assert divided(amount, by) == round(Fraction(amount, by))


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"id": "a b"}, "tariff.id: asked for letters"),
        ({"currency": "cny"}, "currency: asked for .* tokens:NAME or energy, found 'cny'"),
        ({"currency": "tokens:"}, "tokens:NAME or energy, found 'tokens:'"),
        ({"currency": "tokens:large@2026-12-31"}, "tokens:NAME or energy, found 'tokens:large@"),
        ({"valid_from_us": -1}, "tariff.valid_from_us: asked for an integer of 0"),
        ({"utc_offset_hours": 15}, "utc_offset_hours: asked for an integer of -12 to 14, found 15"),
        ({"rates": []}, "tariff.rates: asked for a list"),
        ({"rates": [{"model": 3}]}, r"rates\[0\].model: asked for text, found 3"),
        ({"rates": [{"band": "green"}]}, "band: asked for surplus or normal, found 'green'"),
        ({"rates": [{"output_nano": 0.5}]}, "output_nano: asked for an integer"),
        ({"rates": [{"colour": 1}]}, "missing or unknown: colour"),
        ({"colour": 1}, "tariff: asked for .* missing or unknown: colour"),
    ],
)
def test_a_wrong_tariff_is_refused_in_one_line(changes: dict[str, Any], found: str) -> None:
    with pytest.raises(UsageError, match=found):
        tariff_of(asdict(TARIFF) | changes)
