"""The rows that a runner has taken from the store and not sent yet."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from steppe.batch.row import Claim

SUSPECT_ATTEMPTS = 2
"""A row that failed so often may be the cause: it runs while no other such row does, so that rows
that were beside it when a replica died are not blamed again."""


class ClaimQueue:
    """Rows in the order in which they are sent: refused ones again first, suspects one by one."""

    def __init__(self) -> None:
        """Begin without rows."""
        self._ready: deque[Claim] = deque()
        self._suspects: deque[Claim] = deque()
        self._open_suspect: int | None = None

    def __len__(self) -> int:
        """Return the number of rows that are not sent."""
        return len(self._ready) + len(self._suspects)

    @property
    def sendable(self) -> int:
        """Rows that may be sent now."""
        may_suspect = bool(self._suspects) and self._open_suspect is None
        return len(self._ready) + may_suspect

    def add(self, claims: Iterable[Claim]) -> None:
        """Add rows from the store."""
        for claim in claims:
            is_suspect = claim.attempts >= SUSPECT_ATTEMPTS
            (self._suspects if is_suspect else self._ready).append(claim)

    def next(self) -> Claim | None:
        """Take the next row; give it back with `back`, or say that it `ended`."""
        if self._suspects and self._open_suspect is None:
            claim = self._suspects.popleft()
            self._open_suspect = claim.row.number
            return claim
        return self._ready.popleft() if self._ready else None

    def back(self, claim: Claim) -> None:
        """Put a row that was refused before all others."""
        self.ended(claim)
        if claim.attempts >= SUSPECT_ATTEMPTS:
            self._suspects.appendleft(claim)
        else:
            self._ready.appendleft(claim)

    def ended(self, claim: Claim) -> None:
        """Note that a row is not at the gateway any more."""
        if self._open_suspect == claim.row.number:
            self._open_suspect = None

    def clear(self) -> list[Claim]:
        """Remove and return all rows that are not sent."""
        left = [*self._suspects, *self._ready]
        self._suspects.clear()
        self._ready.clear()
        return left
