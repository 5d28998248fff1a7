"""The audit of entries: each kind of wrong entry is found, and named by its place."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.fixtures.ledger import (
    FIRST_HOUR,
    IDLE_UJ,
    PRICES,
    SITE,
    TRANSITION_UJ,
    UNCLAIMED_UJ,
    make_receipt,
)

from steppe.ledger.audit.book_audit import BookAudit
from steppe.ledger.periods.closing import Counters, close_hour, closes_us
from steppe.ledger.periods.period import Meter, Period
from steppe.ledger.receipt import Receipt

WASTE_UJ = 70_000
FIRST, SECOND = make_receipt(0), make_receipt(1)
HALF = replace(
    FIRST,
    id="c",
    seq=2,
    corrects=FIRST.id,
    prompt_tokens=0,
    cached_tokens=0,
    output_tokens=-10,
    energy_uj=0,
    amount_nano=-400,
)


def audited(*entries: bytes) -> BookAudit:
    books = BookAudit(lambda place: entries[place])
    for place, entry in enumerate(entries):
        books.take(place, entry)
    return books


def with_prices(*receipts: Receipt) -> list[bytes]:
    return [PRICES.entry, *(one.entry for one in receipts)]


def closed(*receipts: Receipt, before: Period | None = None) -> Period:
    used_uj = IDLE_UJ + TRANSITION_UJ + WASTE_UJ + UNCLAIMED_UJ
    hour = receipts[0].hour
    start_uj = before.meters[0].end_uj if before else 0
    counted_uj = sum(one.energy_uj for one in receipts) + used_uj
    meter = Meter.between("run/r0", start_uj, start_uj + counted_uj)
    counters = Counters(SITE, "gpu", hour, (meter,), IDLE_UJ, TRANSITION_UJ, WASTE_UJ)
    return close_hour(counters, receipts, before, closes_us(hour))


def test_books_that_hold_have_no_fault_and_exact_sums() -> None:
    later = make_receipt(3, FIRST_HOUR + 1)
    first = closed(FIRST, SECOND, HALF)
    second = closed(later, before=first)
    entries = [*with_prices(FIRST, SECOND, HALF), first.entry, later.entry, second.entry]
    books = audited(*entries)
    assert books.faults == []
    assert books.kinds == {"tariff": 1, "receipt": 4, "period": 2}
    (sums,) = books.energy.values()
    assert sums.meter_uj == sums.found_uj == first.meter_uj + second.meter_uj
    assert (sums.closed, sums.idle_uj, sums.unclaimed_uj) == (2, 2 * IDLE_UJ, 2 * UNCLAIMED_UJ)
    assert books.open == {}


def test_receipts_of_an_hour_without_a_period_stay_open() -> None:
    books = audited(*with_prices(FIRST, SECOND, HALF))
    ((where, hour),) = books.open.items()
    assert where == (SITE, "gpu", FIRST_HOUR)
    assert (hour.receipts_uj, hour.corrections_uj) == (FIRST.energy_uj + SECOND.energy_uj, 0)
    assert books.amounts == {"CNY": FIRST.amount_nano + SECOND.amount_nano - 400}


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        (with_prices(replace(FIRST, amount_nano=1)), "entry 1: receipt 00000000: price: asked for"),
        (with_prices(replace(FIRST, currency="USD")), "found 1280 x 10^-9 USD"),
        (with_prices(replace(FIRST, tariff="flat-1/1", priority="x", seq=1)), "price: asked for"),
        (with_prices(replace(FIRST, tariff="flat-1/2")), "found no such rate"),
        (with_prices(replace(FIRST, tariff="flat-2/0")), "no tariff for flat-2/0 before it"),
        ([FIRST.entry, PRICES.entry], "no tariff for flat-1/0 before it"),
        (with_prices(replace(FIRST, tariff="")), "asked for no price without a tariff"),
        (with_prices(FIRST, FIRST), "asked for it once, found it twice"),
        (with_prices(FIRST, replace(SECOND, seq=2)), "asked for number 1, found 2"),
        (with_prices(replace(FIRST, cached_tokens=13)), "asked for at most 12 cached tokens"),
        (with_prices(replace(FIRST, energy_uj=-1)), "energy_uj: asked for at least 0, found -1"),
        (with_prices(replace(FIRST, ended_us=0)), "it ended before it began"),
        (with_prices(replace(FIRST, finish="failed")), "asked for nothing of a failed request"),
        (with_prices(FIRST, SECOND, replace(HALF, corrects="x")), "found no such receipt before"),
        (with_prices(FIRST, SECOND, replace(HALF, tenant="uni")), "tenant: asked for lab"),
        (with_prices(FIRST, SECOND, replace(HALF, amount_nano=-9999)), "would be left with -8719"),
        (with_prices(FIRST, SECOND, HALF, replace(HALF, id="d", seq=3, output_tokens=-21)), "-1"),
        (with_prices(FIRST, SECOND, HALF, replace(HALF, id="d", seq=3, corrects="c")), "itself"),
        ([PRICES.entry, PRICES.entry], "tariff flat-1: asked for it once"),
        ([b"{"], "entry 0: asked for JSON"),
        ([b"[]"], "asked for an entry with a kind"),
        ([FIRST.entry.replace(b'"v":1', b'"v":2')], "asked for version 1 of it"),
    ],
)
def test_a_wrong_entry_is_a_fault_with_its_place(entries: list[bytes], said: str) -> None:
    books = audited(*entries)
    assert len(books.faults) == 1
    assert said in books.faults[0]


def test_an_hour_whose_receipts_are_others_is_a_fault() -> None:
    period = closed(FIRST, SECOND)
    (fault,) = audited(*with_prices(FIRST), period.entry).faults
    assert "receipts: asked for 1, found 2" in fault


def test_an_hour_whose_sums_are_wrong_is_a_fault() -> None:
    period = replace(closed(FIRST), idle_uj=IDLE_UJ + 1)
    (fault,) = audited(*with_prices(FIRST), period.entry).faults
    assert fault.startswith(f"entry 2: period {SITE}/gpu/{FIRST_HOUR}: meter_uj")


def test_a_missing_hour_is_a_fault() -> None:
    later = make_receipt(1, FIRST_HOUR + 2)
    first = closed(FIRST)
    second = replace(closed(later), before=first.hash)
    entries = [*with_prices(FIRST), first.entry, later.entry, second.entry]
    (fault,) = audited(*entries).faults
    assert f"hour: asked for {FIRST_HOUR + 1}, found {FIRST_HOUR + 2}" in fault


def test_a_receipt_of_an_hour_that_was_closed_before_is_a_fault() -> None:
    books = audited(*with_prices(FIRST), closed(FIRST).entry, SECOND.entry)
    assert f"its hour {FIRST_HOUR} was closed before" in books.faults[0]
    assert books.open == {}
