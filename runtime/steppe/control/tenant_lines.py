"""The order of tenants within one class: weighted fair queueing.

Each tenant has a line of its own. The line with the smallest virtual start time is served next, and
its start time grows by the cost of the request over the tenant's weight (start-time fair queueing,
Goyal, Vin and Cheng, SIGCOMM 1996). Over any time in which two tenants wait, what they got, each
over its weight, differs by at most one request of each over its weight. A tenant that comes back
starts at the present virtual time, so that it neither saves up nor owes.

Within a line, requests on time go before late ones, but not for ever: see `LATE_TURN`.
"""

from __future__ import annotations

import heapq

from steppe.control.ticket import Ticket

MANY_LINES = 64
"""Lines from which on those without tickets and without a lead are dropped."""
LATE_TURN = 4
"""Requests on time that a line serves, for each that waits, before its first late one has a turn.

Where each freed place meets a request that has just come, as with clients that ask again at once,
late ones would otherwise wait until they are refused. A short line lets them in soon. In a long
one, where there is far too little power, they take next to nothing from those on time."""


class TenantLine:
    """The waiting tickets of one tenant: those on time in the order of arrival, then late ones.

    The first late one has its turn after `LATE_TURN` times as many others as tickets wait.

    Attributes:
        start: Its virtual start time.
        weight: Its weight.
        waiting: Its tickets that wait.
    """

    __slots__ = ("_late", "_on_time", "_passed", "start", "waiting", "weight")

    def __init__(self, start: float) -> None:
        """Begin without tickets at a virtual time."""
        self.start, self.weight = start, 1.0
        self.waiting: set[Ticket] = set()
        self._on_time: list[Ticket] = []
        self._late: list[Ticket] = []
        self._passed = 0  # tickets served before the late ones since the last of those

    @property
    def length(self) -> float:
        """Number of waiting tickets over the weight."""
        return len(self.waiting) / self.weight

    def join(self, ticket: Ticket) -> None:
        """Add a ticket."""
        self.weight = ticket.weight
        self.waiting.add(ticket)
        heapq.heappush(self._on_time, ticket)

    def leave(self, ticket: Ticket) -> None:
        """Remove a ticket that waits."""
        self.waiting.remove(ticket)
        kept = len(self._on_time) + len(self._late)
        if kept > 64 and kept > 2 * len(self.waiting):
            # A sorted list is a heap.
            self._on_time = sorted(self.waiting.intersection(self._on_time))
            self._late = sorted(self.waiting.intersection(self._late))

    def first(self, now_s: float) -> Ticket:
        """Return the ticket to serve at `now_s`; one must wait."""
        on_time = self._first(self._on_time)
        while on_time is not None and on_time.late_s < now_s:
            heapq.heappush(self._late, heapq.heappop(self._on_time))
            on_time = self._first(self._on_time)
        late = self._first(self._late)
        has_turn = self._passed >= LATE_TURN * len(self.waiting)
        found = late if late and has_turn else on_time or late
        assert found is not None, "a line without tickets is not asked"
        return found

    def serve(self, ticket: Ticket) -> None:
        """Note that a ticket is served, which waits until it leaves."""
        late = self._first(self._late)
        self._passed = 0 if late in (None, ticket) else self._passed + 1

    def _first(self, heap: list[Ticket]) -> Ticket | None:
        """Return the first ticket of a heap that still waits; drop those that do not."""
        while heap and heap[0] not in self.waiting:
            heapq.heappop(heap)
        return heap[0] if heap else None


class ClassLines:
    """The lines of all tenants of one class."""

    __slots__ = ("_busy", "_count", "_idle", "_virtual")

    def __init__(self) -> None:
        self._busy: dict[str, TenantLine] = {}
        self._idle: dict[str, TenantLine] = {}  # without tickets
        self._virtual = 0.0
        self._count = 0

    def __len__(self) -> int:
        """Number of waiting tickets."""
        return self._count

    def join(self, ticket: Ticket) -> None:
        """Add a ticket to the line of its tenant."""
        line = self._busy.get(ticket.tenant)
        if line is None:
            line = self._idle.pop(ticket.tenant, None) or TenantLine(self._virtual)
            line.start = max(line.start, self._virtual)
            self._busy[ticket.tenant] = line
        line.join(ticket)
        self._count += 1

    def leave(self, ticket: Ticket) -> None:
        """Remove a ticket that waits."""
        line = self._busy[ticket.tenant]
        line.leave(ticket)
        self._count -= 1
        if not line.waiting:
            del self._busy[ticket.tenant]
            self._rest(ticket.tenant, line)

    def first(self, now_s: float) -> Ticket:
        """Return the ticket to serve at `now_s`; one must wait."""
        lines = self._busy.values()
        line = next(iter(lines)) if len(lines) == 1 else min(lines, key=lambda each: each.start)
        return line.first(now_s)

    def charge(self, ticket: Ticket) -> None:
        """Charge a tenant for a ticket that waits and is served now."""
        line = self._busy[ticket.tenant]
        self._virtual = max(self._virtual, line.start)
        line.start += ticket.cost / ticket.weight
        line.serve(ticket)

    def settle(self, ticket: Ticket, more: float) -> None:
        """Charge a tenant what a served ticket took beyond what was expected; less if negative."""
        line = self._busy.get(ticket.tenant) or self._idle.get(ticket.tenant)
        if line is not None:
            line.start += more / ticket.weight

    def last_of_longest(self) -> Ticket:
        """Return the last ticket of the tenant that has most waiting for its weight."""
        return max(max(self._busy.values(), key=lambda line: line.length).waiting)

    def gives_way_to(self, newcomer: Ticket) -> Ticket | None:
        """Return the last ticket of the longest line, if the newcomer's would stay shorter."""
        if not self._busy:
            return None
        own = self._busy.get(newcomer.tenant)
        length = (1 + (len(own.waiting) if own else 0)) / newcomer.weight
        longest = max(self._busy.values(), key=lambda line: line.length)
        return max(longest.waiting) if longest is not own and longest.length > length else None

    def _rest(self, tenant: str, line: TenantLine) -> None:
        """Keep how far a tenant without tickets is ahead of the others, while any wait."""
        if not self._busy:
            self._idle.clear()
            self._virtual = 0.0
            return
        self._idle[tenant] = line
        if len(self._idle) > MANY_LINES:
            ahead = {name: each for name, each in self._idle.items() if each.start > self._virtual}
            self._idle = ahead
