"""Admission: requests wait here for a slot at a replica."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

from steppe.control.admission import DEFERRABLE, NO_SHARES, AdmissionQueue, Ticket
from steppe.gateway.gate_errors import HandedOverError, MovedError, RefusedError
from steppe.gateway.replica_caches import AffinitySettings, ReplicaCaches
from steppe.gateway.replica_client import ReplicaLostError
from steppe.gateway.replica_slot import PendingSlot, ReplicaSlot
from steppe.gateway.routing import Route, RoutingTable


class AdmissionGate:
    """Assigns slots at replicas in the order of an `AdmissionQueue`.

    Use it on one event loop; it is not safe from other threads. Times are `time.monotonic`, s.

    Attributes:
        on_wait: Called when a request begins to wait.
    """

    def __init__(
        self,
        max_waiting: int,
        now_s: Callable[[], float] = time.monotonic,
        prompt_wait_s: float = math.inf,
        stale_s: float = math.inf,
        class_shares: Sequence[float] = NO_SHARES,
        *,
        affinity: AffinitySettings | None = None,
        prefix_wait_s: float = 0.0,
    ) -> None:
        """Begin without replicas.

        Args:
            max_waiting: Most requests that wait.
            now_s: Reads the monotonic clock, s.
            prompt_wait_s: Longest time that prompts may wait at a replica, s; beyond it they wait
                here, where the urgent ones go first.
            stale_s: A routing table that was not set again for so long gives no slot, s: the
                controller is gone, and its replicas have paused or soon will.
            class_shares: Least share of each class in what is served while it waits.
            affinity: How much the prefix caches of replicas count; the load alone decides if None.
            prefix_wait_s: Longest wait for a busy replica that holds much of a prompt, s.
        """
        self._prefix_wait_s, self._held = prefix_wait_s, list[PendingSlot]()
        self._stale_s, self._routed_s = stale_s, math.nan
        self._max_waiting = max_waiting
        self._now_s = now_s
        self._queue = AdmissionQueue(class_shares)
        caches = None if affinity is None else ReplicaCaches(affinity)
        self._table = RoutingTable(prompt_wait_s, caches)
        self._pending: dict[Ticket, PendingSlot] = {}
        self._waiting_places: dict[Ticket, int] = {}
        self._waiting = 0
        self._slots: set[ReplicaSlot] = set()
        self._capacity_s: float | None = None
        self._resuming: deque[PendingSlot] = (
            deque()
        )  # streams that have begun, and lost their replica
        self._is_open, self._has_ended = True, False
        self.on_wait: Callable[[], None] = lambda: None

    @property
    def waiting(self) -> int:
        """Number of waiting requests, each counted with its sequences."""
        return self._waiting

    @property
    def deferrable(self) -> int:
        """Number of waiting requests of class `deferrable`."""
        return self._queue.deferrable

    @property
    def table(self) -> RoutingTable:
        """The awake replicas and their outstanding requests."""
        return self._table

    @property
    def routes_age_s(self) -> float:
        """Time since the routing table was last set, s; not a number before."""
        return self._now_s() - self._routed_s

    @property
    def is_stale(self) -> bool:
        """Whether the controller has been silent for too long."""
        return self.routes_age_s > self._stale_s

    def set_routes(self, routes: tuple[Route, ...], capacity_s: float | None) -> None:
        """Replace the routing table.

        Requests at a replica that has moved to another address end with `ReplicaLostError`.

        Args:
            routes: The awake replicas.
            capacity_s: Time at which more capacity is forecast, s; None if unknown.
        """
        self._table.replace(routes)
        self._routed_s = self._now_s()
        for slot in self._slots:
            if self._table.has_moved(slot.route):
                why = f"{slot.route.replica} is no longer at {slot.route.url}"
                slot.scope.cancel(ReplicaLostError(why))
        self._capacity_s = capacity_s
        self._assign_slots()

    def share(self, places: Mapping[str, int]) -> None:
        """Fill at most so many places of each replica, see `RoutingTable.share`."""
        self._table.share(places)
        self._assign_slots()

    def hand_over(self, replica: str) -> int:
        """End the exchanges of a replica whose requests can go on elsewhere.

        Take the replica out of the routing table before, or they may go back to it. What cannot go
        on stays: it would be lost.

        Returns:
            The number of requests that left.
        """
        leaving = [s for s in self._slots if s.route.replica == replica and s.can_move()]
        for slot in leaving:
            slot.scope.cancel(HandedOverError(f"{replica} handed its requests over"))
        return len(leaving)

    def move_waiting(self, alias: str, model: str, most: int) -> None:
        """Send requests for an alias that wait here to another variant, the first in order.

        Args:
            alias: The alias.
            model: The variant that has room.
            most: Most sequences to send.
        """
        now_s = self._now_s()
        ours = [t for t, p in self._pending.items() if p.alias == alias and not p.slot.done()]
        for ticket in sorted(ours, key=lambda t: (t.rank, t.late_s < now_s, t.number)):
            most -= self._waiting_places.get(ticket, 1)
            if most < 0:
                return
            self._leave_queue(ticket)
            self._pending[ticket].slot.set_exception(MovedError(model))

    def is_awake(self, route: Route) -> bool:
        """Return whether the replica of a route is in the routing table and may step."""
        return self._table.contains(route) and not self.is_stale

    def capacity_in_s(self) -> float | None:
        """Return the time until more capacity is forecast, s; None if unknown."""
        return None if self._capacity_s is None else max(0.0, self._capacity_s - self._now_s())

    def close(self) -> None:
        """Refuse all waiting and new requests."""
        self._is_open = False
        for pending in self._pending.values():
            if not pending.slot.done():
                pending.slot.set_exception(_stopping())
        for pending in self._held:
            if not pending.slot.done():
                pending.slot.set_exception(_stopping())

    def cancel_all(self) -> None:
        """End all requests that have a slot, or had one, because the gateway stops."""
        self._has_ended = True
        for pending in self._resuming:
            if not pending.slot.done():
                pending.slot.set_exception(_stopping())
        for slot in self._slots:
            slot.scope.cancel(_stopping())

    async def enter(
        self,
        ticket: Ticket,
        deadline_s: float,
        places: int = 1,
        *,
        streams: bool = False,
        is_retry: bool = False,
        blocks: tuple[int, ...] = (),
        alias: str = "",
        displaces: bool = True,
    ) -> ReplicaSlot:
        """Wait for a slot; give it back with `leave`.

        Args:
            ticket: Position in the queue.
            deadline_s: Time at which the request stops waiting.
            places: Its sequences.
            streams: Whether the request's first token will be seen.
            is_retry: Whether the request had a slot before, so that a full queue admits it.
            blocks: Chained hashes of the blocks of its prompt, see `prompt_blocks`.
            alias: The alias that it asks for, if it may go to another variant; else empty.
            displaces: Whether a less urgent request gives way to it if the queue is full.

        Raises:
            RefusedError: The queue is full, the request gave way to a more urgent one or waited
                too long, or the gateway is stopping.
            MovedError: Another variant has room for it.
        """
        if not self._is_open:
            raise _stopping()
        later = ticket.rank == DEFERRABLE
        slot = None if later else await self._held_for_prefix(places, blocks, streams=streams)
        if slot is None and not len(self._queue) and not self._resuming:
            slot = self._acquire(places, blocks, streams=streams, later=later)
        if slot is not None:
            return slot
        if self.waiting >= self._max_waiting and not is_retry:
            self._make_room(ticket, displaces=displaces)
        request = PendingSlot(_new_future(), places, streams, blocks, alias, later)
        return await self._wait(ticket, deadline_s, request)

    async def resume(self, deadline_s: float, places: int = 1) -> ReplicaSlot:
        """Wait for another slot for a stream that has begun; give it back with `leave`.

        It goes before all requests that wait, none of them displaces it, and a gateway that stops
        lets it go on as those that have a slot.

        Args:
            deadline_s: Time at which the stream is given up.
            places: Its sequences.

        Raises:
            RefusedError: It waited too long, or the gateway has stopped.
        """
        while not self._has_ended:
            slot = None if self._resuming else self._acquire(places, streams=True)
            slot = slot or await self._next_resumed(deadline_s, places)
            if self._table.contains(slot.route):
                return slot
            self.leave(slot)  # the table changed before this task resumed
        raise _stopping()

    def begin(self, slot: ReplicaSlot) -> None:
        """Note that the request of a slot has its first token; repeated calls change nothing."""
        if not slot.has_begun:
            self._begin(slot)
            self._assign_slots()  # there may be room for another prompt

    def settle(self, ticket: Ticket, tokens: int) -> None:
        """Charge the class and the tenant of a request that has waited the tokens that it took."""
        self._queue.settle(ticket, tokens)

    def leave(self, slot: ReplicaSlot) -> None:
        """Give a slot back."""
        self._release(slot)
        self._assign_slots()

    def _begin(self, slot: ReplicaSlot) -> None:
        slot.has_begun = True
        streams, later = slot.streams and not slot.later, slot.later
        self._table.begin(slot.route, self._now_s(), slot.places, streams=streams, later=later)

    def _make_room(self, newcomer: Ticket, *, displaces: bool) -> None:
        """Remove a request that gives way, or refuse the newcomer."""
        last = self._queue.outranked_by(newcomer) if displaces else None
        if last is None:
            raise RefusedError(self._explain(f"{self.waiting} requests wait already"), "queue_full")
        self._leave_queue(last)
        pending = self._pending[last].slot
        if not pending.done():
            urgent = "a more urgent one" if newcomer.rank < last.rank else "one of another tenant"
            problem = f"{self.waiting + 1} requests waited, and {urgent} came"
            pending.set_exception(RefusedError(self._explain(problem), "gave_way"))

    def elsewhere(self, slot: ReplicaSlot, avoid: Collection[str]) -> ReplicaSlot:
        """Return a slot at a replica that is not to be avoided, in place of a new one.

        Args:
            slot: The slot; it is given back if there is another one.
            avoid: Names of replicas.
        """
        if slot.route.replica not in avoid:
            return slot
        route = self._table.acquire_but(avoid, slot.places, later=slot.later)
        if route is None:
            return slot
        other = replace(slot, route=route, places=min(slot.places, route.limit))
        self._slots.add(other)
        if slot.streams and not slot.later:
            self._table.expect_first_token(route, self._now_s(), other.places)
        self.leave(slot)
        return other

    def _acquire(
        self, places: int, blocks: tuple[int, ...] = (), *, streams: bool, later: bool = False
    ) -> ReplicaSlot | None:
        route = None if self.is_stale else self._table.acquire(places, blocks, later=later)
        if route is None:
            return None
        slot = ReplicaSlot(route, min(places, route.limit), streams, later)
        self._slots.add(slot)
        if streams and not later:  # a prompt that waits for urgent ones says nothing of the pace
            self._table.expect_first_token(route, self._now_s(), slot.places)
        return slot

    async def _held_for_prefix(
        self, places: int, blocks: tuple[int, ...], *, streams: bool
    ) -> ReplicaSlot | None:
        """Wait a moment for a busy replica that holds much of a prompt.

        Returns:
            A slot there; None without a wait, or if it stays busy.
        """
        is_idle = not len(self._queue) and not self._resuming and not self.is_stale
        may_wait = self._prefix_wait_s > 0 and is_idle and self._table.has_room
        if not (may_wait and self._table.should_wait(places, blocks)):
            return None
        request = PendingSlot(_new_future(), places, streams, blocks)
        self._held.append(request)
        try:
            async with asyncio.timeout(self._prefix_wait_s):
                slot = await request.slot
        except TimeoutError:
            self._give_up(request.slot)
            return None
        except asyncio.CancelledError:
            self._give_up(request.slot)
            raise
        finally:
            if request in self._held:
                self._held.remove(request)
        if self._table.contains(slot.route):
            return slot
        self.leave(slot)  # the table changed before this task resumed
        return None

    def _assign_held(self) -> None:
        """Give slots to requests whose replicas are no longer busy, or hold nothing any more."""
        for request in [r for r in self._held if not r.slot.done()]:
            if self._table.should_wait(request.places, request.blocks):
                continue
            slot = self._acquire(request.places, request.blocks, streams=request.streams)
            if slot is None:
                return
            self._held.remove(request)
            request.slot.set_result(slot)

    def _release(self, slot: ReplicaSlot) -> None:
        if not slot.has_begun:
            self._begin(slot)
        self._slots.remove(slot)
        self._table.release(slot.route, slot.places, later=slot.later)

    async def _wait(self, ticket: Ticket, deadline_s: float, request: PendingSlot) -> ReplicaSlot:
        while self._is_open:
            slot = await self._next_slot(ticket, deadline_s, request)
            if self._table.contains(slot.route):
                return slot
            self.leave(slot)  # the table changed before this task resumed
            request = replace(request, slot=_new_future())
        raise _stopping()

    async def _next_slot(
        self, ticket: Ticket, deadline_s: float, request: PendingSlot
    ) -> ReplicaSlot:
        pending, places = request.slot, request.places
        self._pending[ticket] = request
        self._queue.join(ticket)
        # One that is wider than any replica takes no more than all places of one.
        counted = min(places, max((route.limit for route in self._table.routes), default=places))
        self._waiting_places[ticket] = counted
        self._waiting += counted
        self._assign_slots()
        self.on_wait()
        try:
            # No cancellation: a slot that comes in the same pass of the loop as the end is taken.
            await asyncio.wait([pending], timeout=deadline_s - self._now_s())
            if pending.done():
                return pending.result()
            raise RefusedError(self._explain("waited as long as allowed"), "waited_too_long")
        except asyncio.CancelledError:
            self._give_up(pending)
            raise
        finally:
            self._leave_queue(ticket)
            del self._pending[ticket]

    async def _next_resumed(self, deadline_s: float, places: int) -> ReplicaSlot:
        slot: asyncio.Future[ReplicaSlot] = asyncio.get_running_loop().create_future()
        pending = PendingSlot(slot, places, streams=True)
        self._resuming.append(pending)
        self._waiting += places
        self.on_wait()
        try:
            async with asyncio.timeout(deadline_s - self._now_s()):
                return await slot
        except TimeoutError as error:
            self._give_up(slot)
            why = self._explain("waited as long as a stream may be held")
            raise RefusedError(why, "waited_too_long") from error
        except asyncio.CancelledError:
            self._give_up(slot)
            raise
        finally:
            self._waiting -= places
            if pending in self._resuming:
                self._resuming.remove(pending)

    def _give_up(self, pending: asyncio.Future[ReplicaSlot]) -> None:
        """Give back a slot that was assigned while the wait ended."""
        if pending.done() and not pending.cancelled() and pending.exception() is None:
            self.leave(pending.result())

    def _assign_slots(self) -> None:
        """Give slots to the first requests of the queue, until one of them finds no room."""
        while self._resuming and self._table.has_room:
            first = self._resuming[0]
            slot = None
            if not first.slot.done():
                slot = self._acquire(first.places, streams=first.streams)
                if slot is None:
                    return
                first.slot.set_result(slot)
            self._resuming.popleft()
        while len(self._queue) and self._table.has_room:
            ticket = self._queue.first(self._now_s())
            assert ticket is not None, "the queue is not empty"
            pending = self._pending[ticket]
            if pending.slot.done():
                self._leave_queue(ticket)
                continue
            slot = self._acquire(
                pending.places, pending.blocks, streams=pending.streams, later=pending.later
            )
            if slot is None:
                return
            self._queue.serve(ticket)
            slot.is_charged = True
            self._leave_queue(ticket)
            pending.slot.set_result(slot)
        self._assign_held()

    def _leave_queue(self, ticket: Ticket) -> None:
        """Remove a request from those that wait; one that does not wait is ignored."""
        self._queue.leave(ticket)
        self._waiting -= self._waiting_places.pop(ticket, 0)

    def _explain(self, problem: str) -> str:
        if self.is_stale:
            return f"{problem}: the controller has been silent for {self.routes_age_s:.0f} s"
        awake = len(self._table.routes)
        state = f"{awake} replicas are awake, all busy" if awake else "no replica is awake"
        forecast_s = self.capacity_in_s()
        hint = "" if forecast_s is None else f"; capacity is forecast in {math.ceil(forecast_s)} s"
        return f"{problem}: {state}{hint}"


def _new_future() -> asyncio.Future[ReplicaSlot]:
    return asyncio.get_running_loop().create_future()


def _stopping() -> RefusedError:
    return RefusedError("the gateway is stopping", "stopping")
