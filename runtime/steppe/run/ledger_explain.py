"""Why a receipt says what it says: its price, its energy, its hour, and what was paid for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson

from steppe.errors import UsageError
from steppe.ledger.entries import Movement
from steppe.ledger.periods.closing import closes_us
from steppe.ledger.periods.period import KIND as PERIOD
from steppe.ledger.periods.period import Period
from steppe.ledger.receipt import KIND as RECEIPT
from steppe.ledger.receipt import Receipt
from steppe.ledger.receipts_of import ascii_name
from steppe.ledger.statements.statement import ReceiptShare
from steppe.ledger.store.ledger_store import CHUNK, LedgerStore
from steppe.ledger.tariff import KIND as TARIFF
from steppe.ledger.tariff import Rate, Tariff
from steppe.report.record_folder import each_request, read_ticks
from steppe.report.records import RequestRecord, TickRecord
from steppe.run.ledger_folder import LedgerFolder
from steppe.run.ledger_statement import shares_of_hour


@dataclass(frozen=True, slots=True)
class MeterInterval:
    """What the meter of a replica counted while it had a request.

    Attributes:
        replica: Name of the replica.
        begin_s: When the request arrived, s since the run began.
        end_s: When it ended.
        ticks: Number of ticks of the record that it was in.
        metered_j: Energy of the replica in this time, J.
        output_tokens: Output tokens of the replica in this time.
    """

    replica: str
    begin_s: float
    end_s: float
    ticks: int
    metered_j: float
    output_tokens: float


@dataclass(frozen=True, slots=True)
class Explained:
    """All that is known of a receipt.

    Attributes:
        place: Its place in the log.
        published: Number of entries that the signed log contains.
        receipt: The receipt.
        rate: The rate of its tariff; None without one.
        period: The book of its hour; None while it is open.
        closes_us: When its hour closes, us since the Unix epoch.
        share: What the books of its hour give it.
        movements: What was set aside and paid for it.
        corrections: The corrections of it.
        interval: What the meter of its replica counted; None if the record does not have it.
    """

    place: int
    published: int
    receipt: Receipt
    rate: Rate | None
    period: Period | None
    closes_us: int
    share: ReceiptShare
    movements: tuple[Movement, ...]
    corrections: tuple[Receipt, ...]
    interval: MeterInterval | None


def explain(ledger: LedgerFolder, name: str) -> Explained:
    """Return all that is known of a receipt.

    Args:
        ledger: The ledger.
        name: Id of the receipt, or of its request.

    Raises:
        UsageError: There is none, or a file cannot be read.
    """
    published = 0 if ledger.trust is None else ledger.reader().checkpoint().head.size
    with ledger.opened() as store:
        place, receipt = find_receipt(store, name)
        hour = (receipt.site, receipt.boundary, receipt.hour)
        closed = store.find(PERIOD, "", "/".join(map(str, hour)))
        period = None if closed is None else Period.read(closed[1])
        shares = {} if period is None else shares_of_hour(store, period, receipt.tenant)
        return Explained(
            place,
            published,
            receipt,
            _rate(store, receipt),
            period,
            closes_us(receipt.hour),
            shares[receipt.id].share if receipt.id in shares else ReceiptShare(),
            (*store.movements_of(receipt.id), *store.movements_of(f"{receipt.id}/correction")),
            tuple(corrections_of(store, place, receipt.id)),
            None if ledger.record is None else _interval(ledger.record, receipt),
        )


def find_receipt(store: LedgerStore, name: str) -> tuple[int, Receipt]:
    """Return a receipt by its id, or the last one of a request, and its place.

    Raises:
        UsageError: There is none.
    """
    place = store.place_of(RECEIPT, name)
    if place is not None:
        return place, Receipt.read(store.entries(place, 1)[0])
    found = None
    for place, entry in _entries(store, 0, b'"request":' + orjson.dumps(ascii_name(name))):
        found = (place, Receipt.read(entry))
    if found is None:
        raise UsageError(f"receipt: asked for {name!r:.80}, found none of this id or request")
    return found


def corrections_of(store: LedgerStore, place: int, id_: str) -> Iterator[Receipt]:
    """Yield the corrections of a receipt, which are after its place."""
    for _, entry in _entries(store, place + 1, b'"corrects":' + orjson.dumps(id_)):
        yield Receipt.read(entry)


def _entries(store: LedgerStore, first: int, needle: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield places and bytes of the receipts from a place on that contain some bytes."""
    while entries := store.entries(first, CHUNK):
        for place, entry in enumerate(entries, start=first):
            if needle in entry and b'"kind":"receipt"' in entry:
                yield place, entry
        first += len(entries)


def _rate(store: LedgerStore, receipt: Receipt) -> Rate | None:
    id_, _, number = receipt.tariff.rpartition("/")
    found = store.find(TARIFF, "", id_) if id_ else None
    if found is None:
        return None
    return Tariff.read(found[1]).rates[int(number)]


def _interval(record: Path, receipt: Receipt) -> MeterInterval | None:
    """Return what the record has of the time of a request."""
    rows = [row for row in each_request(record) if _is_of(row, receipt)]
    row = rows[-1] if rows else None
    if row is None or row.replica is None or row.arrival_s is None or row.e2e_s is None:
        return None
    end_s = row.arrival_s + row.e2e_s
    return meter_interval(read_ticks(record), row.replica, row.arrival_s, end_s)


def _is_of(row: RequestRecord, receipt: Receipt) -> bool:
    same = (ascii_name(row.id), ascii_name(row.tenant), row.output_tokens)
    return same == (receipt.request, receipt.tenant, receipt.output_tokens)


def meter_interval(
    ticks: Sequence[TickRecord], replica: str, begin_s: float, end_s: float
) -> MeterInterval:
    """Return what the ticks of a record say of a replica between two times.

    A tick that is only partly in between counts by its part.

    Args:
        ticks: The ticks, in their order.
        replica: Name of the replica.
        begin_s: The first time, s since the run began.
        end_s: The last time.
    """
    count, metered_j, tokens, before_s = 0, 0.0, 0.0, 0.0
    for tick in ticks:
        inside_s = min(end_s, tick.t_s) - max(begin_s, before_s)
        before_s = tick.t_s
        if inside_s <= 0:
            continue
        count += 1
        for one in tick.replicas:
            if one.id == replica:
                metered_j += one.draw_w * inside_s
                tokens += one.output_tps * inside_s
    return MeterInterval(replica, begin_s, end_s, count, metered_j, tokens)
