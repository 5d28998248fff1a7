"""Periods: the book of an hour closes, adds up, and no change of it goes unseen."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.ledger.test_receipt import RECEIPT

from steppe.errors import UsageError
from steppe.ledger.periods.checking import check_chain, check_period
from steppe.ledger.periods.closing import (
    HOUR_US,
    Counters,
    check_open,
    close_hour,
    closes_us,
    last_closed,
)
from steppe.ledger.periods.period import Meter, Period, PeriodError
from steppe.ledger.receipt import Receipt, canonical

HOUR = RECEIPT.hour
LATE_US = closes_us(HOUR + 100)
METERS = (Meter.between("gpu0", 5_000, 905_000), Meter.between("gpu1", 0, 100_000))


def receipt(seq: int, energy_uj: int, hour: int = HOUR, **changes: Any) -> Receipt:
    named: dict[str, Any] = {"id": f"id-{seq}", "seq": seq, "energy_uj": energy_uj, "hour": hour}
    return replace(RECEIPT, **(named | changes))


RECEIPTS = (receipt(0, 300_000), receipt(1, 200_000), receipt(2, 1_001))
COUNTERS = Counters("hohhot", "gpu", HOUR, METERS, 100_001, 50_000, 20_000)
FIRST = close_hour(COUNTERS, RECEIPTS, None, LATE_US)
NEXT_RECEIPTS = (
    receipt(3, 70_000, HOUR + 1),
    receipt(4, -9_000, HOUR + 1, corrects="id-0"),
    receipt(5, 30_000, HOUR + 1),
)
NEXT_COUNTERS = Counters(
    "hohhot",
    "gpu",
    HOUR + 1,
    (Meter.between("gpu0", 905_000, 1_100_000), Meter.between("gpu1", 100_000, 130_000)),
    11_111,
    2_222,
    3_333,
)
NEXT = close_hour(NEXT_COUNTERS, NEXT_RECEIPTS, FIRST, LATE_US)


def test_a_period_is_read_back_from_its_bytes() -> None:
    assert Period.read(NEXT.entry) == NEXT


def test_what_nothing_explains_is_unclaimed() -> None:
    assert FIRST.meter_uj == 1_000_000
    assert FIRST.unclaimed_uj == 1_000_000 - 501_001 - 100_001 - 50_000 - 20_000
    assert NEXT.unclaimed_uj == 225_000 - 100_000 + 9_000 - 11_111 - 2_222 - 3_333
    assert check_period(FIRST.entry, RECEIPTS) == FIRST
    assert check_period(NEXT.entry, NEXT_RECEIPTS, FIRST.entry) == NEXT


def test_what_open_requests_have_taken_is_carried_to_the_next_hour() -> None:
    first = close_hour(replace(COUNTERS, carried_out_uj=40_000), RECEIPTS, None, LATE_US)
    assert first.unclaimed_uj == FIRST.unclaimed_uj - 40_000
    counters = replace(NEXT_COUNTERS, carried_in_uj=40_000, carried_out_uj=5)
    then = close_hour(counters, NEXT_RECEIPTS, first, LATE_US)
    assert then.unclaimed_uj == NEXT.unclaimed_uj + 40_000 - 5
    check_chain([first.entry, then.entry])
    with pytest.raises(PeriodError, match="carried_in_uj, what the hour before has carried out"):
        close_hour(NEXT_COUNTERS, NEXT_RECEIPTS, first, LATE_US)
    with pytest.raises(PeriodError, match="carried_in_uj of the first period"):
        close_hour(replace(COUNTERS, carried_in_uj=1), RECEIPTS, None, LATE_US)


def test_the_order_of_the_receipts_does_not_matter() -> None:
    assert check_period(FIRST.entry, RECEIPTS[::-1]) == FIRST


@settings(max_examples=30)
@given(
    st.lists(st.integers(0, 10**12), max_size=8),
    st.lists(st.integers(-(10**9), 10**9), max_size=3),
    st.tuples(*[st.integers(0, 10**12)] * 4),
)
def test_every_hour_adds_up_to_its_meters(
    energies: list[int], differences: list[int], rest: tuple[int, int, int, int]
) -> None:
    idle_uj, transition_uj, waste_uj, unclaimed_uj = rest
    receipts = [receipt(seq, energy_uj) for seq, energy_uj in enumerate(energies)]
    receipts += [
        receipt(seq, energy_uj, corrects="old") for seq, energy_uj in enumerate(differences, 100)
    ]
    own_uj = sum(energies) + max(0, -sum(differences))
    meter = Meter.between("site", 7, 7 + own_uj + sum(rest))
    counters = Counters("hohhot", "gpu", HOUR, (meter,), idle_uj, transition_uj, waste_uj)
    period = close_hour(counters, receipts, None, LATE_US)
    assert check_period(period.entry, receipts) == period
    assert period.claimed_uj + period.unclaimed_uj == meter.energy_uj
    assert period.unclaimed_uj + max(0, sum(differences)) >= unclaimed_uj


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the paths to all values of an entry."""
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    found = []
    for name, each in inner:
        here = (*path, name)
        found += places(each, here) if isinstance(each, dict | list) else [here]
    return found


