"""What accounts have and had: their balances and movements, and whether these go together."""

from __future__ import annotations

from collections.abc import Collection

import sqlalchemy as sql

from steppe.ledger.entries import REVENUE, Movement, MovementKind, cause_of, changes_of, held
from steppe.ledger.store.balances import Balance, balance_of
from steppe.ledger.store.movements import movement_of
from steppe.ledger.store.tables import BALANCES, ENTRIES, HOLDS, MOVEMENTS
from steppe.ledger.trades import PACKAGE, TRANSFER, Package, Transfer
from steppe.ledger.units import quote_of

_TRADES = (MovementKind.PURCHASE, MovementKind.PACKAGE, MovementKind.TRANSFER)
CORRECTION = "/correction"
"""What follows the id of a request in the cause of what its corrections move."""


def balances(connection: sql.Connection, account: str | None = None) -> list[Balance]:
    """Return the balances of an account, or of all of them."""
    query = sql.select(BALANCES).order_by(BALANCES.c.account, BALANCES.c.unit)
    if account is not None:
        query = query.where(BALANCES.c.account == account)
    return [balance_of(row) for row in connection.execute(query)]


def history(connection: sql.Connection, account: str, most: int) -> list[tuple[int, Movement]]:
    """Return the last movements of an account with their times, us, newest first."""
    own = (MOVEMENTS.c.taken_from == account) | (MOVEMENTS.c.given_to == account)
    query = sql.select(MOVEMENTS).where(own).order_by(MOVEMENTS.c.seq.desc()).limit(most)
    return [(row.time_us, movement_of(row)) for row in connection.execute(query)]


def movements_of(connection: sql.Connection, name: str) -> list[Movement]:
    """Return the movements that a request or another cause made, all its parts, oldest first."""
    part = MOVEMENTS.c.cause.startswith(cause_of(name, 1).removesuffix("1"), autoescape=True)
    own = sql.select(MOVEMENTS).where((MOVEMENTS.c.cause == name) | part)
    return [movement_of(row) for row in connection.execute(own.order_by(MOVEMENTS.c.seq))]


def payments(connection: sql.Connection) -> list[Movement]:
    """Return what requests have paid and got back, in money and tokens; not tokens of quotes."""
    c = MOVEMENTS.c
    paid = (c.kind == MovementKind.CAPTURE.value) & (c.given_to == REVENUE)
    given_back = (c.kind == MovementKind.REFUND.value) & (c.taken_from == REVENUE)
    rows = connection.execute(sql.select(MOVEMENTS).where(paid | given_back).order_by(c.seq))
    return [each for each in map(movement_of, rows) if quote_of(each.unit) is None]


def request_of(payment: Movement) -> str:
    """Return the request of a payment, or of what a correction of it has moved."""
    return payment.cause.partition("#")[0].removesuffix(CORRECTION)


def audit(connection: sql.Connection) -> list[str]:
    """Return what is wrong: balances that are not the sums of their movements, holds, trades."""
    sums: dict[tuple[str, str], int] = {}
    traded = set[Movement]()
    for movement in map(movement_of, connection.execute(sql.select(MOVEMENTS))):
        for key, change in changes_of([movement]).items():
            sums[key] = sums.get(key, 0) + change
        if movement.kind in _TRADES:
            traded.add(movement)
    held_for: dict[tuple[str, str], int] = {}
    for row in connection.execute(sql.select(HOLDS)):
        key = (held(row.tenant), row.unit)
        held_for[key] = held_for.get(key, 0) + row.amount
    wrong = _trades_not_done(connection, traded)
    for each in balances(connection):
        key = (each.account, each.unit)
        if each.balance != sums.pop(key, 0):
            wrong.append(f"{each.account}: its balance is not the sum of its movements")
        if each.account.endswith("/held") and each.balance != held_for.pop(key, 0):
            wrong.append(f"{each.account}: its balance is not the sum of its holds")
    wrong += [f"{account}: asked for its balance, found none" for account, _ in sums]
    return wrong + [f"{account}: asked for its balance, found none" for account, _ in held_for]


def _trades_not_done(connection: sql.Connection, done: Collection[Movement]) -> list[str]:
    """Return what is wrong with logged packages and transfers: that nothing was moved so."""
    c = ENTRIES.c
    logged = sql.select(c.kind, c.id, c.bytes).where(c.kind.in_([PACKAGE, TRANSFER]))
    wrong = []
    for row in connection.execute(logged.order_by(c.seq)):
        made = Package.read(row.bytes) if row.kind == PACKAGE else Transfer.read(row.bytes)
        if not all(movement in done for movement in made.movements):
            wrong.append(f"{row.kind} {row.id}: asked for its movements, found others")
    return wrong
