"""Packages, transfers and quotes: what is bought can be used, given away, and runs out."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.ledger.store.test_admission import (
    ASKED,
    DAY_US,
    MONEY,
    MOST,
    NANO,
    NOON_US,
    RULES,
    admit,
    balance,
)

from steppe.errors import UsageError
from steppe.ledger.admission import AdmissionTerms, Refusal
from steppe.ledger.entries import available, deposited, granted, held
from steppe.ledger.quote import Quote
from steppe.ledger.store.ledger_store import ConflictError, LedgerStore, LogEntry, TooLowError
from steppe.ledger.tariff import Rate
from steppe.ledger.trades import Package, Transfer

SERIES = "tokens:large@2026-01-31"
END_US = NOON_US + 31 * DAY_US - DAY_US // 2
PACKAGE = Package("p1", "lab", SERIES, 1_000 * NANO, "CNY", 9 * NANO)
CHEAP = replace(MONEY, id="cny-0", rates=(Rate(prompt_nano=10, output_nano=40),))
QUOTE = Quote("q-1", "lab", "large", "standard", 50, NOON_US, NOON_US + DAY_US, "cny-0/0", "CNY")
UNIT = "quote:q-1"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LedgerStore]:
    opened = LedgerStore(str(tmp_path / "ledger.sqlite"))
    opened.move([deposited("d1", "lab", "CNY", 10 * NANO)], 1)
    opened.add([LogEntry("tariff", CHEAP.id, "", 1, CHEAP.entry)])
    yield opened
    assert opened.audit() == []
    opened.close()


def test_a_package_is_bought_once_and_used_before_money(store: LedgerStore) -> None:
    for expected in (True, False):
        assert store.trade(PACKAGE, NOON_US) is expected
    assert balance(store, available("lab"), "CNY") == NANO
    assert admit(store) == AdmissionTerms("large-1/0", "tokens:large", 30 * NANO, 970 * NANO)
    with pytest.raises(ConflictError, match="package p1: asked to log it, found other bytes"):
        store.trade(replace(PACKAGE, amount=999 * NANO), NOON_US)
    with pytest.raises(TooLowError, match="asked for 9 CNY, found 1 free"):
        store.trade(replace(PACKAGE, id="p2"), NOON_US)


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"currency": "tokens:small"}, "asked for a price in money, found tokens:small"),
        ({"unit": "tokens:large@2025-12-31"}, "found their day over"),
        ({"price": 0}, "purchase p1: asked to move 0 CNY"),
    ],
)
def test_a_package_that_cannot_be_sold_is_refused(
    store: LedgerStore, changes: dict[str, Any], found: str
) -> None:
    with pytest.raises(UsageError, match=found):
        store.trade(replace(PACKAGE, **changes), NOON_US)
    assert balance(store, available("lab"), "CNY") == 10 * NANO


def test_tokens_change_hands_and_are_used_by_their_new_owner(store: LedgerStore) -> None:
    store.trade(PACKAGE, NOON_US)
    store.trade(Transfer("t1", "lab", "school", SERIES, 40 * NANO), NOON_US)
    school = replace(ASKED, tenant="school")
    assert admit(store, school) == AdmissionTerms("large-1/0", "tokens:large", 30 * NANO, 10 * NANO)
    with pytest.raises(TooLowError, match="asked for 11 tokens:large@2026-01-31, found 10 free"):
        store.trade(Transfer("t2", "school", "lab", SERIES, 11 * NANO), NOON_US)


def test_purchases_and_transfers_are_entries_of_the_log_that_the_audit_compares(
    store: LedgerStore, tmp_path: Path
) -> None:
    given = Transfer("t1", "lab", "school", SERIES, 40 * NANO)
    store.trade(PACKAGE, NOON_US)
    store.trade(given, NOON_US)
    assert store.entries(1) == [PACKAGE.entry, given.entry]
    assert Package.read(PACKAGE.entry) == PACKAGE
    assert Transfer.read(given.entry) == given
    with pytest.raises(UsageError, match="transfer: asked for version 1 of it, found 'package'"):
        Transfer.read(PACKAGE.entry)
    more = replace(given, amount=given.amount + 1).entry
    with sqlite3.connect(tmp_path / "ledger.sqlite") as connection:
        where = "WHERE kind = 'transfer'"
        connection.execute(f"UPDATE steppe_ledger_entries SET bytes = ? {where}", (more,))
    assert store.audit() == ["transfer t1: asked for its movements, found others"]
    with sqlite3.connect(tmp_path / "ledger.sqlite") as connection:
        connection.execute(f"UPDATE steppe_ledger_entries SET bytes = ? {where}", (given.entry,))
    connection.close()


def test_what_runs_out_is_taken_once_and_what_is_held_then_when_it_is_given_back(
    store: LedgerStore,
) -> None:
    store.trade(PACKAGE, NOON_US)
    admit(store, at=END_US - 1)
    assert store.expire_packages(END_US - 1) == 0
    assert store.expire_packages(END_US) == 1
    assert store.expire_packages(END_US) == 0
    assert (balance(store, available("lab"), SERIES), balance(store, held("lab"), SERIES)) == (
        0,
        30 * NANO,
    )
    store.end_request("r1", 12 * NANO, [], END_US)
    assert balance(store, "revenue", SERIES) == 12 * NANO
    assert store.expire_packages(END_US) == 1
    assert balance(store, available("lab"), SERIES) == 0
    assert balance(store, "expired", SERIES) == 988 * NANO


def test_a_quote_is_honoured_at_its_rate_until_its_tokens_are_used(store: LedgerStore) -> None:
    for expected in (True, False):
        assert store.issue_quote(QUOTE, NOON_US) is expected
    asked = replace(ASKED, quote="q-1")
    assert admit(store, asked) == AdmissionTerms("cny-0/0", "CNY", 900, 10 * NANO - 900)
    assert balance(store, available("lab"), UNIT) == 20
    assert admit(store, replace(asked, request="r2")) == Refusal(
        "invalid_quote", "quote q-1: asked for 30 tokens, found 20 of 50 left", 20
    )
    store.end_request("r1", 10 * 10 + 5 * 40, [], NOON_US, tokens=15)
    assert balance(store, available("lab"), UNIT) == 35
    assert balance(store, available("lab"), "CNY") == 10 * NANO - 300
    again = admit(store, replace(asked, request="r2"))
    assert isinstance(again, AdmissionTerms)
    assert store.give_back("r2", NOON_US)
    assert balance(store, available("lab"), UNIT) == 35
    assert store.expire_packages(QUOTE.until_us) == 1
    assert admit(store, replace(asked, request="r3"), at=QUOTE.until_us) == Refusal(
        "invalid_quote",
        f"quote q-1: asked at {QUOTE.until_us}, it expired at {QUOTE.until_us}",
        0,
    )


def test_a_quote_needs_no_account_where_none_is_needed(store: LedgerStore) -> None:
    store.issue_quote(replace(QUOTE, tenant="new"), NOON_US)
    asked = replace(ASKED, tenant="new", quote="q-1")
    terms = AdmissionTerms("cny-0/0", "CNY", 0, None)
    assert admit(store, asked) == terms
    assert admit(store, asked) == terms  # the same request again takes no more of it
    assert balance(store, available("new"), UNIT) == 20
    needed = admit(
        store, replace(asked, request="r2", max_tokens=1), replace(RULES, needs_account=True)
    )
    assert needed == Refusal("no_account", "new: asked for an account of CNY, found none")


def test_a_quote_of_another_tenant_or_of_an_unknown_id_is_none(store: LedgerStore) -> None:
    store.issue_quote(QUOTE, NOON_US)
    for quote, tenant in (("q-2", "lab"), ("q-1", "school")):
        found = admit(store, replace(ASKED, quote=quote, tenant=tenant))
        assert isinstance(found, Refusal)
        assert found.code == "invalid_quote"
        assert found.message.endswith("asked for it, found none of this id")
    with pytest.raises(UsageError, match="asked for tariff cny-9, found none in the log"):
        store.issue_quote(replace(QUOTE, id="q-3", tariff="cny-9/0"), NOON_US)
    with pytest.raises(ConflictError, match="quote q-1: asked to log it, found other bytes"):
        store.issue_quote(replace(QUOTE, tokens=60), NOON_US)


def test_a_series_that_has_no_tokens_left_is_passed_over(store: LedgerStore) -> None:
    for day in range(1, 32):
        unit = f"tokens:large@2026-03-{day:02}"
        store.move([granted(f"g{day}", "lab", unit, NANO)], 1)
    asked = replace(ASKED, prompt_tokens=1, max_tokens=30)
    assert admit(store, asked) == AdmissionTerms("large-1/0", "tokens:large", 31 * NANO, 0)
    store.end_request("r1", 20 * NANO, [], NOON_US)
    again = replace(asked, request="r2", max_tokens=10)
    assert admit(store, again) == AdmissionTerms("large-1/0", "tokens:large", 11 * NANO, 0)
    assert len(store.balances(held("lab"))) == 31
    money = admit(store, replace(asked, request="r3"))
    assert isinstance(money, AdmissionTerms)
    assert money.held == 1_000 + 30 * 4_000
    assert money.held > MOST
