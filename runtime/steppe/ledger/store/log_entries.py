"""The entries of the log that a transaction adds: each name once, places without gaps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sql

from steppe.ledger.store.balances import CHUNK
from steppe.ledger.store.movements import ConflictError
from steppe.ledger.store.tables import ENTRIES, any_of, row_of, unique


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


class LogEntries:
    """The entries that a transaction has."""

    def __init__(self, connection: sql.Connection) -> None:
        """Begin with none of them read."""
        self._connection = connection
        self._found: dict[tuple[str, str], bytes | None] = {}
        self._size: int | None = None
        self._new: list[dict[str, Any]] = []

    @property
    def size(self) -> int:
        """How many entries there are, with the new ones."""
        if self._size is None:
            self._size = size_of(self._connection)
        return self._size

    def load(self, kind: str, ids: Sequence[str]) -> None:
        """Read entries of a kind at once."""
        new = unique(id_ for id_ in ids if (kind, id_) not in self._found)
        for first in range(0, len(new), CHUNK):
            some = new[first : first + CHUNK]
            self._found.update(((kind, id_), None) for id_ in some)
            rows = self._connection.execute(_OF, {"of": kind, "ids": some})
            self._found.update(((kind, row.id), row.bytes) for row in rows)

    def find(self, kind: str, id_: str) -> bytes | None:
        """Return the bytes of an entry; None if there is none of this name."""
        self.load(kind, [id_])
        return self._found[kind, id_]

    def new_of(self, entries: Sequence[LogEntry]) -> list[LogEntry]:
        """Return those entries that are not there yet.

        Raises:
            ConflictError: One of that kind and id has other bytes.
        """
        for kind in {each.kind for each in entries}:
            self.load(kind, [each.id for each in entries if each.kind == kind])
        new: dict[tuple[str, str], LogEntry] = {}
        for each in entries:
            found = new.setdefault((each.kind, each.id), each).bytes
            self._check(each, found)
            self._check(each, self._found[each.kind, each.id])
        return [each for name, each in new.items() if self._found[name] is None]

    def add(self, entries: Sequence[LogEntry]) -> None:
        """Give new entries the next places."""
        for each in entries:
            self._new.append({"seq": self.size, **row_of(each)})
            self._size = self.size + 1
            self._found[each.kind, each.id] = each.bytes

    def write(self) -> None:
        """Write what is new."""
        if self._new:
            self._connection.execute(sql.insert(ENTRIES), self._new)
        self._new = []

    @staticmethod
    def _check(entry: LogEntry, found: bytes | None) -> None:
        if found is not None and found != entry.bytes:
            raise ConflictError(
                f"{entry.kind} {entry.id}: asked to log it, found other bytes of it"
            )


_OF = sql.select(ENTRIES.c.id, ENTRIES.c.bytes).where(
    ENTRIES.c.kind == sql.bindparam("of"), ENTRIES.c.id.in_(any_of("ids"))
)


def size_of(connection: sql.Connection) -> int:
    """Return how many entries are written."""
    last = connection.scalar(sql.select(sql.func.max(ENTRIES.c.seq)))
    return 0 if last is None else last + 1
