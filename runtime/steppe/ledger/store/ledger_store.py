"""The store of the ledger: entries of the log and accounts, in one transaction.

The log is made from the entries here, so what was acknowledged is never lost and nothing is logged
twice: an entry's place in the log is fixed in the transaction that also moves the money.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import sqlalchemy as sql

from steppe.database import Database
from steppe.ledger.entries import Hold, Kind, Movement, captured, given_back, held_for
from steppe.ledger.store.accounts import Accounts, Balance, ConflictError, TooLowError
from steppe.ledger.store.tables import ENTRIES, SCHEMA

__all__ = ["Balance", "ConflictError", "LedgerStore", "LogEntry", "TooLowError"]

CHUNK = 1_000
_LOCK = 0x7374_6C65
"""Number of PostgreSQL's lock under which entries get their places."""


@dataclass(frozen=True, slots=True)
class LogEntry:
    """An entry of the log.

    Attributes:
        kind: What it is, such as `receipt`.
        id: Its name, unique among those of its kind.
        tenant: Its tenant, or empty.
        time_us: Its time, us since the Unix epoch.
        bytes: Its bytes, without its place.
    """

    kind: str
    id: str
    tenant: str
    time_us: int
    bytes: bytes


class LedgerStore:
    """Entries and accounts in SQLite or PostgreSQL; threads and processes may share it.

    Every call is one transaction and is on disk when it returns.
    """

    def __init__(self, place: str) -> None:
        """Open a store; it is made if it is missing.

        Args:
            place: Path of an SQLite file, or a URL of SQLAlchemy.

        Raises:
            UsageError: It cannot be opened.
            InstallError: The driver of this database is not installed.
        """
        self._database = Database(place, SCHEMA)
        self._accounts = Accounts(self._database)

    def close(self) -> None:
        """Close all connections."""
        self._database.close()

    def open_account(self, tenant: str, unit: str, credit: int = 0) -> None:
        """Give a tenant an account, or change its credit.

        Raises:
            TooLowError: The tenant owes more than that already.
        """
        with self._database.write() as connection:
            self._accounts.open(connection, tenant, unit, credit)

    def move(self, movements: Sequence[Movement], now_us: int) -> bool:
        """Carry out movements, all or none; return whether they are new.

        Raises:
            ConflictError: One of that name with another content was carried out.
            TooLowError: A balance would fall below its floor.
        """
        with self._database.write() as connection:
            return self._accounts.move(connection, movements, now_us)

    def hold(self, hold: Hold, now_us: int) -> bool:
        """Set something aside for a request; return whether it is new.

        Raises:
            ConflictError: Something else was set aside for it.
            TooLowError: The tenant has not so much.
        """
        with self._database.write() as connection:
            return self._accounts.hold(connection, hold, held_for(hold), now_us)

    def end_request(
        self, request: str, amount: int, entries: Sequence[LogEntry], now_us: int
    ) -> bool:
        """Charge what a request cost, give the rest of its hold back, and write its entries.

        A request that costs more than its hold pays the hold only: the rest is the operator's.

        Args:
            request: Its id.
            amount: What it cost.
            entries: What is logged of it.
            now_us: The time, us since the Unix epoch.

        Returns:
            Whether any of it is new; the same call again changes nothing.

        Raises:
            ConflictError: It ended before with another content.
        """
        with self._database.write() as connection:
            hold = self._accounts.hold_of(connection, request)
            is_new = self._add(connection, entries) > 0
            if hold is not None:
                movements = captured(hold, min(amount, hold.amount))
                self._accounts.end_hold(connection, hold, movements, now_us)
            return is_new or hold is not None

    def give_back(self, request: str, now_us: int) -> bool:
        """Give a hold back that is not used; return whether there was one."""
        with self._database.write() as connection:
            hold = self._accounts.hold_of(connection, request)
            if hold is None:
                return False
            return self._accounts.end_hold(connection, hold, [given_back(hold)], now_us)

    def give_back_expired(self, now_us: int) -> int:
        """Give the holds back that are too old; return how many."""
        with self._database.write() as connection:
            holds = self._accounts.expired(connection, now_us, CHUNK)
            for hold in holds:
                movement = given_back(hold, Kind.EXPIRE)
                self._accounts.end_hold(connection, hold, [movement], now_us)
            return len(holds)

    def add(self, entries: Sequence[LogEntry]) -> int:
        """Write entries of the log; return how many are new.

        Raises:
            ConflictError: One of that kind and id has other bytes.
        """
        with self._database.write() as connection:
            return self._add(connection, entries)

    def size(self) -> int:
        """Return how many entries there are."""
        with self._database.read() as connection:
            return self._size(connection)

    def entries(self, first: int, most: int = CHUNK) -> list[bytes]:
        """Return the bytes of the entries from a place on."""
        query = sql.select(ENTRIES.c.bytes).where(ENTRIES.c.seq >= first)
        with self._database.read() as connection:
            return list(connection.scalars(query.order_by(ENTRIES.c.seq).limit(most)))

    def place_of(self, kind: str, id_: str) -> int | None:
        """Return the place of an entry; None if there is none."""
        named = (ENTRIES.c.kind == kind) & (ENTRIES.c.id == id_)
        with self._database.read() as connection:
            place: int | None = connection.scalar(sql.select(ENTRIES.c.seq).where(named))
            return place

    def of_tenant(
        self, tenant: str, since_us: int, until_us: int, most: int = CHUNK
    ) -> Iterator[tuple[int, bytes]]:
        """Return places and bytes of a tenant's entries of a time, oldest first."""
        c = ENTRIES.c
        query = sql.select(c.seq, c.bytes).where(c.tenant == tenant, c.time_us >= since_us)
        query = query.where(c.time_us < until_us).order_by(c.time_us, c.seq).limit(most)
        with self._database.read() as connection:
            rows = [(row.seq, row.bytes) for row in connection.execute(query)]
        return iter(rows)

    def balances(self, account: str | None = None) -> list[Balance]:
        """Return the balances of an account, or of all of them."""
        with self._database.read() as connection:
            return self._accounts.balances(connection, account)

    def history(self, account: str, most: int = 100) -> list[Movement]:
        """Return the last movements of an account, newest first."""
        with self._database.read() as connection:
            return self._accounts.history(connection, account, most)

    def audit(self) -> list[str]:
        """Return what is wrong with the accounts; nothing if all balances are right."""
        with self._database.read() as connection:
            return self._accounts.audit(connection)

    def _size(self, connection: sql.Connection) -> int:
        last = connection.scalar(sql.select(sql.func.max(ENTRIES.c.seq)))
        return 0 if last is None else last + 1

    def _add(self, connection: sql.Connection, entries: Sequence[LogEntry]) -> int:
        with self._places(connection) as size:
            new = [each for each in entries if not self._is_known(connection, each)]
            rows = [
                {
                    "seq": size + number,
                    "kind": each.kind,
                    "id": each.id,
                    "tenant": each.tenant,
                    "time_us": each.time_us,
                    "bytes": each.bytes,
                }
                for number, each in enumerate(new)
            ]
            if rows:
                connection.execute(sql.insert(ENTRIES), rows)
        return len(rows)

    @contextmanager
    def _places(self, connection: sql.Connection) -> Generator[int]:
        """Keep others from the next places until the end of the transaction."""
        if not self._database.is_sqlite:
            connection.execute(sql.select(sql.func.pg_advisory_xact_lock(_LOCK)))
        yield self._size(connection)

    def _is_known(self, connection: sql.Connection, entry: LogEntry) -> bool:
        named = (ENTRIES.c.kind == entry.kind) & (ENTRIES.c.id == entry.id)
        found = connection.scalar(sql.select(ENTRIES.c.bytes).where(named))
        if found is not None and found != entry.bytes:
            raise ConflictError(
                f"{entry.kind} {entry.id}: asked to log it, found other bytes of it"
            )
        return found is not None
