"""A correction of a receipt and its refund, in one transaction of the store."""

from __future__ import annotations

from dataclasses import dataclass

from steppe.errors import UsageError
from steppe.ledger.corrections import Right, Written, correction_of
from steppe.ledger.entries import Movement
from steppe.ledger.periods.closing import HOUR_US, hour_of
from steppe.ledger.receipt import Receipt
from steppe.ledger.store import corrections
from steppe.ledger.store.books import keep_hour, next_numbers, open_hour
from steppe.ledger.store.ledger_store import LedgerStore
from steppe.ledger.tariff import KIND as TARIFF
from steppe.ledger.tariff import Tariff
from steppe.run.ledger_explain import corrections_of, find_receipt


@dataclass(frozen=True, slots=True)
class Corrected:
    """What a correction did.

    Attributes:
        receipt: The correction.
        refunds: What was given back.
    """

    receipt: Receipt
    refunds: tuple[Movement, ...] = ()


def correct(store: LedgerStore, name: str, right: Right, now_us: int) -> Corrected:
    """Write the correction that makes a receipt say what is right, and give back what it cost.

    No more is given back than was taken for the receipt. A tenant that pays by its statement gets
    the correction as a line of it.

    Args:
        store: The store.
        name: Id of the receipt, or of its request.
        right: What the receipt should have said.
        now_us: The time, us since the Unix epoch.

    Raises:
        UsageError: There is no such receipt, or this is no correction of it.
        ConflictError: Another process has corrected it meanwhile.
    """
    place, receipt = find_receipt(store, name)
    earlier = list(corrections_of(store, place, receipt.id))
    tariff = _tariff(store, receipt)
    id_ = f"{receipt.id}.c{len(earlier) + 1}"
    correction_of(receipt, earlier, right, tariff, Written(id_, 0, 0))  # refused before it is begun
    with store.transaction() as transaction:
        seq = next_numbers(transaction, receipt.site, 1)
        hour = open_hour(transaction.connection, receipt.site, receipt.boundary, hour_of(now_us))
        keep_hour(transaction, hour)
        made = correction_of(receipt, earlier, right, tariff, Written(id_, seq, hour.hour))
        inside_us = min(max(now_us, hour.hour * HOUR_US), (hour.hour + 1) * HOUR_US - 1)
        return Corrected(made, tuple(corrections.correct(transaction, made, inside_us)))


def _tariff(store: LedgerStore, receipt: Receipt) -> Tariff | None:
    """Return the tariff of a receipt; None if it names none."""
    id_ = receipt.tariff.rpartition("/")[0]
    found = store.find(TARIFF, "", id_) if id_ else None
    if id_ and found is None:
        raise UsageError(f"receipt {receipt.id}: asked for its tariff {id_}, found none")
    return None if found is None else Tariff.read(found[1])
