"""How requests are placed on replicas, in the gateway and in the simulator."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

QUEUE_PER_REPLICA = 2
"""Requests outstanding at a replica above its batch limit, so that a batch never runs dry."""
PROMPT_WEIGHT = 16.0
"""Weight of a request that waits for its first token, relative to one that decodes.

Its prompt is computed within seconds, so it loads its replica far more. Without the weight, all new
requests go to a replica that has just woken, and queue there for their prompts. A prompt of 1155
tokens (mean of the Azure conversation trace) takes as much of a modelled H100 as its sequence does
in some 13 decode steps of Llama-3.1-8B, which is about a second."""


class ReplicaSlots:
    """The slots for requests at each replica, by the replica's index.

    The next request goes to the replica with the least load: requests outstanding, those before
    their first token weighted, over the limit. Ties rotate.

    Attributes:
        outstanding: Requests that each replica has.
        limits: Most requests that each may have; 0 where none may go.
        next: Index of the replica that gets the next request of a tie.
    """

    __slots__ = ("_loads", "_prefilling", "limits", "next", "outstanding")

    def __init__(self, limits: Sequence[int], first: int = 0) -> None:
        """Begin without requests.

        Args:
            limits: Most requests that each replica may have.
            first: Index of the replica that gets the first request of a tie.
        """
        self.limits = list(limits)
        self.outstanding = [0] * len(limits)
        self._prefilling = [0] * len(limits)
        self._loads = [0.0 if limit > 0 else inf for limit in limits]
        self.next = first % len(limits) if limits else 0

    def limit(self, replica: int, limit: int) -> None:
        """Set the limit of a replica."""
        self.limits[replica] = limit
        self._weigh(replica)

    def acquire(self) -> int | None:
        """Take a slot and return its replica; None if every replica is full.

        The request counts as one before its first token until `begin`.
        """
        loads = self._loads
        least = min(loads, default=inf)
        if least == inf:
            return None
        try:
            replica = loads.index(least, self.next)
        except ValueError:
            replica = loads.index(least)
        self.next = replica + 1
        self.outstanding[replica] += 1
        self._prefilling[replica] += 1
        self._weigh(replica)
        return replica

    def occupy(self, replica: int, outstanding: int, prefilling: int) -> None:
        """Add requests to a replica, some of them before their first token."""
        self.outstanding[replica] += outstanding
        self._prefilling[replica] += prefilling
        self._weigh(replica)

    def occupied(self, replica: int) -> tuple[int, int]:
        """Return the requests of a replica, and those of them before their first token."""
        return self.outstanding[replica], self._prefilling[replica]

    def begin(self, replica: int, requests: int = 1) -> None:
        """Note that requests have got their first token."""
        assert self._prefilling[replica] >= requests, "more first tokens than requests"
        self._prefilling[replica] -= requests
        self._weigh(replica)

    def release(self, replica: int) -> None:
        """Return the slot of a request that `begin` has counted."""
        assert self.outstanding[replica] > 0, "nothing is outstanding"
        self.outstanding[replica] -= 1
        self._weigh(replica)

    def clear(self, replica: int) -> None:
        """Return all slots of a replica that is lost; nothing more goes there."""
        self.limits[replica] = self.outstanding[replica] = self._prefilling[replica] = 0
        self._weigh(replica)

    def _weigh(self, replica: int) -> None:
        taken, limit = self.outstanding[replica], self.limits[replica]
        weighted = taken + PROMPT_WEIGHT * self._prefilling[replica]
        self._loads[replica] = inf if taken >= limit else weighted / limit
