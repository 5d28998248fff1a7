"""Corrections: a receipt and its money change together, and no more comes back than was paid."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.ledger.store.test_admission import (
    ASKED,
    DAY_US,
    MONEY,
    NANO,
    NOON_US,
    admit,
    balance,
)
from tests.ledger.test_receipt import RECEIPT

from steppe.errors import UsageError
from steppe.ledger.admission import Payer
from steppe.ledger.entries import available, deposited, granted
from steppe.ledger.quote import Quote
from steppe.ledger.receipt import Receipt
from steppe.ledger.store.ledger_store import ConflictError, LedgerStore, LogEntry, TooLowError

PAID = replace(
    RECEIPT, id="r1", model="large", tariff="cny-1/0", currency="CNY", amount_nano=50_000
)
BACK = replace(PAID, id="c1", seq=8, corrects="r1", output_tokens=-5, amount_nano=-20_000)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LedgerStore]:
    opened = LedgerStore(str(tmp_path / "ledger.sqlite"))
    opened.move([deposited("d1", "lab", "CNY", NANO)], 1)
    yield opened
    assert opened.audit() == []
    opened.close()


def end(store: LedgerStore, receipt: Receipt = PAID) -> None:
    entry = LogEntry("receipt", receipt.id, receipt.tenant, NOON_US, receipt.entry)
    store.end_request(receipt.id, receipt.amount_nano, [entry], NOON_US)


def test_what_was_paid_comes_back_once_and_never_more_than_that(store: LedgerStore) -> None:
    admit(store)
    end(store)
    assert [each.amount for each in store.correct(BACK, NOON_US)] == [20_000]
    assert store.correct(BACK, NOON_US) == ()
    assert balance(store, available("lab"), "CNY") == NANO - 30_000
    more = replace(BACK, id="c2", amount_nano=-40_000)
    assert [each.amount for each in store.correct(more, NOON_US)] == [30_000]
    assert store.correct(replace(BACK, id="c3"), NOON_US) == []
    assert balance(store, available("lab"), "CNY") == NANO
    assert balance(store, "revenue", "CNY") == 0
    assert store.size() == 4
    assert store.entries(1, 1) == [BACK.entry]


def test_what_was_charged_without_a_hold_comes_back_too(store: LedgerStore) -> None:
    admit(store)
    paid = replace(PAID, amount_nano=200_000)
    entry = LogEntry("receipt", "r1", "lab", NOON_US, paid.entry)
    store.end_request("r1", 200_000, [entry], NOON_US, payer=Payer("lab", "CNY"))
    assert balance(store, available("lab"), "CNY") == NANO - 200_000
    back = store.correct(replace(BACK, amount_nano=-200_000), NOON_US)
    assert [each.amount for each in back] == [110_000, 90_000]


def test_what_was_too_little_is_charged_and_comes_back_too(store: LedgerStore) -> None:
    admit(store)
    end(store)
    more = replace(BACK, id="c1", amount_nano=7)
    assert [each.amount for each in store.correct(more, NOON_US)] == [7]
    with pytest.raises(TooLowError, match=r"asked for 1 CNY, found 0.999949993 free"):
        store.correct(replace(BACK, id="c2", amount_nano=NANO), NOON_US)
    assert store.size() == 2
    back = store.correct(replace(BACK, id="c3", amount_nano=-50_007), NOON_US)
    assert [each.amount for each in back] == [7, 50_000]
    assert balance(store, available("lab"), "CNY") == NANO


def test_tokens_go_back_to_their_series_or_to_tokens_without_an_end(store: LedgerStore) -> None:
    soon, late = "tokens:large@2026-01-01", "tokens:large@2026-03-01"
    for unit in (soon, late):
        store.move([granted(unit, "lab", unit, 20 * NANO)], 1)
    admit(store)
    paid = replace(PAID, tariff="large-1/0", currency="tokens:large", amount_nano=28 * NANO)
    end(store, paid)
    back = replace(paid, id="c1", corrects="r1", amount_nano=-3 * NANO)
    assert [each.unit for each in store.correct(back, NOON_US)] == [late]
    later = store.correct(replace(back, id="c2", amount_nano=-10 * NANO), NOON_US + DAY_US)
    assert [(each.unit, each.amount // NANO) for each in later] == [(late, 5), ("tokens:large", 5)]


def test_a_tenant_without_an_account_gets_its_correction_on_the_statement(
    store: LedgerStore,
) -> None:
    for receipt in (PAID, BACK):
        entry = replace(receipt, tenant="new")
        if receipt.corrects:
            assert store.correct(entry, NOON_US) == []
            assert store.correct(replace(entry, id="c2", amount_nano=5), NOON_US) == []
        else:
            end(store, entry)
    assert store.size() == 3


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"corrects": "r9"}, "asked to correct r9, found no such receipt"),
        ({"corrects": ""}, "asked to correct none, found no such receipt"),
        ({"corrects": "c1", "id": "c2"}, "asked to correct c1, found a correction"),
        ({"id": "c2", "tenant": "school"}, "of tenant school, found lab"),
        ({"id": "c2", "tariff": "cny-1/1"}, "of tariff cny-1/1, found cny-1/0"),
        ({"id": "c2", "currency": "EUR"}, "of currency EUR, found CNY"),
    ],
)
def test_a_correction_of_something_else_is_refused(
    store: LedgerStore, changes: dict[str, Any], found: str
) -> None:
    admit(store)
    end(store)
    store.correct(BACK, NOON_US)
    with pytest.raises(UsageError, match=found):
        store.correct(replace(BACK, **changes), NOON_US)
    with pytest.raises(ConflictError, match="receipt c1: asked to log it, found other bytes"):
        store.correct(replace(BACK, amount_nano=-1), NOON_US)


def test_a_request_under_a_quote_gets_its_money_back_and_not_its_tokens(
    store: LedgerStore,
) -> None:
    store.add([LogEntry("tariff", MONEY.id, "", 1, MONEY.entry)])
    until_us = NOON_US + DAY_US
    store.issue_quote(
        Quote("q", "lab", "large", "standard", 90, NOON_US, until_us, "cny-1/0", "CNY"), NOON_US
    )
    admit(store, replace(ASKED, quote="q"))
    store.end_request("r1", 50_000, [LogEntry("receipt", "r1", "lab", 1, PAID.entry)], 2, tokens=25)
    assert [each.unit for each in store.correct(replace(BACK, amount_nano=-60_000), 3)] == ["CNY"]
    assert balance(store, available("lab"), "CNY") == NANO
    assert balance(store, available("lab"), "quote:q") == 65