def changed(value: int | str, by: int) -> int | str:
    """Return another value of the same type; of a text, one letter is another."""
    if isinstance(value, int):
        return value + by
    place = by % len(value)
    return value[:place] + chr(ord(value[place]) ^ 1) + value[place + 1 :]


@pytest.mark.parametrize("path", places(orjson.loads(NEXT.entry)))
@settings(max_examples=8)
@given(by=st.integers(-(10**7), 10**7).filter(lambda by: by != 0))
def test_a_change_of_any_field_is_found(path: tuple[Any, ...], by: int) -> None:
    values = orjson.loads(NEXT.entry)
    inner = values
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = changed(inner[path[-1]], by)
    with pytest.raises(UsageError, match="period"):
        check_period(canonical(values), NEXT_RECEIPTS, FIRST.entry)


@pytest.mark.parametrize("name", sorted(asdict(RECEIPT)))
def test_a_change_of_any_field_of_a_receipt_is_found(name: str) -> None:
    for which in NEXT_RECEIPTS:
        value = getattr(which, name)
        change: dict[str, Any] = {name: "x" if value == "" else changed(value, 1)}
        other = replace(which, **change)
        receipts = [other if each is which else each for each in NEXT_RECEIPTS]
        with pytest.raises(PeriodError):
            check_period(NEXT.entry, receipts, FIRST.entry)


@pytest.mark.parametrize(
    ("receipts", "found"),
    [
        (RECEIPTS[1:], "receipts: asked for 2, found 3"),
        ((*RECEIPTS, RECEIPTS[0]), "receipt id-0: asked for it once, found it twice"),
        ((*RECEIPTS[:2], receipt(2, 1_002)), "receipts_uj: asked for 501002, found 501001"),
        ((*RECEIPTS[:2], receipt(9, 1_001)), "root of its receipts and shares"),
        ((*RECEIPTS, receipt(3, 1, corrects="id-0")), "corrections: asked for 1, found 0"),
        ((receipt(0, 1, site="baotou"),), "receipt id-0: site: asked for baotou, found hohhot"),
        ((receipt(0, 1, boundary="node"),), "boundary: asked for node, found gpu"),
        ((receipt(0, 1, HOUR + 1),), "hour: asked for 490001, found 490000"),
    ],
)
def test_other_receipts_are_not_those_of_a_period(
    receipts: tuple[Receipt, ...], found: str
) -> None:
    with pytest.raises(PeriodError, match=found):
        check_period(FIRST.entry, receipts)


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"meters": METERS[::-1]}, "asked for meters by name, each once, found gpu1, gpu0"),
        ({"meters": ()}, "meter_uj, the sum of its meters: asked for 0, found 1000000"),
        ({"meters": (Meter.between("gpu0", 9, 8),)}, "gpu0: asked for rising readings, found 9"),
        ({"meters": (Meter("gpu0", 1, 9, 9),)}, "gpu0: end less start: asked for 8, found 9"),
        ({"idle_uj": 100_000}, "the sum of receipts, idle, .*: asked for 999999, found 1000000"),
        ({"waste_uj": -1}, "waste_uj: asked for at least 0, found -1"),
        ({"before": NEXT.hash}, "asked for the first period of its site, found"),
        ({"root": "ab"}, "root: asked for a SHA-256, found 'ab'"),
        ({"before": "x"}, "before: asked for a SHA-256, found 'x'"),
    ],
)
def test_the_first_thing_that_does_not_hold_is_named(changes: dict[str, Any], found: str) -> None:
    with pytest.raises(UsageError, match=found):
        check_period(replace(FIRST, **changes).entry, RECEIPTS)


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"meters": {}}, "meters: asked for a list, found {}"),
        ({"meters": [3]}, r"meters\[0\]: asked for its 4 fields, found 3 amiss"),
        ({"meters": [{"name": "a"}]}, "found end_uj, energy_uj, start_uj amiss"),
        ({"colour": 1}, "found colour amiss"),
        ({"hour": "1"}, "period.hour: asked for int, found '1'"),
        ({"kind": "receipt"}, "asked for version 1 of it, found 'receipt'"),
    ],
)
def test_other_bytes_are_no_period(changes: dict[str, Any], found: str) -> None:
    with pytest.raises(UsageError, match=found):
        Period.read(canonical(orjson.loads(FIRST.entry) | changes))


def test_an_hour_closes_two_hours_after_its_start() -> None:
    now_us = (HOUR + 2) * HOUR_US
    assert last_closed(now_us) == HOUR
    assert last_closed(now_us - 1) == HOUR - 1
    assert close_hour(COUNTERS, RECEIPTS, None, now_us) == FIRST
    with pytest.raises(PeriodError, match=f"asked to close hour {HOUR}, found it open until"):
        close_hour(COUNTERS, RECEIPTS, None, now_us - 1)


