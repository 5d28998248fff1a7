"""Forwards one request: wait for a slot, send it to a replica, relay the response, retry.

Before its first byte went to the client, every request is retried. After that, a plain stream goes
on at another replica, token for token (see `continuable`); any other stream that breaks, or that
the stop of the gateway ends, ends with an error event and no `[DONE]`.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import aiohttp
from aiohttp import web

from steppe.errors import ReplicaError
from steppe.gateway.client_stream import StreamTimes
from steppe.gateway.delivery import REQUEST_ID, Delivery
from steppe.gateway.gate import AdmissionGate
from steppe.gateway.gate_errors import HandedOverError, MovedError, RefusedError
from steppe.gateway.ledger.link import STOPPING
from steppe.gateway.replica_client import (
    ProxyRequest,
    ReplicaLostError,
    ReplicaResponse,
    ReplicaUnreachableError,
    StreamedResponse,
    send_request,
)
from steppe.gateway.replica_slot import ReplicaSlot
from steppe.gateway.request import RequestContext
from steppe.gateway.sites.other_sites import MOST_PEERS, NO_SITE, OtherSites, SiteLostError
from steppe.gateway.stream import find_error_status

__all__ = ["REQUEST_ID", "RequestForwarder", "relay"]

MAX_FAILED_REPLICAS = 2
"""A request that this many replicas failed may be the cause, so it is not retried elsewhere."""
PATIENCE_S = (0.2, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0)
"""Pauses of a stream that has begun after each replica that answers with a 5xx, s: the engine of
one that died is started again meanwhile."""
MAX_LOST = 16
"""A stream that lost so many replicas may be the cause, though each brought some tokens."""


RECONSIDER_S = 2.0
"""A request that waits, and may be served elsewhere, looks for another site so often, s."""
SITE_FULL = "site_full"
"""Code of the 503 of a request of another site that got no slot in time."""


@dataclass(frozen=True, slots=True)
class SitesSide:
    """What the sites change for a request.

    Attributes:
        others: Where it may go.
        max_wait_s: Longest wait of a request of another site for a slot here, s.
        on_stay: Called when a request that could have gone away stays here.
    """

    others: OtherSites
    max_wait_s: float
    on_stay: Callable[[RequestContext], None]


class ReplicaFailedError(ReplicaError):
    """A replica answered with a 5xx status, or with a stream that begins with such an error."""


class RequestForwarder:
    """Forwards requests that need a slot at a replica."""

    def __init__(
        self,
        gates: Mapping[str, AdmissionGate],
        session: aiohttp.ClientSession,
        max_wait_s: float,
        retry_delays_s: tuple[float, ...],
        *,
        times: StreamTimes | None = None,
        now_s: Callable[[], float] = time.monotonic,
        on_moved: Callable[[RequestContext, str], None] = lambda context, model: None,
        sites: SitesSide | None = None,
    ) -> None:
        """Create a forwarder.

        Args:
            gates: Assigns the slots of each model.
            session: The HTTP client of replicas.
            max_wait_s: Longest wait of a request for a slot, s.
            retry_delays_s: Pauses before each retry of a request that a replica failed, s.
            times: Time limits of streams.
            now_s: Reads the monotonic clock, s.
            on_moved: Notes that a request which waited goes to another variant of its alias.
            sites: The other sites; None without any.
        """
        self._sites = sites
        self._gates, self._on_moved = gates, on_moved
        self._session = session
        self._max_wait_s = max_wait_s
        self._retry_delays_s = retry_delays_s
        self._times = times or StreamTimes()
        self._now_s = now_s

    async def forward(
        self, request: web.Request, context: RequestContext, proxied: ProxyRequest
    ) -> web.StreamResponse:
        """Respond to a request, and record the result in `context`.

        Raises:
            RefusedError: There is no slot for it, or the gateway is stopping.
            ReplicaLostError: The connection broke in each try.
        """
        why = partial(self._why_nothing_comes, context)
        delivery = Delivery(request, context, proxied, self._times, why)
        with delivery.client as client:
            try:
                return await self._deliver(delivery)
            except (RefusedError, ReplicaLostError, ReplicaFailedError) as error:
                if not client.is_open:
                    raise
                return await self._break_off(delivery, error)
            except ConnectionResetError:  # of the client; that of a replica is a ReplicaLostError
                delivery.disconnect()
                assert client.response is not None, "its headers were sent"
                return client.response

    async def _deliver(self, delivery: Delivery) -> web.StreamResponse:
        """Send the request until it is answered; retry, or go on, after each loss."""
        tries = _Tries(self._retry_delays_s)
        while True:
            has_begun = delivery.client.has_begun
            try:
                return await self._try(delivery, is_last=tries.is_last and not has_begun)
            except (ReplicaFailedError, ReplicaLostError) as error:
                delay_s = tries.delay_s(error, delivery.progress, has_begun=has_begun)
                if delay_s is None or not delivery.can_go_on:
                    raise
                await asyncio.sleep(delay_s)

    async def _try(self, delivery: Delivery, *, is_last: bool) -> web.StreamResponse:
        """Send the request once; a replica that takes no connection does not count as a try."""
        context = delivery.context
        if self._sites is not None:
            sent = await self._elsewhere(delivery, self._sites)
            if sent is not None:
                return sent
        while True:
            entered = await self._enter(delivery)
            if isinstance(entered, web.StreamResponse):
                return entered
            gate = self._gates[context.model]
            slot = gate.elsewhere(entered, context.avoid)
            route = slot.route
            context.replica, context.is_at_replica = route.replica, True
            context.is_charged |= slot.is_charged
            if not delivery.client.has_begun:
                context.site = ""  # nothing of the answer is from there
            context.on_first_text = partial(gate.begin, slot)
            sent_s = context.sent_s = self._now_s()
            try:
                asked = delivery.sent_to(slot)
                async with send_request(self._session, route, asked, slot.scope) as response:
                    if not is_last:
                        _raise_failure(context, response, has_begun=delivery.client.has_begun)
                    return await delivery.relay(response)
            except ReplicaUnreachableError:
                gate.table.suspect(route)
            except ReplicaError as error:
                context.failed_s += self._now_s() - sent_s
                if delivery.client.has_begun or not isinstance(error, ReplicaFailedError):
                    gate.table.suspect(route)
                raise
            finally:
                context.is_at_replica = False
                gate.leave(slot)

    async def _elsewhere(self, delivery: Delivery, sites: SitesSide) -> web.StreamResponse | None:
        """Return the answer of another site; None if the request is to be served here.

        Raises:
            RefusedError: It may not be served here.
        """
        context = delivery.context
        gate = self._gates[context.model]
        was_here = delivery.client.has_begun and delivery.was_here
        if not (was_here and not gate.is_stale and gate.table.candidates()):
            sent = await sites.others.serve(delivery)
            if sent is not None:
                return sent
        if not context.may_stay:
            raise RefusedError("no other site takes the request, and it may not stay here", NO_SITE)
        if not context.is_here:
            sites.on_stay(context)
        return None

    async def _enter(self, delivery: Delivery) -> ReplicaSlot | web.StreamResponse:
        """Wait for a slot; or return the answer of another site that has room meanwhile.

        Raises:
            RefusedError: It waited too long, or for another reason of `AdmissionGate.enter`.
        """
        context, sites = delivery.context, self._sites
        until_s = self._waits_until_s(delivery)
        is_retry = context.replica is not None
        while True:
            has_tries = len(delivery.tried_sites) < MOST_PEERS
            may_leave = sites is not None and context.asked is not None and has_tries
            part_s = min(until_s, self._now_s() + RECONSIDER_S) if may_leave else until_s
            try:
                return await self._enter_until(delivery, part_s, is_retry=is_retry)
            except RefusedError as error:
                if error.code != "waited_too_long" or part_s >= until_s:
                    if not context.is_hop or error.code == STOPPING:
                        raise
                    raise RefusedError(str(error), SITE_FULL) from error
            assert sites is not None, "it may leave"
            sent = await self._elsewhere(delivery, sites)
            if sent is not None:
                return sent
            is_retry = True

    def _waits_until_s(self, delivery: Delivery) -> float:
        """Return until when a request may wait for a slot, s."""
        context = delivery.context
        is_hop = self._sites is not None and context.is_hop
        most_s = self._sites.max_wait_s if self._sites is not None and is_hop else math.inf
        if delivery.client.has_begun:
            return self._now_s() + min(self._times.hold_s, most_s)
        return context.arrival_s + context.failed_s + min(self._max_wait_s, most_s)

    async def _enter_until(
        self, delivery: Delivery, deadline_s: float, *, is_retry: bool
    ) -> ReplicaSlot:
        context = delivery.context
        if delivery.client.has_begun:
            return await self._gates[context.model].resume(deadline_s, context.places)
        while True:
            try:
                return await self._gates[context.model].enter(
                    context.ticket,
                    deadline_s,
                    context.places,
                    streams=context.wants_stream,
                    is_retry=is_retry,
                    blocks=context.blocks,
                    alias=context.alias if context.may_move else "",
                    displaces=not context.is_hop,
                )
            except MovedError as moved:
                is_retry = True
                self._on_moved(context, moved.model)
                if context.hold is not None:
                    context.hold.move()
                    await context.hold.before_replica()

    async def _break_off(
        self, delivery: Delivery, error: RefusedError | ReplicaError
    ) -> web.StreamResponse:
        context, client = delivery.context, delivery.client
        try:
            sent = await delivery.break_off(error)
        except ConnectionResetError:
            delivery.disconnect()
            assert client.response is not None, "its headers were sent"
            sent = client.response
        if isinstance(error, RefusedError) and context.scanner is None:
            context.finish = "shed"  # it waited, with comments, and got nothing
        return sent

    def _why_nothing_comes(self, context: RequestContext) -> str:
        gate = self._gates[context.model]
        routes = {route.replica for route in gate.table.routes}
        if gate.is_stale or not routes:
            return "waiting for power"
        is_asleep = context.is_at_replica and context.replica not in routes
        return "waiting for power" if is_asleep else "waiting"


class _Tries:
    """Counts the tries of one request; tokens that come in between begin the count anew."""

    def __init__(self, delays_s: tuple[float, ...]) -> None:
        self._delays_s = delays_s
        self._lost = self._lost_in_all = self._progress = self._refused = 0

    @property
    def is_last(self) -> bool:
        return self._lost >= len(self._delays_s)

    def delay_s(self, error: ReplicaError, progress: int, *, has_begun: bool) -> float | None:
        """Return the pause before the next try, s; None if there is none."""
        if isinstance(error, HandedOverError | SiteLostError):  # each site has a request once
            return 0.0
        if progress > self._progress:
            self._progress, self._lost, self._refused = progress, 0, 0
        if has_begun and isinstance(error, ReplicaFailedError):
            self._refused += 1
            return PATIENCE_S[self._refused - 1] if self._refused <= len(PATIENCE_S) else None
        self._lost += 1
        self._lost_in_all += 1
        if self._lost > len(self._delays_s) or self._lost_in_all > MAX_LOST:
            return None
        return self._delays_s[self._lost - 1]


async def relay(
    request: web.Request, context: RequestContext, response: ReplicaResponse
) -> web.StreamResponse:
    """Send a replica's response to a request that needs no slot; record its summary."""
    proxied = ProxyRequest(request.method, request.raw_path, response.headers, b"")
    delivery = Delivery(request, context, proxied)
    with delivery.client as client:
        try:
            return await delivery.relay(response)
        except ConnectionResetError:
            delivery.disconnect()
            assert client.response is not None, "its headers were sent"
            return client.response
        except (RefusedError, ReplicaLostError) as error:
            if not client.is_open:
                raise
            return await delivery.break_off(error)


def _raise_failure(context: RequestContext, response: ReplicaResponse, *, has_begun: bool) -> None:
    """Raise ReplicaFailedError for a 5xx, unless the request may be what fails replicas."""
    status = _status_of(response)
    if status < 500:
        return
    assert context.replica is not None, "a replica responded"
    context.failed_at.add(context.replica)
    if has_begun or len(context.failed_at) < MAX_FAILED_REPLICAS:
        raise ReplicaFailedError(f"{context.replica} answered {status}")


def _status_of(response: ReplicaResponse) -> int:
    """Return the status of a response, or that of the error event its stream begins with."""
    match response:
        case StreamedResponse():
            return find_error_status(response.first) or response.status
        case _:
            return response.status
