"""Balances and movements: exact under any interleaving, and each movement once.

A movement is named by its cause and kind. The same one again changes nothing; another one of that
name is a conflict. Balances have floors, which the database keeps: 0 for a tenant that pays before,
less for one with credit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import sqlalchemy as sql
from sqlalchemy.dialects import postgresql, sqlite

from steppe.database import Database
from steppe.errors import SteppeError
from steppe.ledger.entries import Hold, Kind, Movement, available, changes_of, held
from steppe.ledger.store.tables import BALANCES, HOLDS, MOVEMENTS

_ASKED = 500
"""Most names in one statement."""


class ConflictError(SteppeError):
    """Another movement has this name already: the same cause and kind, with another content."""


class TooLowError(SteppeError):
    """A balance would fall below its floor.

    Attributes:
        account: The account.
        unit: The unit.
        free: What it may still give.
    """

    def __init__(self, account: str, unit: str, asked: int, free: int) -> None:
        super().__init__(f"{account}: asked for {asked} {unit}, found {free} free")
        self.account, self.unit, self.free = account, unit, free


@dataclass(frozen=True, slots=True)
class Balance:
    """What an account has of a unit.

    Attributes:
        account: The account.
        unit: The unit.
        balance: How much.
        floor: The lowest that it may be; None without a limit.
    """

    account: str
    unit: str
    balance: int
    floor: int | None


class Accounts:
    """The part of the store with balances; all calls are within a transaction of the caller."""

    def __init__(self, database: Database) -> None:
        """Use a database."""
        self._database = database
        self._insert = sqlite.insert if database.is_sqlite else postgresql.insert

    def open(self, connection: sql.Connection, tenant: str, unit: str, credit: int) -> None:
        """Give a tenant an account, or change its credit.

        Args:
            connection: A transaction that writes.
            tenant: The tenant.
            unit: What it holds.
            credit: How far below 0 it may fall.

        Raises:
            TooLowError: It is below that already.
        """
        for account, floor in ((available(tenant), -credit), (held(tenant), 0)):
            found = self._locked(connection, [(account, unit)])[account, unit]
            if found.balance < floor:
                raise TooLowError(account, unit, 0, found.balance - floor)
            self._update(connection, account, unit, {"floor": floor})

    def move(self, connection: sql.Connection, movements: Sequence[Movement], now_us: int) -> bool:
        """Carry out movements, all or none; return whether they are new.

        Raises:
            ConflictError: One of that name with another content was carried out.
            TooLowError: A balance would fall below its floor.
        """
        known = [self._is_known(connection, each) for each in movements]
        if all(known):
            return False
        if any(known):
            names = ", ".join(f"{each.kind} {each.cause}" for each in movements)
            raise ConflictError(f"{names}: asked for all of them, found a part carried out")
        self._carry_out(connection, movements, now_us)
        return True

    def hold(self, connection: sql.Connection, hold: Hold, movement: Movement, now_us: int) -> bool:
        """Set something aside; return whether it is new.

        Raises:
            ConflictError: Another hold of that request was set aside.
            TooLowError: The tenant has not so much.
        """
        if not self.move(connection, [movement], now_us):
            return False
        connection.execute(sql.insert(HOLDS), asdict(hold))
        return True

    def hold_of(self, connection: sql.Connection, request: str) -> Hold | None:
        """Return what is set aside for a request; None if nothing is."""
        row = connection.execute(sql.select(HOLDS).where(HOLDS.c.request == request)).first()
        return None if row is None else Hold(**row._mapping)

    def end_hold(
        self, connection: sql.Connection, hold: Hold, movements: Sequence[Movement], now_us: int
    ) -> bool:
        """Carry out the movements at the end of a hold, and forget it; whether they are new."""
        is_new = not movements or self.move(connection, movements, now_us)
        connection.execute(sql.delete(HOLDS).where(HOLDS.c.request == hold.request))
        return is_new

    def holds_of(self, connection: sql.Connection, requests: Sequence[str]) -> list[Hold]:
        """Return what is set aside for requests."""
        found: list[Hold] = []
        for begin in range(0, len(requests), _ASKED):
            these = HOLDS.c.request.in_(requests[begin : begin + _ASKED])
            rows = connection.execute(sql.select(HOLDS).where(these))
            found += [Hold(*row) for row in rows]
        return found

    def end_holds(
        self,
        connection: sql.Connection,
        holds: Sequence[Hold],
        movements: Sequence[Movement],
        now_us: int,
    ) -> None:
        """Carry out the movements at the end of holds that are there, and forget the holds."""
        if movements:
            self._carry_out(connection, movements, now_us)
        requests = [hold.request for hold in holds]
        for begin in range(0, len(requests), _ASKED):
            these = HOLDS.c.request.in_(requests[begin : begin + _ASKED])
            connection.execute(sql.delete(HOLDS).where(these))

    def expired(self, connection: sql.Connection, now_us: int, most: int) -> list[Hold]:
        """Return holds that are too old, oldest first."""
        old = sql.select(HOLDS).where(HOLDS.c.expires_us <= now_us)
        rows = connection.execute(old.order_by(HOLDS.c.expires_us).limit(most))
        return [Hold(**row._mapping) for row in rows]

    def balances(self, connection: sql.Connection, account: str | None = None) -> list[Balance]:
        """Return the balances of an account, or of all of them."""
        query = sql.select(BALANCES).order_by(BALANCES.c.account, BALANCES.c.unit)
        if account is not None:
            query = query.where(BALANCES.c.account == account)
        return [Balance(**row._mapping) for row in connection.execute(query)]

    def history(self, connection: sql.Connection, account: str, most: int) -> list[Movement]:
        """Return the last movements of an account, newest first."""
        own = (MOVEMENTS.c.taken_from == account) | (MOVEMENTS.c.given_to == account)
        query = sql.select(MOVEMENTS).where(own).order_by(MOVEMENTS.c.seq.desc()).limit(most)
        return [_movement(row) for row in connection.execute(query)]

    def audit(self, connection: sql.Connection) -> list[str]:
        """Return what is wrong: balances that are not the sums of their movements, and holds."""
        sums: dict[tuple[str, str], int] = {}
        for row in connection.execute(sql.select(MOVEMENTS)):
            for key, change in changes_of([_movement(row)]).items():
                sums[key] = sums.get(key, 0) + change
        held_for: dict[tuple[str, str], int] = {}
        for row in connection.execute(sql.select(HOLDS)):
            key = (held(row.tenant), row.unit)
            held_for[key] = held_for.get(key, 0) + row.amount
        wrong = []
        for each in self.balances(connection):
            key = (each.account, each.unit)
            if each.balance != sums.pop(key, 0):
                wrong.append(f"{each.account}: its balance is not the sum of its movements")
            if each.account.endswith("/held") and each.balance != held_for.pop(key, 0):
                wrong.append(f"{each.account}: its balance is not the sum of its holds")
        wrong += [f"{account}: asked for its balance, found none" for account, _ in sums]
        return wrong + [f"{account}: asked for its balance, found none" for account, _ in held_for]

    def _carry_out(
        self, connection: sql.Connection, movements: Sequence[Movement], now_us: int
    ) -> None:
        changes = changes_of(movements)
        found = self._locked(connection, sorted(changes))
        for key, change in sorted(changes.items()):
            self._change(connection, found[key], change)
        rows = [
            {
                "cause": each.cause,
                "kind": each.kind.value,
                "taken_from": each.taken_from,
                "given_to": each.given_to,
                "unit": each.unit,
                "amount": each.amount,
                "time_us": now_us,
            }
            for each in movements
        ]
        connection.execute(sql.insert(MOVEMENTS), rows)

    def _is_known(self, connection: sql.Connection, movement: Movement) -> bool:
        """Return whether a movement was carried out.

        Raises:
            ConflictError: Another one of this name was.
        """
        name = (MOVEMENTS.c.cause == movement.cause) & (MOVEMENTS.c.kind == movement.kind.value)
        row = connection.execute(sql.select(MOVEMENTS).where(name)).first()
        if row is None:
            return False
        found = _movement(row)
        if found != movement:
            asked = f"asked to move {movement.amount} {movement.unit}"
            what = f"found {found.amount} {found.unit} moved, or between other accounts"
            raise ConflictError(f"{movement.kind} {movement.cause}: {asked}, {what}")
        return True

    def _locked(
        self, connection: sql.Connection, keys: Sequence[tuple[str, str]]
    ) -> dict[tuple[str, str], Balance]:
        """Return balances and keep them from others; in one order, so that none waits for ever."""
        found: dict[tuple[str, str], Balance] = {}
        for account, unit in keys:
            new = self._insert(BALANCES).values(
                account=account, unit=unit, balance=0, floor=_usual_floor(account)
            )
            connection.execute(new.on_conflict_do_nothing())
            one = (BALANCES.c.account == account) & (BALANCES.c.unit == unit)
            row = connection.execute(sql.select(BALANCES).where(one).with_for_update()).one()
            found[account, unit] = Balance(**row._mapping)
        return found

    def _change(self, connection: sql.Connection, found: Balance, change: int) -> None:
        after = found.balance + change
        if change < 0 and found.floor is not None and after < found.floor:
            free = found.balance - found.floor
            raise TooLowError(found.account, found.unit, -change, free)
        self._update(connection, found.account, found.unit, {"balance": after})

    def _update(
        self, connection: sql.Connection, account: str, unit: str, values: dict[str, int]
    ) -> None:
        one = (BALANCES.c.account == account) & (BALANCES.c.unit == unit)
        connection.execute(sql.update(BALANCES).where(one).values(**values))


def _usual_floor(account: str) -> int | None:
    """Return the floor of an account that was not opened: 0 for tenants, none for the site."""
    return 0 if account.startswith("tenant/") else None


def _movement(row: sql.Row[tuple[object, ...]]) -> Movement:
    values = dict(row._mapping)
    return Movement(
        values["cause"],
        Kind(values["kind"]),
        values["taken_from"],
        values["given_to"],
        values["unit"],
        values["amount"],
    )
