"""What is in a ledger after its process was killed many times, against what it has acknowledged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ledger_load import CURRENCY, DEPOSITS, MadeRun, price_nano
from ledger_process import SITE
from steppe.ledger.audit.book_audit import BookAudit, kind_of
from steppe.ledger.entries import available, held
from steppe.ledger.log.audit import check_log
from steppe.ledger.log.log import LogReader
from steppe.ledger.periods.period import KIND as PERIOD
from steppe.ledger.periods.period import Period
from steppe.ledger.receipt import KIND as RECEIPT
from steppe.ledger.receipt import Receipt
from steppe.ledger.signing import PublicKey
from steppe.ledger.store.ledger_store import LedgerStore
from steppe.ledger.tree import Head, ProofError, check_consistency

CHUNK = 10_000


@dataclass
class Verdict:
    """What was found.

    Attributes:
        lost: Acknowledged requests without a receipt.
        doubled: Receipts, or entries of the store, that are there more than once.
        wrong: Receipts that do not say what was booked, or are of no booking.
        changed: Receipts that were shown with other bytes before.
        balances: Accounts whose balance is not what was paid in less what its receipts cost.
        heads: Heads of the log that were shown before and are not a begin of it.
        faults: What the audits of the store, of the log and of its books have found.
        entries: Entries of the log by kind.
        meter_uj: Sum of the meters of all periods, uJ.
    """

    lost: int = 0
    doubled: int = 0
    wrong: int = 0
    changed: int = 0
    balances: int = 0
    heads: int = 0
    faults: list[str] = field(default_factory=list)
    entries: dict[str, int] = field(default_factory=dict)
    meter_uj: int = 0


def verdict_of(
    folder: Path, run: MadeRun, shown: Mapping[str, bytes], heads: Sequence[Head]
) -> Verdict:
    """Look at a ledger whose run has ended and whose hours are all closed.

    Args:
        folder: Its folder.
        run: What was asked of it, and what it has acknowledged.
        shown: Receipts that it has shown, by id.
        heads: Heads of its log that it has shown.
    """
    store = LedgerStore(str(folder / "ledger.db"))
    key = PublicKey.read((folder / "log.pub").read_text())
    log = LogReader(folder / "log", SITE, [key])
    entries = [log.entry(place) for place in range(log.checkpoint().head.size)]
    found = Verdict(entries=dict(Counter(map(kind_of, entries))))
    found.doubled = len(entries) - len(set(entries))
    _check_books(found, folder / "log", log, entries)
    if entries != _all_entries(store):
        found.faults.append("the log does not have the entries of the store")
    found.faults += store.audit()
    found.heads = sum(not _is_begin(log, head) for head in heads)
    receipts = [Receipt.read(each) for each in entries if kind_of(each) == RECEIPT]
    _check_receipts(found, run, receipts, shown)
    _check_balances(found, run, store)
    periods = [Period.read(each) for each in entries if kind_of(each) == PERIOD]
    found.meter_uj = sum(m.end_uj - m.start_uj for each in periods for m in each.meters)
    store.close()
    return found


def _check_books(found: Verdict, folder: Path, log: LogReader, entries: Sequence[bytes]) -> None:
    """Check every tile of the log, and what its entries say against each other."""
    try:
        check_log(folder, log.checkpoint(), lambda _: None)
    except ProofError as error:
        found.faults.append(str(error))
    audit = BookAudit(log.entry)
    for place, entry in enumerate(entries):
        audit.take(place, entry)
    found.faults += audit.faults


def _check_receipts(
    found: Verdict, run: MadeRun, receipts: Sequence[Receipt], shown: Mapping[str, bytes]
) -> None:
    by_id = {each.id: each for each in receipts}
    found.doubled += len(receipts) - len(by_id)
    found.lost = sum(each.id not in by_id for each in run.booked)
    found.wrong = len(by_id.keys() - run.ended.keys())
    for each in run.booked:
        receipt, failed = by_id.get(each.id), each.finish == "error"
        if receipt is None:
            continue
        said = (receipt.tenant, receipt.tariff, receipt.amount_nano, receipt.energy_uj)
        energy_uj = 0 if failed else each.energy_uj
        found.wrong += said != (each.tenant, each.terms, price_nano(each), energy_uj)
        found.wrong += receipt.output_tokens != (0 if failed else each.output_tokens)
    for id_, entry in shown.items():
        found.changed += id_ not in by_id or by_id[id_].entry != entry


def _check_balances(found: Verdict, run: MadeRun, store: LedgerStore) -> None:
    spent: Counter[str] = Counter()
    for each in run.booked:
        spent[each.tenant] += price_nano(each)
    for tenant, paid in DEPOSITS.items():
        balances = {
            each.account: each.balance
            for account in (available(tenant), held(tenant))
            for each in store.balances(account)
            if each.unit == CURRENCY
        }
        left = paid - spent[tenant]
        found.balances += balances != {available(tenant): left, held(tenant): 0} or left < 0


def _all_entries(store: LedgerStore) -> list[bytes]:
    found: list[bytes] = []
    while more := store.entries(len(found), CHUNK):
        found += more
    return found


def _is_begin(log: LogReader, head: Head) -> bool:
    """Return whether a log begins with the entries of an earlier head of it."""
    now = log.checkpoint().head
    try:
        check_consistency(head, now, log.consistency(head.size, now.size))
    except ProofError:
        return False
    return True
