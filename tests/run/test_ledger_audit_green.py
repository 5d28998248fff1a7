"""The audit of green energy: what holds, and a line for each thing that does not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.ledger.green.hours import HOUR, LATE_US, RECEIPTS, period_of

from steppe.ledger.entries import Movement, MovementKind, available
from steppe.ledger.green.certificates import Certificate
from steppe.ledger.green.hourly import HourEnergy
from steppe.ledger.green.match import Match
from steppe.ledger.green.sales import site_account, unit_of
from steppe.ledger.green.supply import UJ_PER_WH
from steppe.ledger.periods.closing import HOUR_US
from steppe.ledger.periods.period import KIND as PERIOD
from steppe.ledger.receipt import KIND as RECEIPT
from steppe.ledger.store.certificates import Register
from steppe.ledger.store.green import GreenTerms, keep_terms, match_hour, match_late
from steppe.ledger.store.ledger_store import LedgerStore, LogEntry
from steppe.run.ledger_audit_green import green_faults, use_faults

BOOK = period_of(RECEIPTS, idle_wh=1, rest_wh=4)
GEC = Certificate("g", "gec", "hohhot", "park", "mengxi", "sun", 1_000_000, HOUR - 9, HOUR + 9)
OWN = Certificate(
    f"hohhot.wind.{HOUR}", "granular", "hohhot", "hohhot", "mengxi", "wind", 4, HOUR, HOUR + 1
)
CERTIFICATES = {each.id: each for each in (OWN, GEC)}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LedgerStore]:
    """An hour that was matched when it closed, and once more when a GEC came."""
    opened = LedgerStore(str(tmp_path / "ledger.db"))
    energy = HourEnergy(8 * UJ_PER_WH, {"wind": 4 * UJ_PER_WH, "grid": 4 * UJ_PER_WH})
    inside_us = HOUR * HOUR_US
    rows = [LogEntry(RECEIPT, one.id, one.tenant, inside_us, one.entry) for one in RECEIPTS]
    with opened.transaction() as transaction:
        keep_terms(transaction, "hohhot", GreenTerms("mengxi"))
        transaction.add([*rows, LogEntry(PERIOD, BOOK.id, "", LATE_US, BOOK.entry)])
        first = match_hour(transaction, BOOK, RECEIPTS, energy, LATE_US)
    assert first is not None
    with opened.transaction() as transaction:
        Register(transaction, LATE_US).issue(GEC)
        assert match_late(transaction, BOOK, RECEIPTS, [first], LATE_US)
    yield opened
    opened.close()


@pytest.fixture
def matches(store: LedgerStore) -> list[Match]:
    return [Match.read(entry) for entry in store.of_kind("match")]


def faults_of(store: LedgerStore, matches: list[Match]) -> list[str]:
    with store.snapshot() as snapshot:
        return green_faults(snapshot, matches, CERTIFICATES)


def test_matches_that_hold(store: LedgerStore, matches: list[Match]) -> None:
    assert len(matches) == 2
    assert faults_of(store, matches) == []


@pytest.mark.parametrize(
    ("number", "changes", "found"),
    [
        (0, {"root": "0f" * 32}, "asked for the root of its shares"),
        (1, {"gec_sold_uj": 5}, "gec_sold_uj, the sum of the shares: asked for"),
        (0, {"green_wh": 5}, "asked for the 4 Wh of its certificates, found 5 Wh green"),
        (0, {"certificates": {"x": 4}}, "certificate x: asked for it, found none of this id"),
        (0, {"hour": HOUR + 1}, "found no period of its hour"),
        (1, {"before": "0f" * 32}, "asked for number 1 of the hour, found another"),
        (1, {"load_wh": 7}, "asked for at most its load, 7 Wh, found 8 Wh"),
        (1, {"zone": "mengdong"}, "asked to use it in mengdong, found it for mengxi"),
    ],
)
def test_a_match_that_does_not_hold_is_named(
    store: LedgerStore, matches: list[Match], number: int, changes: dict[str, object], found: str
) -> None:
    matches[number] = replace(matches[number], **changes)  # type: ignore[arg-type]
    faults = faults_of(store, matches)
    assert any(found in fault for fault in faults), faults


def test_a_log_alone_shows_a_wh_that_is_used_twice(matches: list[Match]) -> None:
    assert use_faults(matches, CERTIFICATES) == []
    twice = [*matches, replace(matches[0], site="ulanqab")]
    assert use_faults(twice, CERTIFICATES) == [
        f"match ulanqab/{HOUR}/0: certificate {OWN.id}: asked for at most 4 Wh, found 8 Wh used"
    ]


def test_energy_that_was_sold_beside_a_match_is_named(
    store: LedgerStore, matches: list[Match]
) -> None:
    unit, own = unit_of("hohhot", HOUR), site_account("hohhot")
    left_uj = matches[0].green_uj - matches[0].sold_uj
    store.move([Movement("x", MovementKind.TRANSFER, own, available("lab"), unit, 5)], LATE_US)
    assert faults_of(store, matches) == [
        f"{own}: asked for {left_uj} {unit} by the matches, found {left_uj - 5}"
    ]