def test_a_receipt_is_written_until_its_hour_closes_and_a_correction_in_its_own() -> None:
    now_us = (HOUR + 2) * HOUR_US
    check_open(receipt(0, 1), now_us - 1)
    with pytest.raises(PeriodError, match=r"receipt id-0: asked for .* 490000, found 490001 to"):
        check_open(receipt(0, 1), now_us)
    with pytest.raises(PeriodError, match=r"asked for .* 490003, found 490001 to 490002 open"):
        check_open(receipt(0, 1, HOUR + 3), now_us)
    check_open(receipt(0, 1, HOUR + 2, corrects="a"), now_us)
    with pytest.raises(PeriodError, match=r"correction id-0: .* found 490002 to 490002 open"):
        check_open(receipt(0, 1, HOUR + 1, corrects="a"), now_us)


def test_more_than_the_meters_counted_is_refused() -> None:
    with pytest.raises(PeriodError, match=r"at most the 1000000 uJ .*, found 1170001 uJ claimed"):
        close_hour(COUNTERS, [receipt(0, 1_000_000)], None, LATE_US)


def test_a_receipt_below_zero_is_refused_unless_it_corrects() -> None:
    with pytest.raises(PeriodError, match="receipt id-1: asked for at least 0 uJ, found -5"):
        close_hour(COUNTERS, [receipt(0, 3), receipt(1, -5)], None, LATE_US)
    with pytest.raises(PeriodError, match="idle_uj: asked for at least 0, found -1"):
        close_hour(replace(COUNTERS, idle_uj=-1), RECEIPTS, None, LATE_US)


def test_a_correction_gives_out_what_earlier_hours_left() -> None:
    left_uj = FIRST.unclaimed_uj
    corrections = [receipt(3, left_uj, HOUR + 1, corrects="id-0")]
    counters = Counters("hohhot", "gpu", HOUR + 1)
    period = close_hour(counters, corrections, FIRST, LATE_US)
    assert period.unclaimed_uj == -left_uj
    assert check_chain([FIRST.entry, period.entry]) == 0


def test_corrections_give_out_no_more_than_was_left() -> None:
    corrections = [receipt(3, FIRST.unclaimed_uj + 1, HOUR + 1, corrects="id-0")]
    period = close_hour(Counters("hohhot", "gpu", HOUR + 1), corrections, FIRST, LATE_US)
    with pytest.raises(PeriodError, match=r"corrections of 328999 uJ, found 1 uJ too much"):
        check_chain([FIRST.entry, period.entry])


def chain(length: int) -> list[Period]:
    periods = [FIRST, NEXT]
    while len(periods) < length:
        counters = Counters("hohhot", "gpu", HOUR + len(periods))
        periods.append(close_hour(counters, (), periods[-1], LATE_US))
    return periods


def test_a_meter_that_is_gone_is_written_once_more() -> None:
    after, last = chain(4)[2:]
    assert after.meters == (
        Meter.between("gpu0", 1_100_000, 1_100_000),
        Meter.between("gpu1", 130_000, 130_000),
    )
    assert last.meters == ()


def test_a_whole_chain_holds() -> None:
    unclaimed_uj = FIRST.unclaimed_uj + NEXT.unclaimed_uj
    assert check_chain([each.entry for each in chain(6)]) == unclaimed_uj
    assert check_chain([]) == 0


@pytest.mark.parametrize(
    ("order", "found"),
    [
        ((0, 1, 3, 4), "490003: hour: asked for 490002, found 490003"),
        ((0, 2, 1, 3), "490002: hour: asked for 490001, found 490002"),
        ((0, 0), "hour: asked for 490001, found 490000"),
        ((1, 2), "asked for the first period of its site, found"),
    ],
)
def test_a_gap_or_a_changed_order_is_seen(order: tuple[int, ...], found: str) -> None:
    periods = chain(5)
    with pytest.raises(PeriodError, match=found):
        check_chain([periods[place].entry for place in order])


def test_a_period_that_was_replaced_is_seen_by_the_next() -> None:
    other = close_hour(replace(COUNTERS, idle_uj=100_000), RECEIPTS, None, LATE_US)
    with pytest.raises(PeriodError, match="before, the hash of the hour before"):
        check_chain([other.entry, NEXT.entry])


def test_a_meter_goes_on_where_it_was() -> None:
    counters = replace(NEXT_COUNTERS, meters=(Meter.between("gpu0", 905_001, 1_100_000),))
    with pytest.raises(PeriodError, match=r"gpu0: start, .*: asked for 905000, found 905001"):
        close_hour(counters, NEXT_RECEIPTS, FIRST, LATE_US)
    lost = replace(NEXT, meters=NEXT.meters[:1], meter_uj=195_000)
    lost = replace(lost, unclaimed_uj=195_000 - lost.claimed_uj)
    with pytest.raises(PeriodError, match="asked for meter gpu1 of the hour before, found gpu0"):
        check_period(lost.entry, NEXT_RECEIPTS, FIRST.entry)
