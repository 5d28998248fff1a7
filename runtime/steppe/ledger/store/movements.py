"""The movements of a transaction: each name once, and written at its end."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sql

from steppe.errors import SteppeError
from steppe.ledger.entries import Movement, MovementKind
from steppe.ledger.store.balances import CHUNK
from steppe.ledger.store.tables import MOVEMENTS, any_of, row_of, unique
from steppe.ledger.units import amount_text


class ConflictError(SteppeError):
    """Another movement or entry has this name already, with another content."""


class Movements:
    """The movements that a transaction has."""

    def __init__(self, connection: sql.Connection) -> None:
        """Begin with none of them read."""
        self._connection = connection
        self._found: dict[str, dict[MovementKind, Movement]] = {}
        self._unread: dict[str, list[Movement]] = {}
        self._new: list[dict[str, Any]] = []

    def load(self, causes: Iterable[str]) -> None:
        """Read the movements of causes at once."""
        new = unique(cause for cause in causes if cause not in self._found)
        for first in range(0, len(new), CHUNK):
            some = new[first : first + CHUNK]
            self._found.update((cause, {}) for cause in some)
            for row in self._connection.execute(_OF, {"causes": some}):
                found = movement_of(row)
                self._found[found.cause][found.kind] = found
            for cause in some:
                self._found[cause].update((each.kind, each) for each in self._unread.pop(cause, ()))

    def find(self, cause: str, kind: MovementKind) -> Movement | None:
        """Return the movement of a name; None if there is none."""
        if cause not in self._found:
            self.load([cause])
        return self._found[cause].get(kind)

    def are_known(self, movements: Sequence[Movement]) -> bool:
        """Return whether movements were carried out; all or none of them were.

        Raises:
            ConflictError: Another one of such a name was, or a part of them.
        """
        self.load([each.cause for each in movements])
        known = [self._is_known(each) for each in movements]
        names = ", ".join(f"{each.kind} {each.cause}" for each in movements)
        if len({(each.cause, each.kind) for each in movements}) < len(movements):
            raise ConflictError(f"{names}: asked for all of them, found two of one name")
        if any(known) and not all(known):
            raise ConflictError(f"{names}: asked for all of them, found a part carried out")
        return all(known)

    def add(self, movements: Iterable[Movement], now_us: int) -> None:
        """Keep movements that are new."""
        for each in movements:
            if each.cause in self._found:
                self._found[each.cause][each.kind] = each
            else:
                self._unread.setdefault(each.cause, []).append(each)
            self._new.append({**row_of(each), "time_us": now_us})

    def write(self) -> None:
        """Write what is new, in its order."""
        if self._new:
            self._connection.execute(sql.insert(MOVEMENTS), self._new)
        self._new = []

    def _is_known(self, movement: Movement) -> bool:
        found = self._found[movement.cause].get(movement.kind)
        if found is not None and found != movement:
            asked = f"asked to move {amount_text(movement.amount, movement.unit)}"
            moved = (
                f"found {amount_text(found.amount, found.unit)} moved, or between other accounts"
            )
            raise ConflictError(f"{movement.kind} {movement.cause}: {asked}, {moved}")
        return found is not None


_OF = sql.select(MOVEMENTS).where(MOVEMENTS.c.cause.in_(any_of("causes")))


def movement_of(row: sql.Row[Any]) -> Movement:
    """Return the movement of a row."""
    return Movement(
        row.cause, MovementKind(row.kind), row.taken_from, row.given_to, row.unit, row.amount
    )
