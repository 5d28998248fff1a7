"""Units of accounts: their text is exact, and a series ends with its day."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steppe.errors import UsageError
from steppe.ledger.units import (
    MOST,
    amount_of,
    amount_text,
    checked_unit,
    currency_of,
    number_text,
    series_end_us,
    series_of,
)

UNITS = ["CNY", "tokens:large", "tokens:large@2026-12-31", "energy", "quote:q-1", "wh:c-1"]


@given(st.integers(1, MOST), st.sampled_from(UNITS))
def test_an_amount_is_read_back_from_its_text(amount: int, unit: str) -> None:
    assert amount_of(number_text(amount, unit), unit) == amount


@pytest.mark.parametrize(
    ("amount", "unit", "text"),
    [
        (250_000_000, "CNY", "0.25 CNY"),
        (-9_900_000_001, "CNY", "-9.900000001 CNY"),
        (7_000_000_000, "tokens:large@2026-12-31", "7 tokens:large@2026-12-31"),
        (1_500_000_000, "energy", "1.5 J"),
        (12, "quote:q-1", "12 quote:q-1"),
        (0, "CNY", "0 CNY"),
    ],
)
def test_an_amount_is_shown_with_its_unit(amount: int, unit: str, text: str) -> None:
    assert amount_text(amount, unit) == text


@pytest.mark.parametrize(
    "text", ["0", "-1", "1e-10", "x", "", "nan", "inf", "1e30", "9223372036.9"]
)
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="amount: asked for a number above 0 of CNY, 9 decimals"):
        amount_of(text, "CNY")


def test_a_series_ends_with_its_day() -> None:
    unit = series_of("tokens:large", date(2026, 12, 31))
    assert (unit, currency_of(unit)) == ("tokens:large@2026-12-31", "tokens:large")
    end_us = series_end_us(unit)
    assert end_us is not None
    assert datetime.fromtimestamp(end_us / 1e6, UTC) == datetime(2027, 1, 1, tzinfo=UTC)
    assert series_end_us("tokens:large") is None
    assert series_end_us("tokens:large@2026-02-30") is None


@pytest.mark.parametrize(
    "unit",
    ["cny", "tokens:", "tokens:Large", "tokens:a@2026-13-01", "quote:q", "CNY@2026-01-01", ""],
)
def test_what_no_tenant_can_pay_with_is_no_unit(unit: str) -> None:
    with pytest.raises(UsageError, match="unit: asked for three capital letters, tokens:NAME"):
        checked_unit(unit)


@pytest.mark.parametrize("unit", ["CNY", "tokens:large-2.5", "tokens:a@2026-01-31", "energy"])
def test_units_that_tenants_pay_with(unit: str) -> None:
    assert checked_unit(unit) == unit
