"""One transaction of the ledger's store: entries, accounts and books change together or not."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import sqlalchemy as sql

from steppe.ledger.entries import Hold, Kind, Movement, captured, given_back, held_for
from steppe.ledger.store.accounts import Accounts, Balance, ConflictError
from steppe.ledger.store.tables import ENTRIES

_LOCK = 0x7374_6C65
"""Number of PostgreSQL's lock under which entries get their places."""
_ASKED = 500
"""Most names in one statement."""


@dataclass(frozen=True, slots=True)
class LogEntry:
    """An entry of the log.

    Attributes:
        kind: What it is, such as `receipt`.
        id: Its name, unique among those of its kind.
        tenant: Its tenant, or empty.
        time_us: Its time, us since the Unix epoch.
        bytes: Its bytes, without its place.
        name: What its tenant calls it, such as the id of a request; need not be unique.
    """

    kind: str
    id: str
    tenant: str
    time_us: int
    bytes: bytes
    name: str = ""


class Transaction:
    """All of it is on disk at its end, or nothing of it; use it in the thread that opened it.

    Attributes:
        connection: The connection, for the modules of the store.
        accounts: The accounts; their calls take the connection.
        is_sqlite: Whether the store is SQLite, which has one writer.
    """

    def __init__(self, connection: sql.Connection, accounts: Accounts, is_sqlite: bool) -> None:
        """Use a transaction that writes."""
        self.connection, self.accounts, self.is_sqlite = connection, accounts, is_sqlite

    @contextmanager
    def part(self) -> Generator[None]:
        """Undo what happens in this block, and nothing else, if it raises an error."""
        with self.connection.begin_nested():
            yield

    def move(self, movements: Sequence[Movement], now_us: int) -> bool:
        """Carry out movements, all or none; return whether they are new.

        Raises:
            ConflictError: One of that name with another content was carried out.
            TooLowError: A balance would fall below its floor.
        """
        return self.accounts.move(self.connection, movements, now_us)

    def hold(self, hold: Hold, now_us: int) -> bool:
        """Set something aside for a request; return whether it is new.

        Raises:
            ConflictError: Something else was set aside for it.
            TooLowError: The tenant has not so much.
        """
        return self.accounts.hold(self.connection, hold, held_for(hold), now_us)

    def balances(self, account: str | None = None) -> list[Balance]:
        """Return the balances of an account, or of all of them."""
        return self.accounts.balances(self.connection, account)

    def end_requests(self, amounts: Mapping[str, int], now_us: int) -> int:
        """Charge what requests cost, and give the rest of their holds back.

        One that costs more than its hold pays its hold only: the rest is the operator's.

        Args:
            amounts: What each has cost, by its id.
            now_us: The time, us since the Unix epoch.

        Returns:
            How many had a hold.
        """
        holds = self.accounts.holds_of(self.connection, list(amounts))
        moved: list[Movement] = []
        for hold in holds:
            moved += captured(hold, min(amounts[hold.request], hold.amount))
        self.accounts.end_holds(self.connection, holds, moved, now_us)
        return len(holds)

    def give_back(self, requests: Sequence[str], now_us: int) -> int:
        """Give the holds of requests back that are not used; return how many there were."""
        holds = self.accounts.holds_of(self.connection, requests)
        moved = [given_back(hold) for hold in holds]
        self.accounts.end_holds(self.connection, holds, moved, now_us)
        return len(holds)

    def give_back_expired(self, now_us: int, most: int) -> int:
        """Give the oldest holds back that are too old; return how many."""
        holds = self.accounts.expired(self.connection, now_us, most)
        moved = [given_back(hold, Kind.EXPIRE) for hold in holds]
        self.accounts.end_holds(self.connection, holds, moved, now_us)
        return len(holds)

    def add(self, entries: Sequence[LogEntry]) -> int:
        """Write entries of the log; return how many are new.

        Raises:
            ConflictError: One of that kind and id has other bytes.
        """
        if not self.is_sqlite:  # others wait for the next places until the end of the transaction
            self.connection.execute(sql.select(sql.func.pg_advisory_xact_lock(_LOCK)))
        known = self.known(entries)
        new = [each for each in entries if (each.kind, each.id) not in known]
        first = self.size()
        rows = [
            {
                "seq": first + number,
                "kind": each.kind,
                "id": each.id,
                "tenant": each.tenant,
                "time_us": each.time_us,
                "name": each.name,
                "bytes": each.bytes,
            }
            for number, each in enumerate(new)
        ]
        if rows:
            self.connection.execute(sql.insert(ENTRIES), rows)
        return len(rows)

    def size(self) -> int:
        """Return how many entries there are."""
        last = self.connection.scalar(sql.select(sql.func.max(ENTRIES.c.seq)))
        return 0 if last is None else last + 1

    def known(self, entries: Iterable[LogEntry]) -> set[tuple[str, str]]:
        """Return kind and id of those entries that are there.

        Raises:
            ConflictError: One of them has other bytes.
        """
        asked = {(each.kind, each.id): each for each in entries}
        known = set[tuple[str, str]]()
        for kind, id_, found in self._found(asked):
            if found != asked[kind, id_].bytes:
                raise ConflictError(f"{kind} {id_}: asked to log it, found other bytes of it")
            known.add((kind, id_))
        return known

    def _found(self, names: Iterable[tuple[str, str]]) -> list[tuple[str, str, bytes]]:
        of_kind: dict[str, list[str]] = {}
        for kind, id_ in names:
            of_kind.setdefault(kind, []).append(id_)
        c, found = ENTRIES.c, list[tuple[str, str, bytes]]()
        for kind, ids in of_kind.items():
            for begin in range(0, len(ids), _ASKED):
                named = (c.kind == kind) & c.id.in_(ids[begin : begin + _ASKED])
                query = sql.select(c.id, c.bytes).where(named)
                found += [(kind, row.id, row.bytes) for row in self.connection.execute(query)]
        return found
