"""Wait here for a place at a replica."""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import dataclass, field

from steppe.control.admission import AdmissionQueue, Ticket
from steppe.errors import SteppeError
from steppe.gateway.cancel_scope import CancelScope
from steppe.gateway.proxy import ReplicaLostError
from steppe.gateway.routing import Route, RoutingTable


class RefusedError(SteppeError):
    """A request gets no place, or has to leave it; the client may try again later.

    Attributes:
        code: Why: `queue_full`, `gave_way`, `waited_too_long`, `no_replica` or `stopping`.
    """

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(eq=False, slots=True)
class ReplicaSlot:
    """A place of one request at a replica.

    Attributes:
        route: The way to the replica.
        has_begun: Whether the request has got its first token.
        cord: Ends the talk with the replica when it is pulled.
    """

    route: Route
    has_begun: bool = False
    cord: CancelScope = field(default_factory=CancelScope)


class AdmissionGate:
    """Hands out places at replicas in the order of an `AdmissionQueue`.

    Lives on one event loop; not safe to use from another thread. Times are `time.monotonic`, s.
    """

    def __init__(self, max_waiting: int) -> None:
        self._max_waiting = max_waiting
        self._queue = AdmissionQueue()
        self._table = RoutingTable()
        self._places: dict[Ticket, asyncio.Future[ReplicaSlot]] = {}
        self._held: set[ReplicaSlot] = set()
        self._capacity_s: float | None = None
        self._is_open = True

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return len(self._queue)

    @property
    def deferrable(self) -> int:
        """How many of them are of class `deferrable`."""
        return self._queue.deferrable

    @property
    def table(self) -> RoutingTable:
        """The awake replicas and what each has outstanding."""
        return self._table

    def set_routes(self, routes: tuple[Route, ...], capacity_s: float | None) -> None:
        """Take a new table; `capacity_s` is the time at which there will be more room.

        Who still waits for a replica that has moved waits in vain, and is told that it is lost.
        """
        self._table.replace(routes)
        for place in self._held:
            if self._table.has_moved(place.route):
                why = f"{place.route.replica} is no longer at {place.route.url}"
                place.cord.pull(ReplicaLostError(why))
        self._capacity_s = capacity_s
        self._hand_out()

    def capacity_in_s(self, now_s: float) -> float | None:
        """Return the time until there is more room, s, as the last table's author forecast it."""
        return None if self._capacity_s is None else max(0.0, self._capacity_s - now_s)

    def close(self) -> None:
        """Refuse everybody from now on."""
        self._is_open = False
        for place in self._places.values():
            if not place.done():
                place.set_exception(_stopping())

    def clear(self) -> None:
        """Tell those who have a place to leave: the gateway is stopping."""
        for place in self._held:
            place.cord.pull(_stopping())

    async def enter(self, ticket: Ticket, deadline_s: float, *, again: bool = False) -> ReplicaSlot:
        """Wait for a place; it must be given back with `leave`.

        Args:
            ticket: Place in the order.
            deadline_s: Until when the request will wait.
            again: Whether the request had a place already, so that a full queue takes it in.

        Raises:
            RefusedError: Too many wait, it gave way to a more urgent one, the wait was too long, or
                the gateway is stopping.
        """
        if not self._is_open:
            raise _stopping()
        if not len(self._queue):
            place = self._take()
            if place is not None:
                return place
        if self.waiting >= self._max_waiting and not again:
            self._make_room(ticket)
        return await self._wait(ticket, deadline_s)

    def begin(self, place: ReplicaSlot) -> None:
        """Note that the request of a place has got its first token; again changes nothing."""
        if not place.has_begun:
            place.has_begun = True
            self._table.begin(place.route)

    def leave(self, place: ReplicaSlot) -> None:
        """Give a place back."""
        self._release(place)
        self._hand_out()

    def _make_room(self, newcomer: Ticket) -> None:
        """Have the last of a lower class give way, or refuse the newcomer."""
        last = self._queue.outranked_by(newcomer)
        if last is None:
            raise RefusedError(self._why(f"{self.waiting} requests wait already"), "queue_full")
        self._queue.leave(last)
        place = self._places[last]
        if not place.done():
            why = self._why(f"{self.waiting + 1} requests waited, and a more urgent one came")
            place.set_exception(RefusedError(why, "gave_way"))

    def _take(self) -> ReplicaSlot | None:
        route = self._table.acquire()
        if route is None:
            return None
        place = ReplicaSlot(route)
        self._held.add(place)
        return place

    def _release(self, place: ReplicaSlot) -> None:
        self.begin(place)
        self._held.remove(place)
        self._table.release(place.route)

    async def _wait(self, ticket: Ticket, deadline_s: float) -> ReplicaSlot:
        while self._is_open:
            place = await self._next_place(ticket, deadline_s)
            if self._table.lists(place.route):
                return place
            self.leave(place)  # the table changed before we woke up
        raise _stopping()

    async def _next_place(self, ticket: Ticket, deadline_s: float) -> ReplicaSlot:
        place: asyncio.Future[ReplicaSlot] = asyncio.get_running_loop().create_future()
        self._places[ticket] = place
        self._queue.join(ticket)
        self._hand_out()
        try:
            async with asyncio.timeout(deadline_s - time.monotonic()):
                return await place
        except TimeoutError as error:
            self._abandon(place)
            raise RefusedError(self._why("waited as long as allowed"), "waited_too_long") from error
        except asyncio.CancelledError:
            self._abandon(place)
            raise
        finally:
            self._queue.leave(ticket)
            del self._places[ticket]

    def _abandon(self, place: asyncio.Future[ReplicaSlot]) -> None:
        if place.done() and not place.cancelled() and place.exception() is None:
            self.leave(place.result())

    def _hand_out(self) -> None:
        while len(self._queue):
            place = self._take()
            if place is None:
                return
            if not self._give(place):
                self._release(place)
                return

    def _give(self, place: ReplicaSlot) -> bool:
        now_s = time.monotonic()
        ticket = self._queue.pop(now_s)
        while ticket is not None:
            wanted = self._places[ticket]
            if not wanted.done():
                wanted.set_result(place)
                return True
            ticket = self._queue.pop(now_s)
        return False

    def _why(self, problem: str) -> str:
        awake = len(self._table.routes)
        state = f"{awake} replicas are awake, all busy" if awake else "no replica is awake"
        now_s = time.monotonic()
        forecast_s = self.capacity_in_s(now_s)
        hint = "" if forecast_s is None else f"; capacity is forecast in {math.ceil(forecast_s)} s"
        return f"{problem}: {state}{hint}"


def _stopping() -> RefusedError:
    return RefusedError("the gateway is stopping", "stopping")
