"""Corrections: differences that make a receipt right, and never dearer."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fixtures.ledger import PRICES, make_receipt

from steppe.errors import UsageError
from steppe.ledger.audit.book_audit import BookAudit
from steppe.ledger.corrections import Right, Written, correction_of, standing
from steppe.ledger.receipt import Receipt

FIRST = make_receipt(1)
NEXT = Written("c1", 2, FIRST.hour + 1)


def test_a_correction_is_the_difference_to_what_is_right() -> None:
    made = correction_of(FIRST, [], Right(output_tokens=11, energy_uj=1_000_000), PRICES, NEXT)
    assert (made.corrects, made.seq, made.hour, made.tenant) == (FIRST.id, 2, NEXT.hour, "uni")
    assert (made.output_tokens, made.prompt_tokens) == (11 - FIRST.output_tokens, 0)
    assert made.energy_uj == 1_000_000 - FIRST.energy_uj
    right = standing(FIRST, [made])
    assert (right.output_tokens, right.amount_nano) == (11, PRICES.price_nano(right))


def test_a_second_correction_begins_where_the_first_one_ended() -> None:
    one = correction_of(FIRST, [], Right(output_tokens=20), PRICES, NEXT)
    two = correction_of(FIRST, [one], Right(output_tokens=0), PRICES, Written("c2", 3, NEXT.hour))
    assert two.output_tokens == -20
    assert standing(FIRST, [one, two]).output_tokens == 0


def test_money_alone_can_be_given_back() -> None:
    made = correction_of(FIRST, [], Right(amount_nano=0), PRICES, NEXT)
    assert (made.amount_nano, made.output_tokens, made.energy_uj) == (-FIRST.amount_nano, 0, 0)


@pytest.mark.parametrize(
    ("right", "said"),
    [
        (Right(), "found nothing to correct"),
        (Right(output_tokens=FIRST.output_tokens), "found nothing to correct"),
        (Right(output_tokens=-1), "output_tokens: asked for -1"),
        (Right(output_tokens=99), "a correction gives money back"),
        (Right(amount_nano=FIRST.amount_nano + 1), "a correction gives money back"),
        (Right(prompt_tokens=3), "asked for 4 cached tokens, found a prompt of 3"),
    ],
)
def test_what_is_no_correction_is_refused(right: Right, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        correction_of(FIRST, [], right, PRICES, NEXT)


def test_a_correction_is_not_corrected() -> None:
    one = replace(FIRST, corrects="x")
    with pytest.raises(UsageError, match="found the correction of x"):
        correction_of(one, [], Right(output_tokens=1), PRICES, NEXT)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, FIRST.output_tokens), min_size=1, max_size=4, unique=True))
def test_the_audit_takes_any_falling_row_of_corrections(counts: list[int]) -> None:
    made = list[Receipt]()
    for number, count in enumerate(sorted(counts, reverse=True), start=2):
        written = Written(f"c{number}", number, FIRST.hour)
        if count < FIRST.output_tokens:
            made.append(correction_of(FIRST, made, Right(output_tokens=count), PRICES, written))
    rows = [replace(one, seq=number) for number, one in enumerate(made, start=FIRST.seq + 1)]
    entries = [PRICES.entry, FIRST.entry, *(one.entry for one in rows)]
    books = BookAudit(lambda place: entries[place])
    for place, entry in enumerate(entries):
        books.take(place, entry)
    assert books.faults == []
