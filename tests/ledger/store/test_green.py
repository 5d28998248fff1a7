"""Hours that are matched in the store: shared, sold and logged in one transaction, once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from tests.fixtures.postgresql import postgresql
from tests.ledger.green.hours import HOUR, LATE_US, RECEIPTS, period_of, receipt

from steppe.ledger.entries import Movement, MovementKind, available
from steppe.ledger.green.certificates import Certificate
from steppe.ledger.green.checking import check_hour, check_matches
from steppe.ledger.green.hourly import HourEnergy
from steppe.ledger.green.match import Match
from steppe.ledger.green.sales import site_account, unit_of
from steppe.ledger.green.supply import UJ_PER_WH
from steppe.ledger.periods.period import Period
from steppe.ledger.receipt import Receipt
from steppe.ledger.store.certificates import Register, holdings
from steppe.ledger.store.green import GreenTerms, keep_terms, match_hour, match_late, matches_of
from steppe.ledger.store.ledger_store import LedgerStore, TooLowError

TERMS = GreenTerms("mengxi", {"coal": 60, "wind": 40})
PERIOD = period_of(RECEIPTS, idle_wh=1, rest_wh=2)
"""3 Wh of receipts, 1 Wh idle, 2 Wh of the operator."""
ENERGY = HourEnergy(8 * UJ_PER_WH, {"wind": 4 * UJ_PER_WH, "grid": 4 * UJ_PER_WH})
GEC = Certificate("g", "gec", "hohhot", "park", "mengxi", "sun", 1_000_000, HOUR - 9, HOUR + 9)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LedgerStore]:
    opened = LedgerStore(str(tmp_path / "ledger.sqlite"))
    yield opened
    assert opened.audit() == []
    opened.close()


def match(
    store: LedgerStore,
    period: Period = PERIOD,
    receipts: Sequence[Receipt] = RECEIPTS,
    energy: HourEnergy = ENERGY,
) -> Match | None:
    with store.transaction() as transaction:
        keep_terms(transaction, period.site, TERMS)
        return match_hour(transaction, period, receipts, energy, LATE_US)


def match_again(store: LedgerStore, earlier: Sequence[Match]) -> Match | None:
    with store.transaction() as transaction:
        return match_late(transaction, PERIOD, RECEIPTS, earlier, now_us=LATE_US)


def take_in(store: LedgerStore, *certificates: Certificate) -> None:
    with store.transaction() as transaction:
        for each in certificates:
            Register(transaction, 1).issue(each)


def sold_uj(store: LedgerStore, tenant: str, unit: str) -> int:
    return sum(each.balance for each in store.balances(available(tenant)) if each.unit == unit)


def entries(store: LedgerStore, kind: str) -> list[bytes]:
    return [entry for entry in store.entries(0) if orjson.loads(entry)["kind"] == kind]


def test_an_hour_is_matched_shared_sold_and_logged(store: LedgerStore) -> None:
    found = match(store)
    assert found is not None
    assert (found.load_wh, found.green_wh, found.gec_wh) == (8, 4, 0)
    assert found.source_wh == {"wind": 4, "grid/coal": 2, "grid/wind": 1}
    assert found.certificates == {f"hohhot.wind.{HOUR}": 4}
    unit = unit_of("hohhot", HOUR)
    assert unit == f"green:hohhot:{HOUR}"
    # Of 8 Wh the receipts have 4 with idle: half of what is green, by their joules 1 to 2.
    assert sold_uj(store, "lab", unit) == 2 * UJ_PER_WH // 3
    assert sold_uj(store, "shop", unit) == 4 * UJ_PER_WH // 3 + 1 - 1
    left = [each.balance for each in store.balances(site_account("hohhot")) if each.unit == unit]
    assert left == [found.green_uj - found.sold_uj]
    assert [Match.read(entry) for entry in entries(store, "match")] == [found]
    known = {one.id: one for one in map(Certificate.read, entries(store, "certificate"))}
    assert check_matches([found], known) == {f"hohhot.wind.{HOUR}": 4}
    shares = check_hour([found], PERIOD, RECEIPTS)
    assert sum(one.green_uj for one in shares) == found.sold_uj


def test_the_same_hour_again_changes_nothing(store: LedgerStore) -> None:
    assert match(store) is not None
    size, balances = store.size(), store.balances()
    assert match(store) is None
    assert (store.size(), store.balances()) == (size, balances)


def test_no_more_of_an_hour_is_sold_than_was_matched(store: LedgerStore) -> None:
    found = match(store)
    assert found is not None
    unit, left_uj = unit_of("hohhot", HOUR), found.green_uj - found.sold_uj
    giver, taker = site_account("hohhot"), available("lab")
    with pytest.raises(TooLowError, match=f"found {left_uj} free"):
        store.move([Movement("x", MovementKind.TRANSFER, giver, taker, unit, left_uj + 1)], 1)
    assert store.move([Movement("x", MovementKind.TRANSFER, giver, taker, unit, left_uj)], 1)


def test_certificates_cover_what_the_own_supply_does_not(store: LedgerStore) -> None:
    farm = Certificate("f", "granular", "hohhot", "farm", "mengxi", "wind", 2, HOUR, HOUR + 1)
    take_in(store, farm, GEC)
    found = match(store)
    assert found is not None
    assert (found.green_wh, found.gec_wh) == (6, 2)
    assert sum(found.certificates.values()) == 8
    shares = check_hour([found], PERIOD, RECEIPTS)
    assert all(one.green_uj + one.gec_uj == one.energy_uj for one in shares)
    gec = unit_of("hohhot", HOUR, "gec")
    assert sold_uj(store, "lab", gec) + sold_uj(store, "shop", gec) == found.gec_sold_uj


def test_a_certificate_that_comes_late_fills_what_is_left_of_an_hour(store: LedgerStore) -> None:
    first = match(store)
    assert first is not None
    assert match_again(store, [first]) is None
    take_in(store, GEC)
    second = match_again(store, [first])
    assert second is not None
    assert (second.number, second.before, second.gec_wh) == (1, first.hash, 4)
    with store.reading() as connection:
        assert matches_of(connection, "hohhot", HOUR) == [first, second]
    shares = check_hour([first, second], PERIOD, RECEIPTS)
    assert sum(one.gec_uj for one in shares) == second.gec_sold_uj == 2 * UJ_PER_WH
    assert match_again(store, [first, second]) is None


def test_generation_that_a_registry_has_certified_gets_no_second_certificate(
    store: LedgerStore,
) -> None:
    registry = replace(GEC, id="n1", producer="hohhot", source="wind")
    take_in(store, registry)
    found = match(store)
    assert found is not None
    assert found.certificates == {"n1": 8}
    assert (found.green_wh, found.gec_wh) == (0, 8)


def test_what_is_below_a_wh_is_carried_to_the_next_hour(store: LedgerStore) -> None:
    half = HourEnergy(3 * UJ_PER_WH // 2, {"wind": 3 * UJ_PER_WH // 2})
    first = match(store, period_of(()), (), half)
    later = replace(period_of(()), hour=HOUR + 1)
    second = match(store, later, (), half)
    assert first is not None
    assert second is not None
    assert (first.green_wh, second.green_wh) == (1, 2)


def test_an_hour_without_load_and_supply_has_no_match(store: LedgerStore) -> None:
    assert match(store, period_of(()), (), HourEnergy()) is None
    assert store.size() == 0


def test_a_site_and_a_tenant_of_long_names_are_matched_too(store: LedgerStore) -> None:
    tenant, site = "t" * 128, "example.org/" + "x" * 100
    long = receipt(0, tenant, 3, site=site)
    period = replace(period_of(()), site=site, idle_uj=0)
    found = match(store, period, (long,), ENERGY)
    assert found is not None
    assert sold_uj(store, tenant, unit_of(site, HOUR)) == found.sold_uj > 0
    assert all(len(each.unit) <= 64 for each in store.balances())
    assert all(len(each.cause) <= 128 for _, each in store.history(available(tenant)))


@pytest.mark.slow
def test_hours_are_matched_on_postgresql_too() -> None:
    with postgresql() as url:
        store = LedgerStore(url)
        farm = Certificate("f", "granular", "hohhot", "farm", "mengxi", "wind", 2, HOUR, HOUR + 1)
        take_in(store, farm)
        first = match(store)
        assert first is not None
        assert match(store) is None
        assert (first.green_wh, first.gec_wh) == (6, 0)
        take_in(store, GEC)
        second = match_again(store, [first])
        assert second is not None
        assert second.gec_wh == 2
        with store.reading() as connection:
            assert matches_of(connection, "hohhot", HOUR) == [first, second]
            left = [
                (one.certificate.id, one.free_wh) for one in holdings(connection, HOUR, HOUR + 1)
            ]
        assert left == [("g", 999_998), ("f", 0), (f"hohhot.wind.{HOUR}", 0)]
        assert store.audit() == []
        store.close()
