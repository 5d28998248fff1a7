"""Corrections: a receipt that says what changes, and its money, in one transaction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count

from steppe.errors import UsageError
from steppe.ledger.entries import REVENUE, Movement, MovementKind, available, cause_of, refunded
from steppe.ledger.receipt import KIND as RECEIPT
from steppe.ledger.receipt import Receipt
from steppe.ledger.store.accounts import CORRECTION
from steppe.ledger.store.admission import parts_of, purses_of, usable_of
from steppe.ledger.store.balances import TooLowError
from steppe.ledger.store.log_entries import LogEntry
from steppe.ledger.store.transaction import Transaction
from steppe.ledger.units import currency_of, quote_of, series_end_us

_SAME = ("tenant", "tariff", "currency")


def correct(books: Transaction, correction: Receipt, now_us: int) -> Sequence[Movement]:
    """Log a correction, and give back, or charge, what it changes; return what was moved.

    At most as much is given back as was paid for the request. It goes to where it came from; for
    tokens that have run out since, to tokens without an end. The same correction again moves
    nothing. A tenant without an account pays and gets nothing: its statement adds it up.

    Args:
        books: The transaction.
        correction: The receipt; `corrects` names another one.
        now_us: The time, us since the Unix epoch.

    Raises:
        ConflictError: Another receipt has this id.
        TooLowError: It is to be charged, and the tenant has not so much.
        UsageError: It corrects no receipt of this tenant, rate and currency.
    """
    _check_corrected(books, correction)
    entry = LogEntry(RECEIPT, correction.id, correction.tenant, now_us, correction.entry)
    if not books.entries.new_of([entry]):
        return ()
    if correction.amount_nano < 0:
        moved = _refunds(books, correction, now_us)
    else:
        moved = _charges(books, correction, now_us)
    if moved:
        books.move(moved, now_us)
    books.add([entry])
    return moved


def _check_corrected(books: Transaction, correction: Receipt) -> None:
    what = f"receipt {correction.id}: asked to correct {correction.corrects or 'none'}"
    entry = books.entries.find(RECEIPT, correction.corrects)
    if entry is None:
        raise UsageError(f"{what}, found no such receipt")
    corrected = Receipt.read(entry)
    if corrected.corrects:
        raise UsageError(f"{what}, found a correction")
    for name in _SAME:
        own, found = getattr(correction, name), getattr(corrected, name)
        if own != found:
            raise UsageError(f"{what} of {name} {own or 'none'}, found {found or 'none'}")


def _refunds(books: Transaction, correction: Receipt, now_us: int) -> list[Movement]:
    """Return what is given back: of what was paid, the last part first."""
    before = list(_corrected(books, correction.corrects))
    paid = [
        *_paid(books, correction.corrects),
        *(x for x in before if x.kind is MovementKind.CAPTURE),
    ]
    given = sum(each.amount for each in before if each.kind is MovementKind.REFUND)
    rest, moved = -correction.amount_nano, list[Movement]()
    for each in reversed(paid):
        skipped = min(given, each.amount)
        given -= skipped
        amount = min(rest, each.amount - skipped)
        if amount:
            rest -= amount
            unit = _valid(each.unit, now_us)
            cause = _cause(correction.corrects, len(before) + len(moved))
            moved.append(refunded(cause, correction.tenant, unit, amount))
    return moved


def _charges(books: Transaction, correction: Receipt, now_us: int) -> list[Movement]:
    """Return what is charged.

    Raises:
        TooLowError: The tenant has not so much.
    """
    own, first = available(correction.tenant), len(list(_corrected(books, correction.corrects)))
    purses = purses_of(books, correction.tenant, correction.currency)
    if not purses:
        return []
    usable = usable_of(purses, now_us)
    parts = parts_of(usable, correction.amount_nano)
    if parts is None:
        free = sum(each.free for each in usable)
        raise TooLowError(own, correction.currency, correction.amount_nano, free)
    return [
        Movement(
            _cause(correction.corrects, first + number),
            MovementKind.CAPTURE,
            own,
            REVENUE,
            unit,
            amount,
        )
        for number, (unit, amount) in enumerate(parts)
    ]


def _paid(books: Transaction, request: str) -> Iterator[Movement]:
    """Return what a request has paid, without the tokens of a quote."""
    for part in count():
        found = books.movements.find(cause_of(request, part), MovementKind.CAPTURE)
        if found is not None and quote_of(found.unit) is None:
            yield found
        elif books.movements.find(cause_of(request, part), MovementKind.HOLD) is None:
            return


def _corrected(books: Transaction, request: str) -> Iterator[Movement]:
    """Return what corrections of a request have moved, in order."""
    number = 0
    while True:
        named = (books.movements.find(_cause(request, number), kind) for kind in _KINDS)
        found = next((each for each in named if each is not None), None)
        if found is None:
            return
        yield found
        number += 1


_KINDS = (MovementKind.REFUND, MovementKind.CAPTURE)


def _cause(request: str, number: int) -> str:
    return cause_of(f"{request}{CORRECTION}", number)


def _valid(unit: str, now_us: int) -> str:
    """Return a unit, or that of tokens without an end if it has run out."""
    end_us = series_end_us(unit)
    return unit if end_us is None or now_us < end_us else currency_of(unit)
