"""The balances that a transaction uses: read once, changed in memory, written at its end."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sql

from steppe.errors import SteppeError, UsageError
from steppe.ledger.store.tables import BALANCES, any_of, row_of, unique
from steppe.ledger.units import MOST, amount_text, number_text

CHUNK = 500
"""Names in one question to the database."""
_HIGH = 2**62
_Key = tuple[str, str]


class TooLowError(SteppeError):
    """A balance would fall below its floor.

    Attributes:
        account: The account.
        unit: The unit.
        free: What it may still give.
    """

    def __init__(self, account: str, unit: str, asked: int, free: int) -> None:
        found = f"found {number_text(free, unit)} free"
        super().__init__(f"{account}: asked for {amount_text(asked, unit)}, {found}")
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

    @property
    def free(self) -> int:
        """What it may still give; only of an account with a floor."""
        assert self.floor is not None, "a tenant's account has a floor"
        return self.balance - self.floor

    def changed(self, amount: int) -> Balance:
        """Return it after an amount was added, or taken if that is below 0.

        Raises:
            TooLowError: It would fall below its floor.
            UsageError: It has a floor, and would be larger than the store can keep.
        """
        after = self.balance + amount
        if amount < 0 and self.floor is not None and after < self.floor:
            raise TooLowError(self.account, self.unit, -amount, self.balance - self.floor)
        if self.floor is not None and abs(after) > MOST:
            found = f"found room for {amount_text(MOST, self.unit)} in an account"
            raise UsageError(f"{self.account}: asked for {amount_text(after, self.unit)}, {found}")
        return Balance(self.account, self.unit, after, self.floor)


def balance_of(row: sql.Row[Any]) -> Balance:
    """Return the balance of a row."""
    return Balance(row.account, row.unit, row.high * _HIGH + row.balance, row.floor)


def _split(balance: int) -> tuple[int, int]:
    """Return a balance of the site as the database keeps it: a high part, and the rest."""
    high, low = divmod(abs(balance), _HIGH)
    return (-high, -low) if balance < 0 else (high, low)


class Balances:
    """The balances of a transaction."""

    def __init__(self, connection: sql.Connection) -> None:
        """Begin with none of them read."""
        self._connection = connection
        self._found: dict[_Key, Balance | None] = {}
        self._stored: set[_Key] = set()
        self._changed: dict[_Key, Balance] = {}
        self._searched: set[_Key] = set()
        self._units: dict[str, set[str]] = {}

    def load(self, keys: Iterable[_Key]) -> None:
        """Read balances of accounts and units at once."""
        new = unique(key for key in keys if key not in self._found)
        for first in range(0, len(new), CHUNK):
            some = new[first : first + CHUNK]
            self._found.update(dict.fromkeys(some))
            accounts, units = {account for account, _ in some}, {unit for _, unit in some}
            self._read(_OF, {"accounts": list(accounts), "units": list(units)})

    def find(self, account: str, unit: str) -> Balance | None:
        """Return a balance; None if nothing was ever moved there, and it was not opened."""
        key = (account, unit)
        if key not in self._found:
            self.load([key])
        return self._found[key]

    def at(self, account: str, unit: str) -> Balance:
        """Return a balance, 0 for a new account; the floor of a tenant and of a site is 0."""
        found = self.find(account, unit)
        floor = 0 if account.startswith(("tenant/", "site/")) else None
        return Balance(account, unit, 0, floor) if found is None else found

    def load_starting(self, accounts: Iterable[str], text: str) -> None:
        """Read the balances of accounts of which the unit starts with a text, at once."""
        new = unique(each for each in accounts if (each, text) not in self._searched)
        for first in range(0, len(new), CHUNK):
            some = new[first : first + CHUNK]
            self._searched.update((each, text) for each in some)
            self._read(_STARTING, {"accounts": some, "text": text})

    def starting_with(self, account: str, text: str) -> list[Balance]:
        """Return the balances of an account of which the unit starts with a text, by unit."""
        self.load_starting([account], text)
        fit = sorted(unit for unit in self._units.get(account, ()) if unit.startswith(text))
        return [self.at(account, unit) for unit in fit]

    def put(self, balance: Balance) -> None:
        """Keep a balance."""
        key = (balance.account, balance.unit)
        self._found[key] = self._changed[key] = balance
        self._units.setdefault(balance.account, set()).add(balance.unit)

    def write(self) -> None:
        """Write what has changed."""
        new, old = list[dict[str, Any]](), list[dict[str, Any]]()
        for key, each in self._changed.items():
            high, low = _split(each.balance) if each.floor is None else (0, each.balance)
            row = {**row_of(each), "balance": low, "high": high}
            if key in self._stored:
                old.append({f"{name}_": value for name, value in row.items()})
            else:
                new.append(row)
        if new:
            self._connection.execute(sql.insert(BALANCES), new)
        if old:
            self._connection.execute(_UPDATE, old)
        self._stored |= self._changed.keys()
        self._changed.clear()

    def _read(self, query: sql.Select[Any], values: dict[str, Any]) -> None:
        for row in self._connection.execute(query, values):
            found = balance_of(row)
            key = (found.account, found.unit)
            self._stored.add(key)
            self._units.setdefault(found.account, set()).add(found.unit)
            if key not in self._changed:
                self._found[key] = found


_ALL = sql.select(BALANCES).with_for_update()
_OF = _ALL.where(BALANCES.c.account.in_(any_of("accounts")), BALANCES.c.unit.in_(any_of("units")))
_STARTING = _ALL.where(
    BALANCES.c.account.in_(any_of("accounts")),
    BALANCES.c.unit.startswith(sql.bindparam("text"), autoescape=False),
)
_UPDATE = (
    sql.update(BALANCES)
    .where(
        BALANCES.c.account == sql.bindparam("account_"), BALANCES.c.unit == sql.bindparam("unit_")
    )
    .values({name: sql.bindparam(f"{name}_") for name in ("balance", "high", "floor")})
)
