"""Statements: what the receipts of a month add up to, and how lines are rounded."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.ledger.test_receipt import RECEIPT

from steppe.errors import UsageError
from steppe.ledger.receipt import Receipt
from steppe.ledger.statements.amounts import (
    decimal_text,
    grouped_text,
    in_minor,
    minor_digits,
    minor_nano,
)
from steppe.ledger.statements.focus import focus_csv
from steppe.ledger.statements.month import Month
from steppe.ledger.statements.statement import ReceiptShare, ReceiptSums, statement_of
from steppe.ledger.tree import head_of, leaf_hash

MONTH = Month(2026, 11, 8)
FIRST = MONTH.hours.start


def receipt(number: int, **changes: object) -> Receipt:
    values = {"id": f"r{number}", "seq": number, "hour": FIRST, "currency": "CNY"} | changes
    return replace(RECEIPT, **values)  # type: ignore[arg-type]


@st.composite
def receipts(draw: st.DrawFn) -> list[Receipt]:
    """Draw receipts of several tenants and hours in one currency, some of them corrections."""
    whole, currency = st.integers(0, 10**13), draw(st.sampled_from(["CNY", "JPY", "KWD"]))
    drawn = []
    for number in range(draw(st.integers(0, 12))):
        is_correction = draw(st.integers(0, 3)) == 0
        sign = -1 if is_correction else 1
        changes = {
            "tenant": draw(st.sampled_from(["lab", "lab", "other"])),
            "hour": FIRST + draw(st.integers(-30, 750)),
            "model": draw(st.sampled_from(["a", "b"])),
            "tariff": draw(st.sampled_from(["t/0", "t/1", ""])),
            "corrects": f"r{draw(st.integers(0, 20))}" if is_correction else "",
            "prompt_tokens": sign * draw(whole),
            "energy_uj": sign * draw(whole),
            "green_uj": sign * draw(whole),
            "amount_nano": sign * draw(whole),
            "currency": currency,
        }
        drawn.append(receipt(number, **changes))
    return drawn


@settings(max_examples=60)
@given(receipts())
def test_statement_and_focus_table_add_up_to_the_receipts(found: list[Receipt]) -> None:
    own = [one for one in found if one.tenant == "lab" and one.hour in MONTH.hours]
    statement = statement_of(reversed(found), "lab", MONTH)
    amount = sum(one.amount_nano for one in own)
    minor = minor_nano(statement.currency)
    billed = sum(line.billed_minor for line in statement.lines)
    assert billed * minor + statement.rounding_nano == amount
    assert abs(statement.total_minor * minor - amount) * 2 <= minor
    for name in ReceiptSums.__slots__:
        in_lines = sum(getattr(line.sums, name) for line in statement.lines)
        of_receipts = len(own) if name == "receipts" else sum(getattr(one, name) for one in own)
        assert in_lines == getattr(statement.sums, name) == of_receipts

    rows = list(csv.DictReader(io.StringIO(focus_csv(statement, "Example"))))
    for column in ("BilledCost", "EffectiveCost", "ListCost", "ContractedCost"):
        assert sum(Decimal(row[column]) for row in rows) == Decimal(amount).scaleb(-9)
    for column, uj in (("x_EnergyJoules", "energy_uj"), ("x_GreenJoules", "green_uj")):
        joules = sum(Decimal(row[column] or 0) for row in rows)
        assert joules == Decimal(sum(getattr(one, uj) for one in own)).scaleb(-6)
    assert sum(int(row["x_PromptTokens"] or 0) for row in rows) == statement.sums.prompt_tokens


@settings(max_examples=40)
@given(receipts())
def test_each_line_is_one_model_class_and_rate_or_one_correction(found: list[Receipt]) -> None:
    lines = statement_of(found, "lab", MONTH).lines
    usual = [(x.model, x.priority, x.tariff) for x in lines if x.correction is None]
    assert len(set(usual)) == len(usual)
    corrections = [x.correction.id for x in lines if x.correction is not None]
    own = [one for one in found if one.tenant == "lab" and one.hour in MONTH.hours]
    assert sorted(corrections) == sorted(one.id for one in own if one.corrects)
    assert [x.correction is None for x in lines] == [True] * len(usual) + [False] * len(corrections)


def test_a_line_is_rounded_half_to_even_and_the_rest_is_a_line_of_its_own() -> None:
    found = [
        receipt(0, model="a", amount_nano=25_000_000),
        receipt(1, model="b", amount_nano=15_000_000),
        receipt(2, model="c", amount_nano=5_000_000),
    ]
    statement = statement_of(found, "lab", MONTH)
    assert [line.billed_minor for line in statement.lines] == [2, 2, 0]
    assert (statement.rounding_nano, statement.total_minor) == (5_000_000, 4)


def test_a_correction_is_in_no_hour() -> None:
    found = [receipt(0, hour=FIRST + 2), receipt(1, hour=FIRST + 3, corrects="r0")]
    statement = statement_of(found, "lab", MONTH)
    ((hour, sums),) = statement.hours
    assert (hour, sums.receipts, sums.energy_uj) == (FIRST + 2, 1, found[0].energy_uj)


def test_shares_of_idle_and_green_energy_are_added_and_change_no_root() -> None:
    found = [receipt(0), receipt(1)]
    without = statement_of(found, "lab", MONTH)
    shared = statement_of(found, "lab", MONTH, {"r1": ReceiptShare(idle_uj=5, green_uj=7)})
    assert (shared.sums.idle_uj, shared.sums.green_uj) == (5, 7)
    assert shared.sums.used_uj == without.sums.used_uj + 5
    assert (shared.root, shared.sums.amount_nano) == (without.root, without.sums.amount_nano)


def test_the_root_of_a_line_is_that_of_its_receipts_by_site_and_number() -> None:
    found = [receipt(number, model="ab"[number % 2]) for number in range(5)]
    first, second = statement_of(reversed(found), "lab", MONTH).lines
    for line, own in ((first, found[::2]), (second, found[1::2])):
        assert line.root == head_of([leaf_hash(one.entry) for one in own]).root.hex()


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"id": "r0"}, "asked for each receipt once, found r0 twice"),
        ({"currency": "EUR"}, "asked for one currency, found CNY, EUR"),
        ({"currency": "", "amount_nano": 5}, "found 5 of none in receipt r1"),
    ],
)
def test_receipts_that_make_no_statement_are_refused(
    changes: dict[str, object], found: str
) -> None:
    with pytest.raises(UsageError, match=found):
        statement_of([receipt(0), receipt(1, **changes)], "lab", MONTH)


def test_a_month_without_receipts_is_an_empty_statement() -> None:
    statement = statement_of([receipt(0, tenant="other")], "lab", MONTH)
    assert (statement.lines, statement.currency, statement.rounding_nano) == ((), "XXX", 0)


@pytest.mark.parametrize(
    ("month", "first", "count"),
    [
        (Month(1970, 1), 0, 31 * 24),
        (Month(1970, 2, 8), 31 * 24 - 8, 28 * 24),
        (Month(2026, 12), 498_912, 31 * 24),
        (Month(2028, 2), 509_160, 29 * 24),
    ],
)
def test_the_hours_of_a_month(month: Month, first: int, count: int) -> None:
    assert (month.hours.start, len(month.hours)) == (first, count)


@pytest.mark.parametrize("text", ["2026-13", "2026-00", "2026-1", "1969-12", "nov", "2026-11-01"])
def test_other_text_is_no_month(text: str) -> None:
    with pytest.raises(UsageError, match="asked for one such as 2026-11"):
        Month.read(text)


def test_a_month_is_read_from_its_text() -> None:
    assert Month.read("2026-11", 8) == MONTH
    assert MONTH.text == "2026-11"


@given(st.integers(-(10**20), 10**20), st.sampled_from([0, 2, 6, 9]))
def test_decimal_text_is_exact(amount: int, digits: int) -> None:
    text = decimal_text(amount, digits)
    assert Decimal(text) == Decimal(amount) / 10**digits
    assert grouped_text(amount, digits).replace(",", "") == text


@pytest.mark.parametrize(
    ("currency", "digits"),
    [("CNY", 2), ("JPY", 0), ("KWD", 3), ("tokens:small", 0), ("energy", 6)],
)
def test_an_amount_is_rounded_to_the_minor_unit_of_its_currency(currency: str, digits: int) -> None:
    assert minor_digits(currency) == digits
    assert in_minor(1_500_000_000, currency) == (2 if digits == 0 else 15 * 10 ** (digits - 1))
