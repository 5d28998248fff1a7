from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from steppe.errors import UsageError
from steppe.grid.offers.commitments import Commitment
from steppe.grid.offers.offer import Call, FlexOffer, offered
from steppe.grid.offers.sources import Source
from steppe.grid.service.offers.promises import (
    FILE_NAME,
    FolderPromises,
    LedgerPromises,
    Promises,
)
from steppe.ledger.store.ledger_store import LedgerStore

FIRST = Commitment("a", "reserve", 0, 3600, down_w=600)
SECOND = Commitment("b", "capacity", 1800, 5400, down_w=400)


def offer_of(watts: float) -> FlexOffer:
    power = offered([[Source("work", watts, 0.0, 1.0, 0.0)]] * 9, Call(60.0, 900.0))
    return FlexOffer("offer-1", 0.0, 7200.0, power, power)


@pytest.fixture(params=["file", "ledger"])
def promises(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Promises]:
    if request.param == "file":
        yield FolderPromises(tmp_path / "grid")
        return
    store = LedgerStore(str(tmp_path / "ledger.db"))
    yield LedgerPromises(store, "site")
    store.close()


def test_commitments_are_kept_in_the_order_of_their_sale(promises: Promises) -> None:
    assert promises.of(0) == []
    assert promises.commit(SECOND, offer_of(1000.0), 1)
    assert promises.commit(FIRST, offer_of(1000.0), 2)
    assert promises.of(0) == [SECOND, FIRST]
    assert promises.of(3600) == [SECOND]
    assert promises.of(5400) == []


def test_watts_that_are_promised_are_not_sold_again(promises: Promises) -> None:
    assert promises.commit(FIRST, offer_of(1000.0), 1)
    with pytest.raises(UsageError, match="asked for 500 W down for capacity, found 400 W free"):
        promises.commit(replace(SECOND, down_w=500), offer_of(1000.0), 2)
    assert promises.of(0) == [FIRST]


def test_the_same_commitment_again_changes_nothing_even_if_the_offer_is_gone(
    promises: Promises,
) -> None:
    assert promises.commit(FIRST, offer_of(1000.0), 1)
    assert not promises.commit(FIRST, offer_of(0.0), 2)
    assert not promises.commit(replace(FIRST, offer="later", recovery_s=60), offer_of(0.0), 2)
    with pytest.raises(UsageError, match="commitment a, found another one of this id"):
        promises.commit(replace(FIRST, down_w=1), offer_of(1000.0), 3)
    assert promises.of(0) == [FIRST]


def test_an_id_is_known_after_its_commitment_has_ended(promises: Promises) -> None:
    assert promises.commit(FIRST, offer_of(1000.0), 1)
    with pytest.raises(UsageError, match="another one of this id"):
        promises.commit(replace(FIRST, from_s=3600, until_s=5400), offer_of(1000.0), 2)


def test_a_commitment_is_an_entry_of_the_ledgers_log(tmp_path: Path) -> None:
    store = LedgerStore(str(tmp_path / "ledger.db"))
    LedgerPromises(store, "site").commit(FIRST, offer_of(1000.0), 1)
    (entry,) = store.of_kind("commitment")
    assert Commitment.read(entry) == FIRST
    store.close()


def test_two_sites_in_one_ledger_promise_their_own_watts(tmp_path: Path) -> None:
    store = LedgerStore(str(tmp_path / "ledger.db"))
    here, there = LedgerPromises(store, "site"), LedgerPromises(store, "other")
    assert here.commit(FIRST, offer_of(600.0), 1)
    assert there.commit(replace(FIRST, site="other"), offer_of(600.0), 1)
    assert [one.site for one in there.of(0)] == ["other"]
    store.close()


def test_a_line_that_was_not_finished_was_never_promised(tmp_path: Path) -> None:
    promises, path = FolderPromises(tmp_path), tmp_path / FILE_NAME
    promises.commit(FIRST, offer_of(1000.0), 1)
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:20])
    assert promises.of(0) == [FIRST]
    assert promises.commit(SECOND, offer_of(1000.0), 2)
    assert FolderPromises(tmp_path).of(0) == [FIRST, SECOND]


def test_a_damaged_file_sells_nothing(tmp_path: Path) -> None:
    promises, path = FolderPromises(tmp_path), tmp_path / FILE_NAME
    promises.commit(FIRST, offer_of(1000.0), 1)
    path.write_bytes(path.read_bytes().replace(b"600", b"100"))
    with pytest.raises(UsageError, match=r"line 1: asked for a commitment that was kept"):
        promises.commit(SECOND, offer_of(1000.0), 2)


def test_a_ledger_of_an_earlier_version_gets_the_table(tmp_path: Path) -> None:
    place = tmp_path / "ledger.db"
    LedgerStore(str(place)).close()
    with sqlite3.connect(place) as database:
        database.execute("DROP TABLE steppe_ledger_commitments")
    store = LedgerStore(str(place))
    assert LedgerPromises(store, "site").commit(FIRST, offer_of(1000.0), 1)
    store.close()
