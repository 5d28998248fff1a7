"""A snapshot of the store: one state, whatever is committed while it is read."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.fixtures.ledger import PRICES, TENANTS
from tests.fixtures.postgresql import postgresql

from steppe.ledger.entries import deposited
from steppe.ledger.store.ledger_store import LedgerStore, LogEntry


def check_one_state(store: LedgerStore) -> None:
    store.open_account(TENANTS[0], "CNY")
    store.add([LogEntry("note", "1", "", 0, b"1")])
    with store.snapshot() as found:
        assert (list(found.entries()), len(found.balances())) == ([b"1"], 2)
        store.add([LogEntry("note", "2", "", 0, b"2")])
        store.move([deposited("paid", TENANTS[0], PRICES.currency, 5)], 0)
        assert (list(found.entries()), len(found.balances())) == ([b"1"], 2)
        assert found.audit() == []
        assert (found.entry(0), found.find("note", "1"), found.find("note", "2")) == (
            b"1",
            b"1",
            None,
        )
    with store.snapshot() as found:
        assert (list(found.entries()), len(found.balances())) == ([b"1", b"2"], 3)


def test_a_snapshot_of_sqlite_is_one_state(tmp_path: Path) -> None:
    store = LedgerStore(str(tmp_path / "ledger.db"))
    check_one_state(store)
    store.close()


@pytest.mark.slow
def test_a_snapshot_of_postgresql_is_one_state() -> None:
    with postgresql() as url:
        store = LedgerStore(url)
        check_one_state(store)
        store.close()
