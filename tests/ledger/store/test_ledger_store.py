"""The ledger's store: exact balances under any order of calls, and each entry once."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.fixtures.postgresql import postgresql

from steppe.errors import UsageError
from steppe.ledger.admission import Admission, AdmissionRules, AdmissionTerms, Payer
from steppe.ledger.entries import (
    Hold,
    available,
    deposited,
    granted,
    held,
    package_bought,
    package_expired,
    refunded,
    transferred,
    withdrawn,
)
from steppe.ledger.store.ledger_store import ConflictError, LedgerStore, LogEntry, TooLowError
from steppe.ledger.tariff import Rate, Tariff

CNY = "CNY"
Open = Callable[[str], LedgerStore]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LedgerStore]:
    opened = LedgerStore(str(tmp_path / "ledger.sqlite"))
    yield opened
    opened.close()


def balance(store: LedgerStore, account: str, unit: str = CNY) -> int:
    return sum(each.balance for each in store.balances(account) if each.unit == unit)


def entry(name: str, text: bytes = b"{}") -> LogEntry:
    return LogEntry("receipt", name, "lab", 5, text)


def test_a_request_pays_what_it_cost_and_gets_the_rest_back(store: LedgerStore) -> None:
    store.move([deposited("d1", "lab", CNY, 100)], 1)
    assert store.hold(Hold("r1", "lab", CNY, 60, 1_000), 2)
    assert (balance(store, available("lab")), balance(store, held("lab"))) == (40, 60)
    assert store.end_request("r1", 25, [entry("r1")], 3)
    assert (balance(store, available("lab")), balance(store, held("lab"))) == (75, 0)
    assert balance(store, "revenue") == 25
    assert sum(each.balance for each in store.balances()) == 0
    assert store.entries(0) == [b"{}"]
    assert store.audit() == []


def test_the_same_call_again_changes_nothing(store: LedgerStore) -> None:
    hold = Hold("r1", "lab", CNY, 60, 1_000)
    for expected in (True, False):
        assert store.move([deposited("d1", "lab", CNY, 100)], 1) is expected
    for expected in (True, False):
        assert store.hold(hold, 2) is expected
    for expected in (True, False):
        assert store.end_request("r1", 25, [entry("r1")], 3) is expected
    assert not store.hold(hold, 2)  # its request has ended: nothing is set aside again
    assert balance(store, available("lab")) == 75
    assert store.size() == 1


def test_another_content_of_the_same_name_is_a_conflict(store: LedgerStore) -> None:
    store.move([deposited("d1", "lab", CNY, 100)], 1)
    store.hold(Hold("r1", "lab", CNY, 60, 1_000), 2)
    store.add([entry("r1")])
    with pytest.raises(ConflictError, match=r"asked to move 0.000000099 CNY, found 0.0000001 CNY"):
        store.move([deposited("d1", "lab", CNY, 99)], 1)
    with pytest.raises(ConflictError, match="hold r1"):
        store.hold(Hold("r1", "lab", CNY, 61, 1_000), 2)
    with pytest.raises(ConflictError, match="receipt r1: asked to log it, found other bytes"):
        store.end_request("r1", 1, [entry("r1", b"[]")], 3)
    assert balance(store, held("lab")) == 60


def test_a_tenant_cannot_spend_more_than_it_has(store: LedgerStore) -> None:
    store.move([deposited("d1", "lab", CNY, 100)], 1)
    with pytest.raises(
        TooLowError, match=r"asked for 0.000000101 CNY, found 0.0000001 free"
    ) as error:
        store.hold(Hold("r1", "lab", CNY, 101, 1_000), 2)
    assert error.value.free == 100
    with pytest.raises(TooLowError, match="found 0 free"):
        store.hold(Hold("r2", "new", CNY, 1, 1_000), 2)
    with pytest.raises(TooLowError):
        store.move([withdrawn("w1", "lab", CNY, 101)], 2)
    assert balance(store, available("lab")) == 100


def test_a_tenant_with_credit_may_owe_that_much(store: LedgerStore) -> None:
    store.open_account("lab", CNY, credit=50)
    store.hold(Hold("r1", "lab", CNY, 50, 1_000), 2)
    with pytest.raises(TooLowError):
        store.hold(Hold("r2", "lab", CNY, 1, 1_000), 2)
    store.end_request("r1", 50, [], 3)
    with pytest.raises(TooLowError):
        store.open_account("lab", CNY, credit=49)
    assert balance(store, available("lab")) == -50


def test_a_request_that_cost_more_than_its_hold_pays_its_hold(store: LedgerStore) -> None:
    store.move([deposited("d1", "lab", CNY, 100)], 1)
    store.hold(Hold("r1", "lab", CNY, 10, 1_000), 2)
    store.end_request("r1", 12, [], 3)
    assert balance(store, available("lab")) == 90


def test_old_holds_are_given_back_once(store: LedgerStore) -> None:
    store.move([deposited("d1", "lab", CNY, 100)], 1)
    store.hold(Hold("r1", "lab", CNY, 10, 1_000), 2)
    store.hold(Hold("r2", "lab", CNY, 20, 2_000), 2)
    assert store.give_back_expired(1_000) == 1
    assert store.give_back_expired(1_000) == 0
    assert balance(store, available("lab")) == 80
    store.end_request("r1", 10, [entry("r1")], 3)  # too late: the operator pays
    assert balance(store, available("lab")) == 80
    assert store.give_back("r2", 4)
    assert not store.give_back("r2", 4)
    assert balance(store, available("lab")) == 100
    assert store.audit() == []


@pytest.mark.parametrize("is_late", [False, True])
def test_what_a_hold_does_not_cover_is_charged_as_far_as_something_is_free(
    store: LedgerStore, is_late: bool
) -> None:
    store.move([deposited("d1", "lab", CNY, 100)], 1)
    store.hold(Hold("r1", "lab", CNY, 10, 1_000), 2)
    store.hold(Hold("r2", "lab", CNY, 60, 10**9), 2)
    if is_late:
        assert store.give_back_expired(1_000) == 1
    for expected in (True, False):
        found = store.end_request("r1", 45, [entry("r1")], 3, payer=Payer("lab", CNY))
        assert found is expected
    assert (balance(store, available("lab")), balance(store, "revenue")) == (0, 40)
    store.end_request("r2", 0, [entry("r2")], 4, payer=Payer("lab", CNY))
    assert balance(store, available("lab")) == 60
    store.end_request("r3", 5, [entry("r3")], 4, payer=Payer("lab", CNY))  # never held
    assert balance(store, "revenue") == 40
    assert store.audit() == []


def test_packages_are_bought_given_away_and_run_out(store: LedgerStore) -> None:
    store.move([deposited("d1", "lab", CNY, 100)], 1)
    large = "tokens:large"
    bought = package_bought("p1", "lab", (CNY, 30), (large, 1_000))
    assert store.move(bought, 2)
    assert not store.move(bought, 2)
    store.move([transferred("t1", "lab", "school", large, 400)], 3)
    with pytest.raises(TooLowError):
        store.move([transferred("t2", "lab", "school", large, 601)], 3)
    store.move([package_expired("e1", available("lab"), large, 600)], 4)
    store.move([refunded("f1", "lab", CNY, 5), granted("g1", "school", CNY, 7)], 5)
    assert balance(store, available("lab"), large) == 0
    assert balance(store, available("school"), large) == 400
    assert balance(store, available("lab")) == 75
    assert [each.kind for _, each in store.history(available("school"))] == ["grant", "transfer"]
    for unit in (CNY, large):
        assert sum(each.balance for each in store.balances() if each.unit == unit) == 0
    assert store.audit() == []


def test_movements_of_one_call_are_carried_out_all_or_none(store: LedgerStore) -> None:
    store.move([deposited("d1", "lab", CNY, 10)], 1)
    with pytest.raises(TooLowError):
        store.move(package_bought("p1", "lab", (CNY, 30), ("tokens:large", 1_000)), 2)
    assert balance(store, available("lab"), "tokens:large") == 0


@pytest.mark.parametrize(("amount", "text"), [(0, "0"), (-1, "-0.000000001")])
def test_nothing_and_less_cannot_be_moved(amount: int, text: str) -> None:
    with pytest.raises(UsageError, match=f"deposit d1: asked to move {text} CNY"):
        deposited("d1", "lab", CNY, amount)
    with pytest.raises(UsageError, match="same account"):
        transferred("t1", "lab", "lab", CNY, 1)


def test_a_tenant_has_no_more_than_the_database_can_keep_and_the_site_any_amount(
    store: LedgerStore,
) -> None:
    most, tenants = 2**63 - 1, ("a", "b", "c")
    for tenant in tenants:
        store.move([deposited(tenant, tenant, CNY, most)], 1)
        with pytest.raises(UsageError, match=r"found room for 9223372036.854775807 CNY in an acc"):
            store.move([deposited("more", tenant, CNY, 1)], 1)
    assert balance(store, "bank") == -3 * most
    for tenant in tenants:
        store.hold(Hold(tenant, tenant, CNY, most, 9), 2)
        store.end_request(tenant, most, [], 3)
    assert balance(store, "revenue") == 3 * most
    assert store.audit() == []
    store.move([refunded("f", "a", CNY, most)], 4)
    assert (balance(store, "revenue"), balance(store, "bank")) == (2 * most, -3 * most)


def test_the_audit_names_a_balance_that_was_changed(store: LedgerStore, tmp_path: Path) -> None:
    store.move([deposited("d1", "lab", CNY, 10)], 1)
    with sqlite3.connect(tmp_path / "ledger.sqlite") as connection:
        connection.execute("UPDATE steppe_ledger_balances SET balance = 11 WHERE account != 'bank'")
    connection.close()
    assert store.audit() == ["tenant/lab/available: its balance is not the sum of its movements"]


def test_entries_have_places_in_order_and_are_found_by_name_and_time(store: LedgerStore) -> None:
    assert store.add([entry("a", b"1"), entry("b", b"2")]) == 2
    assert store.add([entry("b", b"2"), entry("c", b"3")]) == 1
    assert store.entries(0) == [b"1", b"2", b"3"]
    assert store.entries(1, 1) == [b"2"]
    assert store.place_of("receipt", "c") == 2
    assert store.place_of("tariff", "c") is None
    assert list(store.of_tenant("lab", 5, 6)) == [(0, b"1"), (1, b"2"), (2, b"3")]
    assert not list(store.of_tenant("lab", 6, 9))
    assert not list(store.of_tenant("other", 0, 9))


TENANTS = ("lab", "school")
PRICE = Tariff("one", CNY, 0, 0, (Rate(prompt_nano=1),))
RULES = AdmissionRules((PRICE,), needs_account=True)


def spend_at_once(open_store: Callable[[], LedgerStore], credit: int, requests: int) -> None:
    """Let two stores of one database admit and end requests of two tenants, in groups of four.

    Each group begins with the other tenant, so that one waits for what the other has.
    """
    first = open_store()
    for tenant in TENANTS:
        first.move([deposited(tenant, tenant, CNY, credit)], 1)
    served: list[str] = []

    def run(half: int) -> None:
        store = open_store()
        for group in range(requests // 4):
            order = TENANTS if (group + half) % 2 else TENANTS[::-1]
            asked = [
                Admission(f"{half}-{group}-{number}", order[number % 2], "m", "standard", 1, 0)
                for number in range(4)
            ]
            found = store.admit(asked, RULES, 2)
            admitted = [
                x.request for x, y in zip(asked, found, strict=True) if type(y) is AdmissionTerms
            ]
            with store.transaction() as books:
                for request in admitted:
                    books.end_request(request, 1, [entry(request)], 3)
            served.extend(admitted)
        store.close()

    threads = [threading.Thread(target=run, args=(half,)) for half in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert first.audit() == []
    assert len(served) == 2 * credit == balance(first, "revenue") == first.size()
    first.close()


def test_of_many_requests_at_once_exactly_as_many_as_are_paid_are_served(tmp_path: Path) -> None:
    spend_at_once(lambda: LedgerStore(str(tmp_path / "ledger.sqlite")), 10, 40)


@pytest.mark.slow
def test_of_many_requests_at_once_as_many_as_are_paid_are_served_on_postgresql() -> None:
    with postgresql() as url:
        spend_at_once(lambda: LedgerStore(url), 25, 100)
