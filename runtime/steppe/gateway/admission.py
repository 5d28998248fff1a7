"""Who goes next: the most urgent class first, then who came first."""

from __future__ import annotations

import heapq
from dataclasses import dataclass

PRIORITIES = ("interactive", "standard", "deferrable")
"""The classes of urgency, most urgent first."""


@dataclass(frozen=True, slots=True, order=True)
class Ticket:
    """A request's place in the order.

    Attributes:
        rank: Index of its class in `PRIORITIES`.
        number: Its arrival number; a request keeps it when it has to wait again.
    """

    rank: int
    number: int


class AdmissionQueue:
    """The tickets that wait, in the order in which they will be served."""

    def __init__(self) -> None:
        self._heap: list[Ticket] = []
        self._waiting: set[Ticket] = set()

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def join(self, ticket: Ticket) -> None:
        """Wait; a ticket that was served before gets its old place back."""
        assert ticket not in self._waiting, f"{ticket} waits already"
        self._waiting.add(ticket)
        heapq.heappush(self._heap, ticket)

    def leave(self, ticket: Ticket) -> None:
        """Stop waiting; nothing happens when the ticket does not wait."""
        self._waiting.discard(ticket)
        if len(self._heap) > 64 and len(self._heap) > 2 * len(self._waiting):
            self._heap = sorted(self._waiting)  # a sorted list is a heap

    def pop(self) -> Ticket | None:
        """Take out the ticket to serve next; nothing when none waits."""
        while self._heap:
            ticket = heapq.heappop(self._heap)
            if ticket in self._waiting:
                self._waiting.remove(ticket)
                return ticket
        return None
