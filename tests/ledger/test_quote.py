"""Quotes: an offer is honoured for its model, in its window, up to its tokens, at its rate."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.ledger.test_receipt import RECEIPT
from tests.ledger.test_tariff import TARIFF

from steppe.errors import UsageError
from steppe.ledger.quote import Quote, QuoteError, QuoteRequest, quoted
from steppe.ledger.receipt import canonical
from steppe.ledger.signing import PrivateKey, SignatureError
from steppe.ledger.tariff import NoRateError

START_US = RECEIPT.started_us
ASKED = QuoteRequest(
    "q-1", "lab", "smollm2-135m", "standard", 100, START_US - 5, START_US + 3_600_000_000
)
QUOTE = quoted(ASKED, TARIFF, "normal")
KEY = PrivateKey("example.org/hohhot", bytes(range(32)))
RECEIVED = replace(RECEIPT, tariff=QUOTE.tariff, currency="CNY")


def test_a_quote_fixes_the_rate_at_the_start_of_its_window() -> None:
    assert QUOTE.tariff == "tou-1/1"  # 23:59 by the tariff's offset
    later = replace(ASKED, from_us=START_US + 8 * 3_600_000_000, until_us=2**60)
    assert quoted(later, TARIFF, "normal").tariff == "tou-1/2"


def test_a_quote_is_read_back_from_its_bytes() -> None:
    assert Quote.read(QUOTE.entry) == QUOTE


def test_a_receipt_costs_what_the_quoted_rate_says_also_when_another_one_holds() -> None:
    # at noon the third rate would hold; 12 tokens of the prompt, 4 of them cached, 30 generated
    quote = replace(QUOTE, until_us=START_US + 10**12)
    noon = replace(RECEIVED, started_us=START_US + 12 * 3_600_000_000)
    assert quote.price_nano(noon, TARIFF, 0) == 8 * 50 + 30 * 200
    assert TARIFF.price_nano(noon) == quote.price_nano(noon, TARIFF, 58)


def test_a_correction_is_priced_as_a_difference() -> None:
    correction = replace(
        RECEIVED, corrects="4f0c", prompt_tokens=0, cached_tokens=0, output_tokens=-10
    )
    assert QUOTE.price_nano(replace(correction, energy_uj=0), TARIFF, 100) == -2_000


@pytest.mark.parametrize(
    ("changes", "used", "found"),
    [
        ({"model": "other"}, 0, "quote q-1: asked for model other, found smollm2-135m"),
        ({"priority": "deferrable"}, 0, "asked for class deferrable, found standard"),
        ({"tenant": "else"}, 0, "asked for tenant else, found lab"),
        ({"tariff": "tou-1/2"}, 0, "asked for rate tou-1/2, found tou-1/1"),
        ({"tariff": ""}, 0, "asked for rate none, found tou-1/1"),
        ({"started_us": START_US - 6}, 0, f"asked at {START_US - 6}, it begins at {START_US - 5}"),
        ({"started_us": ASKED.until_us}, 0, f"asked at .*, it expired at {ASKED.until_us}"),
        ({}, 59, "asked for 42 tokens, found 41 of 100 left"),
        ({}, 101, "asked for 42 tokens, found 0 of 100 left"),
    ],
)
def test_a_receipt_that_a_quote_is_not_for_is_refused_in_one_line(
    changes: dict[str, Any], used: int, found: str
) -> None:
    with pytest.raises(QuoteError, match=found):
        QUOTE.price_nano(replace(RECEIVED, **changes), TARIFF, used)


def test_a_tariff_of_another_currency_or_id_has_no_price() -> None:
    with pytest.raises(QuoteError, match="asked for currency EUR, found CNY"):
        QUOTE.price_nano(RECEIVED, replace(TARIFF, currency="EUR"), 0)
    with pytest.raises(NoRateError, match="tariff tou-2: asked for 'tou-1/1'"):
        QUOTE.price_nano(RECEIVED, replace(TARIFF, id="tou-2"), 0)


@settings(max_examples=50)
@given(st.lists(st.integers(0, 60), max_size=12))
def test_admitted_requests_never_take_more_than_the_quote(asked: list[int]) -> None:
    used = 0
    for tokens in asked:
        fits = used + tokens <= QUOTE.tokens
        if fits:
            QUOTE.check_use("smollm2-135m", "standard", tokens, used, START_US)
            used += tokens
        else:
            with pytest.raises(QuoteError, match=f"asked for {tokens} tokens"):
                QUOTE.check_use("smollm2-135m", "standard", tokens, used, START_US)
    assert used <= QUOTE.tokens


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"tokens": 0}, "quote q-1: asked for at least 1 token, found 0"),
        ({"until_us": ASKED.from_us}, "asked for a window, found"),
        ({"model": "other"}, "asked for a rate of other, standard, normal at hour 23, found none"),
        ({"from_us": -1}, "asked for a window from -1, found tariff tou-1 from 0"),
    ],
)
def test_an_offer_that_cannot_be_made_is_refused(changes: dict[str, Any], found: str) -> None:
    with pytest.raises(UsageError, match=found):
        quoted(replace(ASKED, **changes), TARIFF, "normal")


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"kind": "tariff"}, "found 'tariff'"),
        ({"colour": 1}, "found colour amiss"),
        ({"tokens": "7"}, "quote.tokens: asked for int, found '7'"),
        ({"model": 7}, "quote.model: asked for str, found 7"),
        ({"tokens": -7}, "asked for at least 1 token"),
    ],
)
def test_other_bytes_are_no_quote(changes: dict[str, Any], found: str) -> None:
    with pytest.raises(UsageError, match=found):
        Quote.read(canonical(orjson.loads(QUOTE.entry) | changes))


def test_a_signed_offer_is_read_with_the_key_of_the_operator() -> None:
    assert Quote.of_note(QUOTE.signed([KEY]).whole, [KEY.public]) == QUOTE


@settings(max_examples=60)
@given(st.integers(0, len(QUOTE.entry) - 1))
def test_an_offer_with_a_changed_byte_is_refused(place: int) -> None:
    note = QUOTE.signed([KEY]).whole
    other = note[:place] + chr(ord(note[place]) ^ 1) + note[place + 1 :]
    with pytest.raises(SignatureError, match=r"signature: that of example.org/hohhot does not fit"):
        Quote.of_note(other, [KEY.public])


def test_an_offer_of_another_key_is_refused() -> None:
    other = PrivateKey("example.org/baotou", bytes(32))
    with pytest.raises(SignatureError, match=r"asked for one of example.org/hohhot"):
        Quote.of_note(QUOTE.signed([other]).whole, [KEY.public])
