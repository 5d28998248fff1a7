"""The store of the ledger: entries of the log and accounts, in one transaction.

The log is made from the entries here, so what was acknowledged is never lost and nothing is logged
twice: an entry's place in the log is fixed in the transaction that also moves the money.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager

import sqlalchemy as sql

from steppe.database import Database
from steppe.ledger.admission import Admission, AdmissionRules, AdmissionTerms, Payer, Refusal
from steppe.ledger.entries import Hold, Movement
from steppe.ledger.quote import Quote
from steppe.ledger.receipt import KIND as RECEIPT
from steppe.ledger.receipt import Receipt
from steppe.ledger.store import accounts
from steppe.ledger.store.balances import Balance, TooLowError
from steppe.ledger.store.corrections import correct
from steppe.ledger.store.log_entries import LogEntry, size_of
from steppe.ledger.store.movements import ConflictError
from steppe.ledger.store.packages import expire, issue_quote, run_out, trade
from steppe.ledger.store.snapshot import StoreSnapshot
from steppe.ledger.store.tables import ENTRIES, SCHEMA
from steppe.ledger.store.transaction import Transaction
from steppe.ledger.trades import Package, Transfer

__all__ = ["Balance", "ConflictError", "LedgerStore", "LogEntry", "TooLowError", "Transaction"]

CHUNK = 1_000
_LOCK = 0x7374_6C65
"""Number of PostgreSQL's lock of those that write: one after another, as in SQLite."""


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

    def close(self) -> None:
        """Close all connections."""
        self._database.close()

    @contextmanager
    def transaction(self) -> Generator[Transaction]:
        """Open a transaction for several calls: all of it is on disk at its end, or nothing of it.

        Raises:
            DiskFullError: No space is left.
            UsageError: The database cannot be written.
        """
        with self._database.write() as connection:
            if not self._database.is_sqlite:
                connection.execute(sql.select(sql.func.pg_advisory_xact_lock(_LOCK)))
            books = Transaction(connection)
            yield books
            books.write()

    @contextmanager
    def reading(self) -> Generator[sql.Connection]:
        """Open a transaction that reads, for the modules of the store; it sees one state.

        Raises:
            UsageError: The store cannot be read.
        """
        with self._database.read() as connection:
            yield connection

    @contextmanager
    def snapshot(self) -> Generator[StoreSnapshot]:
        """Open one state of the store, however long it is read.

        Raises:
            UsageError: The store cannot be read.
        """
        with self._database.snapshot() as connection:
            yield StoreSnapshot(connection)

    def admit(
        self, asked: Sequence[Admission], rules: AdmissionRules, now_us: int
    ) -> list[AdmissionTerms | Refusal]:
        """Decide on requests in their order; what each may cost at most is set aside for it."""
        with self.transaction() as books:
            units = {tariff.currency for tariff in rules.tariffs}
            books.load([each.request for each in asked], {each.tenant for each in asked}, units)
            return [books.admit(each, rules, now_us) for each in asked]

    def open_account(self, tenant: str, unit: str, credit: int = 0) -> None:
        """Give a tenant an account, or change its credit.

        Raises:
            TooLowError: The tenant owes more than that already.
        """
        with self.transaction() as books:
            books.open_account(tenant, unit, credit)

    def move(self, movements: Sequence[Movement], now_us: int) -> bool:
        """Carry out movements, all or none; return whether they are new.

        Raises:
            ConflictError: One of that name with another content was carried out.
            TooLowError: A balance would fall below its floor.
        """
        with self.transaction() as books:
            return books.move(movements, now_us)

    def hold(self, hold: Hold, now_us: int) -> bool:
        """Set something aside for a request; return whether it is new.

        Raises:
            ConflictError: Something else was set aside for it.
            TooLowError: The tenant has not so much.
        """
        with self.transaction() as books:
            return books.hold([hold], now_us)

    def end_request(
        self,
        request: str,
        amount: int,
        entries: Sequence[LogEntry],
        now_us: int,
        tokens: int = 0,
        *,
        payer: Payer | None = None,
    ) -> bool:
        """Charge what a request cost, give the rest of its hold back, and write its entries.

        If the hold is too small, or was given back because it was too old, the payer is charged for
        the rest, as far as it has something free. What is missing then is the operator's.

        Args:
            request: Its id.
            amount: What it cost.
            entries: What is logged of it.
            now_us: The time, us since the Unix epoch.
            tokens: Its tokens, of its prompt and generated; they are taken from its quote.
            payer: The account that is charged for what the hold does not cover; None for none.

        Returns:
            Whether any of it is new; the same call again changes nothing.

        Raises:
            ConflictError: It ended before with another content.
        """
        with self.transaction() as books:
            return books.end_request(request, amount, entries, now_us, tokens, payer=payer)

    def give_back(self, request: str, now_us: int) -> bool:
        """Give a hold back that is not used; return whether there was one."""
        with self.transaction() as books:
            return books.give_back(request, now_us)

    def give_back_expired(self, now_us: int) -> int:
        """Give the holds back that are too old; return how many."""
        with self.transaction() as books:
            return books.give_back_expired(now_us, CHUNK)

    def trade(self, made: Package | Transfer, now_us: int) -> bool:
        """Carry out a purchase or a transfer, and log it; return whether it is new.

        Raises:
            ConflictError: Another one has this id.
            TooLowError: The tenant that gives has not so much.
            UsageError: The tokens have run out already, or are not paid with money.
        """
        with self.transaction() as books:
            return trade(books, made, now_us)

    def issue_quote(self, quote: Quote, now_us: int) -> bool:
        """Log an offer and open its tokens, so that it is honoured; return whether it is new.

        Raises:
            ConflictError: Another quote has this id.
            UsageError: Its tariff is not in the log.
        """
        with self.transaction() as books:
            return issue_quote(books, quote, now_us)

    def expire_packages(self, now_us: int) -> int:
        """Take tokens and quotes that have run out; return from how many accounts."""
        with self._database.read() as connection:
            keys = run_out(connection, now_us)
        if not keys:
            return 0
        with self.transaction() as books:
            return expire(books, keys, now_us)

    def correct(self, correction: Receipt, now_us: int) -> Sequence[Movement]:
        """Log a correction, and give back, or charge, what it changes; return what was moved.

        Raises:
            ConflictError: Another receipt has this id.
            TooLowError: It is to be charged, and the tenant has not so much.
            UsageError: It corrects no receipt of this tenant, rate and currency.
        """
        with self.transaction() as books:
            return correct(books, correction, now_us)

    def add(self, entries: Sequence[LogEntry]) -> int:
        """Write entries of the log; return how many are new.

        Raises:
            ConflictError: One of that kind and id has other bytes.
        """
        with self.transaction() as books:
            return books.add(entries)

    def size(self) -> int:
        """Return how many entries there are."""
        with self._database.read() as connection:
            return size_of(connection)

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

    def of_kind(self, kind: str) -> list[bytes]:
        """Return the bytes of all entries of a kind, by their place."""
        query = sql.select(ENTRIES.c.bytes).where(ENTRIES.c.kind == kind)
        with self._database.read() as connection:
            return list(connection.scalars(query.order_by(ENTRIES.c.seq)))

    def find(self, kind: str, tenant: str, name: str) -> tuple[int, bytes] | None:
        """Return place and bytes of a tenant's entry by its id, else the newest of that name."""
        c = ENTRIES.c
        own = sql.select(c.seq, c.bytes).where(c.kind == kind, c.tenant == tenant)
        newest = own.where(c.name == name).order_by(c.seq.desc()).limit(1)
        with self._database.read() as connection:
            row = connection.execute(own.where(c.id == name)).first()
            row = row or connection.execute(newest).first()
        return None if row is None else (row.seq, row.bytes)

    def of_tenant(
        self, tenant: str, since_us: int, until_us: int, most: int = CHUNK, after: int = -1
    ) -> Iterator[tuple[int, bytes]]:
        """Return places and bytes of a tenant's entries of a time, oldest first.

        Args:
            tenant: The tenant.
            since_us: The first time, us since the Unix epoch.
            until_us: The time at which it ends.
            most: Most entries.
            after: Only those after this place.
        """
        c = ENTRIES.c
        query = sql.select(c.seq, c.bytes).where(c.tenant == tenant, c.time_us >= since_us)
        query = query.where(c.time_us < until_us, c.seq > after)
        query = query.order_by(c.time_us, c.seq).limit(most)
        with self._database.read() as connection:
            rows = [(row.seq, row.bytes) for row in connection.execute(query)]
        return iter(rows)

    def receipts(
        self, tenant: str, since_us: int, until_us: int, most: int, after: int = -1
    ) -> list[tuple[int, bytes]]:
        """Return places and bytes of a tenant's receipts that were written in a time, in order.

        Args:
            tenant: The tenant.
            since_us: The first time, us since the Unix epoch.
            until_us: The time at which it ends.
            most: Most receipts.
            after: Only those after this place.
        """
        c = ENTRIES.c
        query = sql.select(c.seq, c.bytes).where(c.kind == RECEIPT, c.tenant == tenant)
        query = query.where(c.time_us >= since_us, c.time_us < until_us, c.seq > after)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(c.seq).limit(most))
            return [(row.seq, row.bytes) for row in rows]

    def balances(self, account: str | None = None) -> list[Balance]:
        """Return the balances of an account, or of all of them."""
        with self._database.read() as connection:
            return accounts.balances(connection, account)

    def history(self, account: str, most: int = 100) -> list[tuple[int, Movement]]:
        """Return the last movements of an account with their times, us, newest first."""
        with self._database.read() as connection:
            return accounts.history(connection, account, most)

    def movements_of(self, name: str) -> list[Movement]:
        """Return the movements that a request or another cause made, oldest first."""
        with self._database.read() as connection:
            return accounts.movements_of(connection, name)

    def audit(self) -> list[str]:
        """Return what is wrong with the accounts; nothing if all balances are right."""
        with self._database.read() as connection:
            return accounts.audit(connection)
