"""Packages of tokens and quotes: how they come into accounts, change hands, and run out."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sql

from steppe.errors import UsageError
from steppe.ledger.entries import (
    Movement,
    MovementKind,
    cause_of,
    package_expired,
    quote_issued,
)
from steppe.ledger.quote import KIND as QUOTE
from steppe.ledger.quote import Quote
from steppe.ledger.store.balances import Balance
from steppe.ledger.store.log_entries import LogEntry
from steppe.ledger.store.tables import BALANCES
from steppe.ledger.store.transaction import Transaction
from steppe.ledger.tariff import KIND as TARIFF
from steppe.ledger.trades import PACKAGE, TRANSFER, Package, Transfer
from steppe.ledger.units import is_money, quote_of, series_end_us


def trade(books: Transaction, made: Package | Transfer, now_us: int) -> bool:
    """Carry out a purchase or a transfer, and log it; return whether it is new.

    Raises:
        ConflictError: Another one has this id.
        TooLowError: The tenant that gives has not so much.
        UsageError: The tokens have run out already, or are not paid with money.
    """
    match made:
        case Package(id=id_, currency=currency) if not is_money(currency):
            raise UsageError(f"package {id_}: asked for a price in money, found {currency}")
        case Package():
            kind, tenant = PACKAGE, made.tenant
        case Transfer():
            kind, tenant = TRANSFER, made.giver
    check_valid(made.unit, now_us)
    entry = LogEntry(kind, made.id, tenant, now_us, made.entry)
    if not books.entries.new_of([entry]):
        return False
    books.move(made.movements, now_us)
    books.add([entry])
    return True


def check_valid(unit: str, now_us: int) -> None:
    """Refuse a series that has run out.

    Raises:
        UsageError: It has.
    """
    end_us = series_end_us(unit)
    if end_us is not None and end_us <= now_us:
        raise UsageError(f"{unit}: asked for tokens that are valid, found their day over")


def issue_quote(books: Transaction, quote: Quote, now_us: int) -> bool:
    """Log an offer and open its tokens, so that it is honoured; return whether it is new.

    Raises:
        ConflictError: Another quote has this id.
        UsageError: Its tariff is not in the log.
    """
    tariff = quote.tariff.rpartition("/")[0]
    if books.entries.find(TARIFF, tariff) is None:
        raise UsageError(f"quote {quote.id}: asked for tariff {tariff}, found none in the log")
    entry = LogEntry(QUOTE, quote.id, quote.tenant, now_us, quote.entry)
    if not books.entries.new_of([entry]):
        return False
    books.move([quote_issued(quote.id, quote.tenant, quote.tokens)], now_us)
    books.add([entry])
    return True


def run_out(connection: sql.Connection, now_us: int) -> list[tuple[str, str]]:
    """Return accounts and units of tenants of which something has, or may have, run out."""
    c = BALANCES.c
    ends = c.unit.like("tokens:%@%") | c.unit.like("quote:%")
    query = sql.select(c.account, c.unit).where(c.balance > 0, c.account.like("tenant/%/available"))
    found = [(row.account, row.unit) for row in connection.execute(query.where(ends))]
    return [key for key in found if _may_be_over(key[1], now_us)]


def expire(books: Transaction, keys: Sequence[tuple[str, str]], now_us: int) -> int:
    """Take what has run out from accounts of tenants; return from how many.

    What is held stays until its request ends; what is given back then runs out the next time.

    Args:
        books: The transaction.
        keys: The accounts and units.
        now_us: The time, us since the Unix epoch.
    """
    books.balances.load(keys)
    books.entries.load(QUOTE, [quote for _, unit in keys if (quote := quote_of(unit)) is not None])
    over = [each for key in keys if (each := _over(books, key, now_us)) is not None]
    for each in over:
        books.move([_expiry(books, each)], now_us)
    return len(over)


def _over(books: Transaction, key: tuple[str, str], now_us: int) -> Balance | None:
    """Return what has run out of an account; None if nothing has."""
    found = books.balances.find(*key)
    quote = quote_of(key[1])
    end_us = series_end_us(key[1])
    if quote is not None and (entry := books.entries.find(QUOTE, quote)) is not None:
        end_us = Quote.read(entry).until_us
    is_over = end_us is not None and end_us <= now_us
    return found if found is not None and found.balance > 0 and is_over else None


def _expiry(books: Transaction, found: Balance) -> Movement:
    """Return the movement of what has run out, with a name of its own."""
    name, number = f"{found.account}/{found.unit}", 0
    while books.movements.find(cause_of(name, number), MovementKind.EXPIRE) is not None:
        number += 1
    return package_expired(cause_of(name, number), found.account, found.unit, found.balance)


def _may_be_over(unit: str, now_us: int) -> bool:
    end_us = series_end_us(unit)
    return quote_of(unit) is not None or (end_us is not None and end_us <= now_us)
