"""Receipts: their bytes, and what is none."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steppe.errors import UsageError
from steppe.ledger.receipt import Receipt, canonical

RECEIPT = Receipt(
    id="4f0c",
    request="req-1",
    seq=7,
    site="hohhot",
    tenant="lab",
    model="smollm2-135m",
    priority="standard",
    prompt_tokens=12,
    cached_tokens=4,
    output_tokens=30,
    energy_uj=1_234_567,
    energy_source="emulated",
    boundary="gpu",
    hour=490_000,
    started_us=1_764_000_000_000_000,
    ended_us=1_764_000_001_000_000,
    finish="stop",
)
TEXT = st.text(st.characters(codec="ascii"), max_size=20)
WHOLE = st.integers(-(2**63) + 1, 2**63 - 1)


def any_receipt() -> st.SearchStrategy[Receipt]:
    values = {f.name: WHOLE if f.type == "int" else TEXT for f in fields(Receipt)}
    return st.builds(Receipt, **values)


@given(any_receipt())
def test_a_receipt_is_read_back_from_its_bytes(receipt: Receipt) -> None:
    assert Receipt.read(receipt.entry) == receipt


def test_the_bytes_of_a_receipt_have_sorted_keys_and_no_spaces() -> None:
    values = orjson.loads(RECEIPT.entry)
    assert list(values) == sorted(values)
    assert b": " not in RECEIPT.entry
    assert values["kind"] == "receipt"


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"energy_uj": 1.5}, "energy_uj: asked for an integer or ASCII text, found 1.5"),
        ({"tenant": "läb"}, "tenant: asked for an integer or ASCII text"),
        ({"tenant": None}, "tenant: asked for an integer or ASCII text, found None"),
        ({"seq": True}, "seq: asked for an integer"),
        ({"energy_uj": 2**63}, "energy_uj: asked for an integer"),
    ],
)
def test_a_receipt_of_inexact_values_has_no_bytes(changes: dict[str, Any], found: str) -> None:
    with pytest.raises(UsageError, match=found):
        _ = replace(RECEIPT, **changes).entry


def entry(**changes: Any) -> bytes:
    values = orjson.loads(RECEIPT.entry) | changes
    return canonical({name: value for name, value in values.items() if value != "(none)"})


@pytest.mark.parametrize(
    ("bytes_", "found"),
    [
        (b"{", "asked for JSON"),
        (b"[]", "found 'list'"),
        (entry(kind="tariff"), "found 'tariff'"),
        (entry(v=2), "asked for version 1"),
        (entry(tenant="(none)"), "found tenant amiss"),
        (entry(colour="red"), "found colour amiss"),
        (entry(seq="7"), "receipt.seq: asked for int, found '7'"),
        (entry(site=3), "receipt.site: asked for str, found 3"),
        (RECEIPT.entry.replace(b":", b": ", 1), "asked for sorted keys without spaces"),
    ],
)
def test_other_bytes_are_no_receipt(bytes_: bytes, found: str) -> None:
    with pytest.raises(UsageError, match=found):
        Receipt.read(bytes_)
