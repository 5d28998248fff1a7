"""The gateway in virtual time: the order of the live one, and its choice of a replica."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush

from steppe.control.admission import DEFERRABLE, NO_SHARES, AdmissionQueue, Ticket
from steppe.control.affinity import LEAST_SAVED_TOKENS, PrefixAffinity
from steppe.control.placing import ReplicaSlots
from steppe.control.prefix_index import PrefixIndex
from steppe.load.arrivals import Arrival
from steppe.sim.events import EventQueue
from steppe.sim.request import Request


@dataclass(frozen=True, slots=True)
class GatewayLimits:
    """How many requests may wait, and for how long.

    Attributes:
        max_waiting: Requests that may wait; beyond it, the last of the lowest class is refused.
        max_wait_s: Longest wait, s; then a request is shed.
        ttft_s: The SLO's longest time to the first token, s.
        tpot_s: The SLO's longest time per output token, s.
        prompt_wait_s: Longest time that prompts may wait at a replica, s; beyond it they wait at
            the gateway.
        class_shares: Least share of each class in what is served while it waits.
        load_bound: Most load of a replica that is chosen for its prefix cache, times its fair
            share; None: the cache does not count.
        index_tokens: Prompt tokens that the gateway keeps of each replica.
        prefix_wait_s: Longest wait for a busy replica that holds much of a prompt, s.
    """

    max_waiting: int
    max_wait_s: float
    ttft_s: float
    tpot_s: float = math.inf
    prompt_wait_s: float = math.inf
    class_shares: tuple[float, ...] = NO_SHARES
    load_bound: float | None = None
    index_tokens: int = 1 << 20
    prefix_wait_s: float = 0.0


class SimulatedGateway:
    """Sends requests to replicas; requests that find no slot wait.

    Attributes:
        slots: The slots of each replica.
        affinity: What the replicas hold; None before the first request whose prefix is known, and
            where caches do not count.
    """

    __slots__ = (
        "_deadlines",
        "_ended",
        "_held",
        "_limits",
        "_order",
        "_queue",
        "_send",
        "_speeds",
        "_waiting",
        "affinity",
        "slots",
    )

    def __init__(
        self,
        replicas: int,
        limits: GatewayLimits,
        queue: EventQueue,
        send: Callable[[int, Request], None],
        ended: Callable[[Request], None],
    ) -> None:
        """Begin with no replica in the table.

        Args:
            replicas: Number of replicas.
            limits: When to refuse.
            queue: Virtual time.
            send: Gives a request to a replica.
            ended: Takes a request that was refused.
        """
        self.slots = ReplicaSlots([0] * replicas, prompt_wait_s=limits.prompt_wait_s)
        self._limits, self._queue = limits, queue
        self._speeds: Sequence[float] = ()
        self._send, self._ended = send, ended
        self._order = AdmissionQueue(limits.class_shares)
        self.affinity: PrefixAffinity | None = None
        self._waiting: dict[int, Request] = {}
        self._held: dict[int, Request] = {}  # for a busy replica that holds their prompts
        self._deadlines: list[tuple[float, int]] = []

    @property
    def waiting(self) -> int:
        """Number of requests that wait."""
        return len(self._waiting)

    @property
    def deferrable(self) -> int:
        """Number of waiting requests of class `deferrable`."""
        return self._order.deferrable

    def submit(self, request: Request) -> None:
        """Take a new request in; it may wait a moment for a replica that holds its prompt."""
        if not self._waiting and self.slots.has_room and self._should_wait(request.arrival):
            self._held[request.number] = request
            until_s = self._queue.now_s + self._limits.prefix_wait_s
            self._queue.at(until_s, self._end_hold, request.number)
        else:
            self._take(request)

    def _take(self, request: Request) -> None:
        if not self._waiting:
            replica = self._acquire(request.arrival)
            if replica is not None:
                self._send(replica, request)
                return
        if len(self._waiting) < self._limits.max_waiting or self._make_room(request):
            self._wait(request)
        else:
            self._refuse(request, "rejected")

    def take_waiting(self, is_wanted: Callable[[Request], bool], most: int) -> list[Request]:
        """Give away requests that wait, those first that can still keep the SLO.

        Args:
            is_wanted: Whether a request may go.
            most: How many at most.
        """
        now_s = self._queue.now_s
        found = [request for request in self._waiting.values() if is_wanted(request)]
        tickets = {request.number: self._ticket(request) for request in found}
        found.sort(key=lambda r: (tickets[r.number].late_s < now_s, tickets[r.number]))
        for request in found[:most]:
            self._order.leave(self._ticket(request))
            del self._waiting[request.number]
        return found[:most]

    def submit_again(self, request: Request) -> None:
        """Take back a request whose replica died before its first token."""
        self._wait(request)
        self._send_waiting()

    def begin(self, replica: int, requests: Sequence[Request]) -> None:
        """Note that requests have got their first token."""
        later = sum([request.is_deferrable for request in requests])
        if later:
            now_s = self._queue.now_s
            self.slots.begin(replica, now_s, later, streams=False, later=True)
        if len(requests) > later:
            self.slots.begin(replica, self._queue.now_s, len(requests) - later)
        if requests:
            self._send_waiting()

    def release(self, replica: int, request: Request) -> None:
        """Return a slot."""
        self.slots.release(replica, later=request.is_deferrable)
        self._send_waiting()

    def release_all(self, replica: int) -> None:
        """Return all slots of a replica that is lost; nothing more goes there."""
        self.slots.clear(replica)
        self.forget(replica)

    def forget(self, replica: int) -> None:
        """Note that a replica has lost its prefix cache."""
        if self.affinity is not None:
            self.affinity.index.forget(replica)

    def worth(self, replica: int) -> float:
        """Return how many blocks of recent prompts the cache of a replica could serve."""
        return 0.0 if self.affinity is None else self.affinity.index.worth(replica)

    def route(self, limits: list[int], speeds: Sequence[float] = ()) -> None:
        """Take a new table.

        Args:
            limits: Most requests outstanding at each replica; 0 where none may go.
            speeds: Output tokens/s that the plan gives each; 0, or empty, if unknown.
        """
        if limits != self.slots.limits or speeds != self._speeds:
            self._speeds = speeds
            for replica, limit in enumerate(limits):
                self.slots.limit(replica, limit)
            if speeds:
                self.slots.set_speeds(speeds)
        self._send_waiting()

    def close(self) -> None:
        """Cancel the requests that wait: the run is over, and the clients leave."""
        for request in [*self._waiting.values(), *self._held.values()]:
            request.end(self._queue.now_s, "cancelled", 0)
            self._ended(request)
        self._waiting.clear()
        self._held.clear()

    def _should_wait(self, arrival: Arrival) -> bool:
        """Return whether a busy replica holds much more of a prompt than those with room."""
        may_wait = self._limits.prefix_wait_s > 0 and arrival.rank != DEFERRABLE
        if self.affinity is None or not may_wait or not arrival.hash_ids:
            return False
        return self.affinity.should_wait(self.slots, arrival.hash_ids)

    def _end_hold(self, _now_s: float, number: int) -> None:
        request = self._held.pop(number, None)
        if request is not None:
            self._take(request)

    def _acquire(self, arrival: Arrival) -> int | None:
        """Take a slot for a request, which streams."""
        later = arrival.rank == DEFERRABLE
        if arrival.hash_ids and self._limits.load_bound is not None:
            affinity = self.affinity or self._begin_affinity(arrival, self._limits.load_bound)
            replica = affinity.acquire(self.slots, arrival.hash_ids, later=later)
        else:
            replica = self.slots.acquire(later=later)
        if replica is not None and not later:
            self.slots.expect_first_token(replica, self._queue.now_s)
        return replica

    def _begin_affinity(self, arrival: Arrival, load_bound: float) -> PrefixAffinity:
        """Begin to note what the replicas hold, in blocks of the size of this request's."""
        blocks = max(1, self._limits.index_tokens // arrival.block_tokens)
        index = PrefixIndex(len(self.slots.limits), blocks)
        saved = -(-LEAST_SAVED_TOKENS // arrival.block_tokens)
        self.affinity = PrefixAffinity(index, load_bound, saved)
        return self.affinity

    def _make_room(self, newcomer: Request) -> bool:
        """Shed the last request of a lower class; return whether there was one."""
        last = self._order.outranked_by(self._ticket(newcomer))
        if last is None:
            return False
        self._order.leave(last)
        self._refuse(self._waiting.pop(last.number), "shed")
        return True

    def _send_waiting(self) -> None:
        while self._waiting and self.slots.has_room:
            ticket = self._order.first(self._queue.now_s)
            assert ticket is not None, "every waiting request has a ticket"
            request = self._waiting[ticket.number]
            replica = self._acquire(request.arrival)
            if replica is None:  # a deferrable one, and room for others only
                break
            self._order.serve(ticket)
            del self._waiting[ticket.number]
            self._send(replica, request)
        if self._held:
            self._send_held()

    def _send_held(self) -> None:
        """Send requests whose replicas are no longer busy."""
        for request in list(self._held.values()):
            if self.slots.has_room and not self._should_wait(request.arrival):
                del self._held[request.number]
                self._take(request)

    def _wait(self, request: Request) -> None:
        self._waiting[request.number] = request
        self._order.join(self._ticket(request))
        deadline_s = request.arrival.at_s + self._limits.max_wait_s
        heappush(self._deadlines, (deadline_s, request.number))
        if self._deadlines[0] == (deadline_s, request.number):
            self._queue.at(max(deadline_s, self._queue.now_s), self._shed)

    def _shed(self, now_s: float, _: object) -> None:
        """Refuse the requests whose deadline has passed, and come back at the next deadline."""
        deadlines = self._deadlines
        while deadlines and (deadlines[0][0] <= now_s or deadlines[0][1] not in self._waiting):
            deadline_s, number = heappop(deadlines)
            if deadline_s <= now_s and number in self._waiting:
                request = self._waiting.pop(number)
                self._order.leave(self._ticket(request))
                self._refuse(request, "shed")
        if deadlines:
            self._queue.at(deadlines[0][0], self._shed)

    def _ticket(self, request: Request) -> Ticket:
        arrival = request.arrival
        return Ticket.of(arrival.rank, request.number, arrival.at_s, self._limits.ttft_s)

    def _refuse(self, request: Request, finish: str) -> None:
        request.end(self._queue.now_s, finish, 0)
        self._ended(request)
