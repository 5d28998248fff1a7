"""Receipts as CloudEvents."""

from __future__ import annotations

from dataclasses import asdict, replace

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.ledger.test_receipt import RECEIPT, any_receipt

from steppe.ledger.receipt import Receipt
from steppe.ledger.statements.events import batch_of, event_of

TIMES = st.integers(0, 4 * 10**15)


def test_the_event_of_a_receipt() -> None:
    event = orjson.loads(event_of(RECEIPT))
    assert event.pop("data") == asdict(RECEIPT)
    assert event == {
        "specversion": "1.0",
        "id": "4f0c",
        "source": "/steppe/sites/hohhot",
        "subject": "lab",
        "type": "steppe.receipt",
        "time": "2025-11-24T16:00:01.000000Z",
        "datacontenttype": "application/json",
    }


@settings(max_examples=40)
@given(any_receipt(), TIMES)
def test_the_same_receipt_is_the_same_event(receipt: Receipt, ended_us: int) -> None:
    one = replace(receipt, ended_us=ended_us)
    again = Receipt.read(one.entry)
    assert event_of(again) == event_of(one)
    assert Receipt(**orjson.loads(event_of(one))["data"]) == one


def test_the_source_is_a_uri_whatever_the_site_is_called() -> None:
    event = orjson.loads(event_of(replace(RECEIPT, site="a b/c?d")))
    assert event["source"] == "/steppe/sites/a%20b%2Fc%3Fd"


def test_a_receipt_without_a_tenant_has_no_subject() -> None:
    assert "subject" not in orjson.loads(event_of(replace(RECEIPT, tenant="")))


def test_a_batch_is_the_array_of_its_events() -> None:
    other = replace(RECEIPT, id="4f0d")
    assert orjson.loads(batch_of([RECEIPT, other])) == [
        orjson.loads(event_of(one)) for one in (RECEIPT, other)
    ]
    assert batch_of([]) == b"[]"
