"""Which request is served next: by class, then fairly among tenants, then by the SLO."""

from __future__ import annotations

from collections.abc import Sequence

from steppe.control.tenant_lines import ClassLines
from steppe.control.ticket import DEFERRABLE, LATE_SHARE, PRIORITIES, Ticket

__all__ = ["DEFERRABLE", "LATE_SHARE", "NO_SHARES", "PRIORITIES", "AdmissionQueue", "Ticket"]

NO_SHARES = (0.0,) * len(PRIORITIES)
"""No class has a share of its own: an urgent request always goes before others."""


class AdmissionQueue:
    """The waiting tickets, in the order in which they are served.

    An urgent class goes first, unless a lower one has less than its share. Within a class, tenants
    that wait are served in proportion to their weights, see `ClassLines`.

    While there is less power than work, requests must wait. In the order of arrival all of them
    would wait too long. So of a tenant's requests a late one waits until no other one does, again
    in the order of arrival. That serves the same tokens, but far more requests keep their SLO.
    A late one has a turn now and then all the same, see `tenant_lines.LATE_TURN`.
    """

    def __init__(self, shares: Sequence[float] = NO_SHARES) -> None:
        """Begin empty.

        Args:
            shares: Least share of each class in what is served while it waits; their sum is at
                most 1.
        """
        assert len(shares) == len(PRIORITIES), "one share for each class"
        assert sum(shares) <= 1 + 1e-9, "shares of one whole"
        self._shares = tuple(shares)
        self._classes = [ClassLines() for _ in PRIORITIES]
        self._credits = [0.0] * len(PRIORITIES)  # what each class lacks of its share
        self._has_shares = any(shares)
        self._waiting: set[Ticket] = set()

    def __len__(self) -> int:
        """Number of waiting tickets."""
        return len(self._waiting)

    @property
    def deferrable(self) -> int:
        """Number of waiting tickets of class `deferrable`."""
        return len(self._classes[DEFERRABLE])

    def join(self, ticket: Ticket) -> None:
        """Add a ticket; one that was served before gets its old place back."""
        assert ticket not in self._waiting, f"{ticket} waits already"
        self._waiting.add(ticket)
        self._classes[ticket.rank].join(ticket)

    def leave(self, ticket: Ticket) -> None:
        """Remove a ticket; one that does not wait is ignored."""
        if ticket in self._waiting:
            self._waiting.remove(ticket)
            self._classes[ticket.rank].leave(ticket)

    def outranked_by(self, newcomer: Ticket) -> Ticket | None:
        """Return the ticket that gives way to a newcomer when there is no room; None if none does.

        That is the last one of the lowest class below it. If there is none below, it is the last
        one of the tenant in its class that has most waiting for its weight, if that is more than
        the newcomer's tenant would have.
        """
        for lines in reversed(self._classes[newcomer.rank + 1 :]):
            if len(lines):
                return lines.last_of_longest()
        return self._classes[newcomer.rank].gives_way_to(newcomer)

    def first(self, now_s: float) -> Ticket | None:
        """Return the ticket to serve at `now_s`; None if none waits."""
        rank = self._next_rank()
        return None if rank is None else self._classes[rank].first(now_s)

    def serve(self, ticket: Ticket) -> None:
        """Remove a waiting ticket that is served, and charge its class and its tenant."""
        if self._has_shares:
            self._charge_class(ticket)
        self._classes[ticket.rank].charge(ticket)
        self.leave(ticket)

    def settle(self, ticket: Ticket, cost: float) -> None:
        """Charge a served ticket what it took, in place of what was expected.

        Expected costs are too high by other factors in each class: requests without a maximum of
        tokens count with the longest recent one. Without this, the class with the highest ones
        would get less than its share.

        Args:
            ticket: A ticket that `serve` has charged.
            cost: What serving it took.
        """
        more = cost - ticket.cost
        if self._has_shares:
            for rank, share in enumerate(self._shares):
                if len(self._classes[rank]):
                    self._credits[rank] += share * more
            if len(self._classes[ticket.rank]):
                self._credits[ticket.rank] -= more
        self._classes[ticket.rank].settle(ticket, more)

    def pop(self, now_s: float) -> Ticket | None:
        """Remove and return the ticket to serve at `now_s`; None if none waits."""
        ticket = self.first(now_s)
        if ticket is not None:
            self.serve(ticket)
        return ticket

    def _next_rank(self) -> int | None:
        """Return the class to serve: the first that lacks its share, or else the most urgent."""
        first = None
        for rank, lines in enumerate(self._classes):
            if len(lines):
                if self._credits[rank] > 0:
                    return rank
                first = rank if first is None else first
        return first

    def _charge_class(self, ticket: Ticket) -> None:
        """Credit every waiting class its share of what is served, and charge that of the ticket.

        A class owes at most one ticket: what it got while no other one waited is not held against
        it. One that does not wait gathers no credit.
        """
        for rank, share in enumerate(self._shares):
            waits = len(self._classes[rank]) > 0
            self._credits[rank] = self._credits[rank] + share * ticket.cost if waits else 0.0
        left = self._credits[ticket.rank] - ticket.cost
        self._credits[ticket.rank] = max(left, -ticket.cost)
