"""Balances of green energy in memory, by the rules that the store keeps too.

A movement is carried out once; what an owner has never falls below 0.
"""

from __future__ import annotations

from steppe.errors import SteppeError
from steppe.ledger.entries import Kind, Movement, changes_of


class GreenError(SteppeError):
    """A movement of green energy would use some of it twice, or more than there is."""


class Books:
    """Balances by account and unit; they begin at 0, and all accounts of a unit sum to 0."""

    def __init__(self) -> None:
        """Begin with no movement."""
        self.movements: list[Movement] = []
        self._names: dict[tuple[str, Kind], Movement] = {}
        self._balances: dict[tuple[str, str], int] = {}

    def balance(self, account: str, unit: str) -> int:
        """Return what an account has of a unit."""
        return self._balances.get((account, unit), 0)

    def has(self, cause: str, kind: Kind) -> bool:
        """Return whether a movement of this name was carried out."""
        return (cause, kind) in self._names

    def move(self, movement: Movement) -> bool:
        """Carry a movement out; return whether it is new.

        Raises:
            GreenError: Another one has its name, or an owner has not so much.
        """
        name = (movement.cause, movement.kind)
        if name in self._names:
            if self._names[name] == movement:
                return False
            asked = f"asked to move {movement.amount} {movement.unit}"
            found = f"found {self._names[name].amount} {self._names[name].unit} moved before"
            raise GreenError(f"{movement.kind} {movement.cause}: {asked}, {found}")
        free = self.balance(movement.taken_from, movement.unit)
        if movement.taken_from.startswith("tenant/") and free < movement.amount:
            asked = f"asked for {movement.amount} {movement.unit}"
            raise GreenError(f"{movement.taken_from}: {asked}, found {free}")
        for key, change in changes_of([movement]).items():
            self._balances[key] = self._balances.get(key, 0) + change
        self._names[name] = movement
        self.movements.append(movement)
        return True
