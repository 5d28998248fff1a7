"""Who goes where next: the gateway's order and its choice of a replica, in virtual time.

The choice is that of `gateway/routing.py`: the least loaded, ties in turn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from heapq import heappop, heappush
from math import inf

from steppe.control.admission import AdmissionQueue, Ticket
from steppe.control.placing import load_of
from steppe.sim.events import EventQueue
from steppe.sim.request import Request


@dataclass(frozen=True, slots=True)
class Patience:
    """How many may wait, and for how long.

    Attributes:
        most: Requests that may wait; of more, the last of the lowest class is refused.
        longest_s: How long one may wait, s; then it is shed.
        ttft_s: The SLO's longest time to the first token, s.
    """

    most: int
    longest_s: float
    ttft_s: float


class SimulatedGateway:
    """Hands out places at replicas; one that finds none waits.

    Attributes:
        outstanding: Requests that each replica has.
    """

    __slots__ = (
        "_ended",
        "_fresh",
        "_limits",
        "_line",
        "_loads",
        "_patience",
        "_queue",
        "_send",
        "_turn",
        "_until",
        "_waiting",
        "outstanding",
    )

    def __init__(
        self,
        replicas: int,
        patience: Patience,
        queue: EventQueue,
        send: Callable[[int, Request], None],
        ended: Callable[[Request], None],
    ) -> None:
        """Begin with no replica in the table.

        Args:
            replicas: How many there are.
            patience: When to refuse.
            queue: Virtual time.
            send: Gives a request to a replica.
            ended: Takes a request that was refused.
        """
        self.outstanding = [0] * replicas
        self._fresh = [0] * replicas
        self._limits = [0] * replicas
        self._loads = [inf] * replicas
        self._patience, self._queue = patience, queue
        self._send, self._ended = send, ended
        self._turn = 0
        self._line = AdmissionQueue()
        self._waiting: dict[int, Request] = {}
        self._until: list[tuple[float, int]] = []

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return len(self._waiting)

    @property
    def deferrable(self) -> int:
        """How many of them are of class `deferrable`."""
        return self._line.deferrable

    def submit(self, request: Request) -> None:
        """Take a new request in."""
        if not self._waiting:
            replica = self._acquire()
            if replica is not None:
                self._send(replica, request)
                return
        if len(self._waiting) < self._patience.most or self._make_room(request):
            self._wait(request)
        else:
            self._refuse(request, "rejected")

    def submit_again(self, request: Request) -> None:
        """Take back a request whose replica died before its first token."""
        self._wait(request)
        self._hand_out()

    def begin(self, replica: int, requests: int) -> None:
        """Note that requests have got their first token."""
        if requests:
            self._fresh[replica] -= requests
            self._weigh(replica)

    def release(self, replica: int) -> None:
        """Give a place back."""
        self.outstanding[replica] -= 1
        self._weigh(replica)
        if self._waiting:
            self._hand_out()

    def release_all(self, replica: int) -> None:
        """Give all places of a replica back; nothing more goes there."""
        self._limits[replica] = self.outstanding[replica] = self._fresh[replica] = 0
        self._weigh(replica)

    def route(self, limits: list[int]) -> None:
        """Take a new table: most requests outstanding at each replica; 0 where none may go."""
        if limits != self._limits:
            self._limits = limits
            for replica in range(len(limits)):
                self._weigh(replica)
        self._hand_out()

    def close(self) -> None:
        """End those that wait: the run is over, and the clients leave."""
        for request in self._waiting.values():
            request.end(self._queue.now_s, "cancelled", 0)
            self._ended(request)
        self._waiting.clear()

    def _weigh(self, replica: int) -> None:
        taken, limit = self.outstanding[replica], self._limits[replica]
        is_full = taken >= limit
        self._loads[replica] = inf if is_full else load_of(taken, self._fresh[replica], limit)

    def _acquire(self) -> int | None:
        """Take a place at the replica that is the least loaded; ties rotate."""
        loads = self._loads
        least = min(loads)
        if least == inf:
            return None
        try:
            replica = loads.index(least, self._turn)
        except ValueError:
            replica = loads.index(least)
        self._turn = replica + 1
        self.outstanding[replica] += 1
        self._fresh[replica] += 1
        self._weigh(replica)
        return replica

    def _make_room(self, newcomer: Request) -> bool:
        """Have the last of a lower class give way; return whether there is one."""
        last = self._line.outranked_by(self._ticket(newcomer))
        if last is None:
            return False
        self._line.leave(last)
        self._refuse(self._waiting.pop(last.number), "shed")
        return True

    def _hand_out(self) -> None:
        while self._waiting:
            replica = self._acquire()
            if replica is None:
                return
            ticket = self._line.pop(self._queue.now_s)
            assert ticket is not None, "whoever waits is in the line"
            self._send(replica, self._waiting.pop(ticket.number))

    def _wait(self, request: Request) -> None:
        self._waiting[request.number] = request
        self._line.join(self._ticket(request))
        until_s = request.arrival.at_s + self._patience.longest_s
        heappush(self._until, (until_s, request.number))
        if self._until[0] == (until_s, request.number):
            self._queue.at(max(until_s, self._queue.now_s), self._shed)

    def _shed(self, now_s: float, _: object) -> None:
        """Refuse who has waited as long as allowed, and come back for the next."""
        until = self._until
        while until and (until[0][0] <= now_s or until[0][1] not in self._waiting):
            until_s, number = heappop(until)
            if until_s <= now_s and number in self._waiting:
                request = self._waiting.pop(number)
                self._line.leave(self._ticket(request))
                self._refuse(request, "shed")
        if until:
            self._queue.at(until[0][0], self._shed)

    def _ticket(self, request: Request) -> Ticket:
        arrival = request.arrival
        return Ticket.of(arrival.rank, request.number, arrival.at_s, self._patience.ttft_s)

    def _refuse(self, request: Request, finish: str) -> None:
        request.end(self._queue.now_s, finish, 0)
        self._ended(request)
