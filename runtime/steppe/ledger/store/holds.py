"""The holds of a transaction: read once, and written at its end."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sql

from steppe.ledger.entries import Hold
from steppe.ledger.store.balances import CHUNK
from steppe.ledger.store.tables import HOLDS, any_of, row_of, unique


class Holds:
    """What a transaction has the holds of requests."""

    def __init__(self, connection: sql.Connection) -> None:
        """Begin with none of them read."""
        self._connection = connection
        self._found: dict[str, list[Hold]] = {}
        self._new: dict[tuple[str, int], Hold] = {}
        self._ended: list[str] = []

    def load(self, requests: Iterable[str]) -> None:
        """Read the holds of requests at once."""
        new = unique(request for request in requests if request not in self._found)
        for first in range(0, len(new), CHUNK):
            some = new[first : first + CHUNK]
            self._found.update((request, []) for request in some)
            for row in self._connection.execute(_OF, {"requests": some}):
                self._found[row.request].append(_hold(row))

    def of(self, request: str) -> Sequence[Hold]:
        """Return the parts of what is set aside for a request, in order; none if nothing is."""
        if request not in self._found:
            self.load([request])
        return tuple(self._found[request])

    def expired(self, now_us: int, most: int) -> list[str]:
        """Return requests of which the hold is too old, oldest first."""
        self.write()
        old = sql.select(HOLDS.c.request).where(HOLDS.c.expires_us <= now_us)
        query = old.order_by(HOLDS.c.expires_us, HOLDS.c.request).limit(most)
        return list(dict.fromkeys(self._connection.scalars(query)))

    def add(self, holds: Sequence[Hold]) -> None:
        """Keep the parts of a new hold."""
        for each in holds:
            self._found.setdefault(each.request, []).append(each)
            self._new[each.request, each.part] = each

    def end(self, request: str) -> None:
        """Forget the hold of a request."""
        parts = [(each.request, each.part) for each in self.of(request)]
        if not all(part in self._new for part in parts):
            self._ended.append(request)
        for part in parts:
            self._new.pop(part, None)
        self._found[request] = []

    def write(self) -> None:
        """Write what has changed."""
        for first in range(0, len(self._ended), CHUNK):
            some = self._ended[first : first + CHUNK]
            self._connection.execute(_END, {"requests": some})
        if self._new:
            rows = [row_of(each) for each in self._new.values()]
            self._connection.execute(sql.insert(HOLDS), rows)
        self._ended, self._new = [], {}


def _hold(row: sql.Row[Any]) -> Hold:
    return Hold(**row._mapping)


_OF = (
    sql.select(HOLDS)
    .where(HOLDS.c.request.in_(any_of("requests")))
    .order_by(HOLDS.c.request, HOLDS.c.part)
)
_END = sql.delete(HOLDS).where(HOLDS.c.request.in_(any_of("requests")))
