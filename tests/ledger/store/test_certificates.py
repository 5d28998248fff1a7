"""The register of certificates in the store: each Wh is matched to one hour and cancelled once."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from tests.ledger.green.test_certificates import FARM, GEC, OWN

from steppe.errors import UsageError
from steppe.ledger.entries import MovementKind, available
from steppe.ledger.green.certificates import GEC_WH, Certificate, GreenError, matched
from steppe.ledger.store.certificates import Register, free_of, holdings
from steppe.ledger.store.ledger_store import LedgerStore, TooLowError

SITES, ZONE = ("hohhot", "ulanqab"), "mengxi"


class Books:
    """A store, with a transaction for each call of its register."""

    def __init__(self, store: LedgerStore) -> None:
        self.store = store

    def issue(self, *certificates: Certificate) -> int:
        with self.store.transaction() as transaction:
            register = Register(transaction, 1)
            return sum(register.issue(each) for each in certificates)

    def match(self, owner: str, zone: str, hour: int, room_wh: int) -> list[tuple[str, int]]:
        with self.store.transaction() as transaction:
            used = Register(transaction, 2).match(owner, zone, hour, room_wh)
        return [(each.id, wh) for each, wh in used]

    def send(self, cause: str, certificate: str, giver: str, taker: str, wh: int) -> bool:
        with self.store.transaction() as transaction:
            return Register(transaction, 3).send(cause, certificate, giver, taker, wh)

    def cancel(self, certificate: str, owner: str) -> list[tuple[MovementKind, int]]:
        with self.store.transaction() as transaction:
            movements = Register(transaction, 4).cancel(certificate, owner)
        return [(each.kind, each.amount) for each in movements]

    def balance_wh(self, account: str, certificate: str) -> int:
        unit = f"wh:{certificate}"
        return sum(each.balance for each in self.store.balances(account) if each.unit == unit)


@pytest.fixture
def books(tmp_path: Path) -> Iterator[Books]:
    store = LedgerStore(str(tmp_path / "ledger.sqlite"))
    yield Books(store)
    assert store.audit() == []
    store.close()


def test_own_generation_comes_first_and_gecs_last(books: Books) -> None:
    assert books.issue(GEC, FARM, OWN) == 3
    assert books.match("hohhot", ZONE, 100, 1_000) == [(OWN.id, 50), (FARM.id, 300), (GEC.id, 650)]
    assert books.match("hohhot", ZONE, 100, 1_000) == [], "each is matched to an hour once"


@pytest.mark.parametrize(("zone", "hour"), [("mengxi", 99), ("mengxi", 101), ("mengdong", 100)])
def test_a_certificate_is_not_used_in_another_hour_or_zone(
    books: Books, zone: str, hour: int
) -> None:
    books.issue(FARM)
    assert books.match("hohhot", zone, hour, 500) == []
    assert books.balance_wh(available("hohhot"), FARM.id) == 300


def test_a_certificate_is_cancelled_once(books: Books) -> None:
    books.issue(FARM)
    with pytest.raises(GreenError, match="found it unused by hohhot"):
        books.cancel(FARM.id, "hohhot")
    books.match("hohhot", ZONE, 100, 200)
    assert books.cancel(FARM.id, "hohhot") == [(MovementKind.CAPTURE, 200)]
    assert books.balance_wh("cancelled", FARM.id) == 200
    assert books.balance_wh(available("hohhot"), FARM.id) == 100
    with pytest.raises(GreenError, match="found it cancelled"):
        books.cancel(FARM.id, "hohhot")
    with pytest.raises(GreenError, match="certificate farm-9: asked for it, found none"):
        books.cancel("farm-9", "hohhot")


def test_the_rest_of_a_gec_expires_when_it_is_cancelled(books: Books) -> None:
    books.issue(GEC)
    for hour in (90, 119):
        assert books.match("hohhot", ZONE, hour, 300_000) == [(GEC.id, 300_000)]
    assert books.cancel(GEC.id, "hohhot") == [
        (MovementKind.CAPTURE, 600_000),
        (MovementKind.EXPIRE, 400_000),
    ]
    assert books.match("hohhot", ZONE, 100, 1) == []
    assert books.balance_wh(matched("hohhot"), GEC.id) == 0


def test_what_was_sent_to_another_owner_is_not_used_here(books: Books) -> None:
    books.issue(OWN)
    assert books.send("order-1", OWN.id, "hohhot", "factory", 40)
    assert not books.send("order-1", OWN.id, "hohhot", "factory", 40)
    assert books.match("hohhot", ZONE, 100, 50) == [(OWN.id, 10)]
    assert books.match("factory", ZONE, 100, 50) == [(OWN.id, 40)]
    with pytest.raises(TooLowError, match="found 0 free"):
        books.send("order-2", OWN.id, "hohhot", "factory", 1)


def test_a_gec_is_sent_as_a_whole(books: Books) -> None:
    books.issue(GEC)
    with pytest.raises(UsageError, match="asked to send 5 Wh of a GEC"):
        books.send("order-1", GEC.id, "hohhot", "factory", 5)
    books.send("order-1", GEC.id, "hohhot", "factory", GEC_WH)
    assert books.balance_wh(available("factory"), GEC.id) == GEC_WH


@pytest.mark.parametrize(
    "other",
    [
        replace(OWN, id="registry-7"),
        replace(GEC, producer="hohhot", source="wind"),
        replace(GEC, producer="hohhot", source="wind", from_hour=100),
    ],
)
@pytest.mark.parametrize("is_first", [True, False])
def test_generation_is_certified_once(books: Books, other: Certificate, is_first: bool) -> None:
    first, second = (other, OWN) if is_first else (OWN, other)
    books.issue(first)
    with pytest.raises(GreenError, match="for the same generation"):
        books.issue(second)


@pytest.mark.parametrize(
    "other",
    [
        replace(OWN, id="hohhot.battery-wind.100", source="battery/wind"),
        replace(GEC, producer="hohhot", source="wind", from_hour=101),
        replace(GEC, producer="hohhot", source="wind", to_hour=100),
        replace(GEC, producer="hohhot", source="sun"),
        replace(FARM, id="farm-2"),
    ],
)
def test_other_generation_has_certificates_of_its_own(books: Books, other: Certificate) -> None:
    assert books.issue(FARM, OWN, other) == 3


def test_the_same_certificate_again_changes_nothing_and_another_of_its_id_is_refused(
    books: Books,
) -> None:
    assert books.issue(FARM) == 1
    assert books.issue(FARM, FARM) == 0
    with pytest.raises(GreenError, match="farm-1: asked to take it in, found another of farm, 300"):
        books.issue(replace(FARM, wh=301))


def test_what_each_owner_has_is_listed_by_hour(books: Books) -> None:
    books.issue(GEC, FARM, OWN)
    books.send("order-1", OWN.id, "hohhot", "factory", 40)
    books.match("hohhot", ZONE, 100, 200)
    with books.store.reading() as connection:
        found = holdings(connection, 100, 101)
        assert holdings(connection, 120, 130) == []
    assert [(each.certificate, each.owner, each.free_wh, each.matched_wh) for each in found] == [
        (GEC, "hohhot", GEC_WH, 0),
        (FARM, "hohhot", 110, 190),
        (OWN, "factory", 40, 0),
        (OWN, "hohhot", 0, 10),
    ]


def test_used_certificates_are_not_looked_at(books: Books) -> None:
    books.issue(*[replace(GEC, id=f"g{number}") for number in range(4)])
    assert len(books.match("hohhot", ZONE, 90, 3 * GEC_WH)) == 3
    with books.store.reading() as connection:
        query = free_of("hohhot", ZONE, 2, 100)
        text = query.compile(connection, compile_kwargs={"literal_binds": True})
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}").all()
        assert [str(row.certificate) for row in connection.execute(query)] == ["g3"]
    assert "steppe_ledger_holdings_free" in str(plan[0])
    assert "USE TEMP B-TREE" not in str(plan)


class AnyOrder(RuleBasedStateMachine):
    """A register under any order of calls, beside a list of single Wh."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.books = Books(LedgerStore(f"{self.folder.name}/ledger.sqlite"))
        self.certificates: list[Certificate] = []
        self.uses: dict[tuple[str, str, int], int] = {}
        self.cancelled: set[tuple[str, str]] = set()
        self.sent = 0

    def teardown(self) -> None:
        assert self.books.store.audit() == []
        self.books.store.close()
        self.folder.cleanup()

    def take_in(self, certificate: Certificate) -> None:
        self.certificates.append(certificate)
        assert self.books.issue(certificate) == 1
        assert self.books.issue(certificate) == 0

    @rule(owner=st.sampled_from(SITES), hour=st.integers(0, 3), wh=st.integers(1, 9))
    def issue(self, owner: str, hour: int, wh: int) -> None:
        id_ = f"c{len(self.certificates)}"
        self.take_in(Certificate(id_, "granular", owner, "farm", ZONE, "wind", wh, hour, hour + 1))

    @rule(owner=st.sampled_from(SITES), hour=st.integers(0, 3))
    def import_gec(self, owner: str, hour: int) -> None:
        id_ = f"c{len(self.certificates)}"
        self.take_in(Certificate(id_, "gec", owner, "park", ZONE, "sun", GEC_WH, hour, hour + 2))

    @rule(owner=st.sampled_from(SITES), hour=st.integers(0, 4), room_wh=st.integers(0, 900_000))
    def match(self, owner: str, hour: int, room_wh: int) -> None:
        used = self.books.match(owner, ZONE, hour, room_wh)
        for id_, wh in used:
            assert (id_, owner, hour) not in self.uses
            self.uses[id_, owner, hour] = wh
        assert sum(wh for _, wh in used) <= room_wh

    @rule(data=st.data(), wh=st.integers(1, 9))
    def send(self, data: st.DataObject, wh: int) -> None:
        if not self.certificates:
            return
        each = data.draw(st.sampled_from(self.certificates))
        amount = GEC_WH if each.form == "gec" else wh
        self.sent += 1
        has_wh = self.books.balance_wh(available(SITES[0]), each.id)
        if has_wh >= amount:
            assert self.books.send(f"o{self.sent}", each.id, *SITES, amount)
        else:
            with pytest.raises(TooLowError):
                self.books.send(f"o{self.sent}", each.id, *SITES, amount)

    @rule(data=st.data(), owner=st.sampled_from(SITES))
    def cancel(self, data: st.DataObject, owner: str) -> None:
        if not self.certificates:
            return
        each = data.draw(st.sampled_from(self.certificates))
        was_wh = self.books.balance_wh("cancelled", each.id)
        used_wh = self.books.balance_wh(matched(owner), each.id)
        name = (each.id, owner)
        if used_wh and name not in self.cancelled:
            self.books.cancel(*name)
            self.cancelled.add(name)
            assert self.books.balance_wh("cancelled", each.id) == was_wh + used_wh
        with pytest.raises(GreenError):
            self.books.cancel(*name)

    @invariant()
    def each_wh_is_in_one_account_and_one_hour(self) -> None:
        balances = self.books.store.balances()
        for each in self.certificates:
            own = {b.account: b.balance for b in balances if b.unit == each.unit}
            assert sum(own.values()) == 0
            assert own.pop("issued") == -each.wh
            assert all(amount >= 0 for amount in own.values())
            uses = {key: wh for key, wh in self.uses.items() if key[0] == each.id}
            assert sum(uses.values()) <= each.wh
            assert all(each.from_hour <= hour < each.to_hour for _, _, hour in uses)

    @invariant()
    def what_is_left_is_the_balance(self) -> None:
        with self.books.store.reading() as connection:
            found = holdings(connection, 0, 10)
        for each in found:
            account = available(each.owner)
            assert each.free_wh == self.books.balance_wh(account, each.certificate.id)


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=5, stateful_step_count=15, deadline=None)
