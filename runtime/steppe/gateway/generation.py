"""Serves a request that generates: who may, at what price, at which replica; and records it."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from aiohttp import web

from steppe.config.sites import SitesSection
from steppe.control.admission import DEFERRABLE, PRIORITIES
from steppe.engine.request_class import FIRM_PRIORITY, PRIORITY_HEADER, ROW_PRIORITY
from steppe.gateway.access import CALLER, NOBODY, AccessControl, DeniedError, drop_keys
from steppe.gateway.access_log import FINISHED
from steppe.gateway.alias_shares import PINS, VARIANT_HEADER, VariantPin
from steppe.gateway.answers import error_answer
from steppe.gateway.availability import Availability
from steppe.gateway.bodies import Bodies
from steppe.gateway.energy_answer import EnergyAnswers, asks_by_header, for_engine
from steppe.gateway.forwarder import REQUEST_ID, SITE_FULL, RequestForwarder
from steppe.gateway.gate_errors import RefusedError
from steppe.gateway.held_tail import HeldTail
from steppe.gateway.json_lines import REQUEST_OF_LOGS
from steppe.gateway.ledger.holds import QUOTE_HEADER, DeniedByLedgerError, Holds
from steppe.gateway.ledger.link import STOPPING, NotAdmitted
from steppe.gateway.metrics import GatewayMetrics
from steppe.gateway.pools import Pool, Pools
from steppe.gateway.replica_client import ProxyRequest, ReplicaLostError, end_to_end
from steppe.gateway.request import ClientHeaders, FinishedRequest, RequestContext
from steppe.gateway.request_body import RequestBody, read_body
from steppe.gateway.request_energy import EnergyBook
from steppe.gateway.request_tracker import RequestTracker
from steppe.gateway.sites.asked import (
    SiteHeaders,
    asked_of,
    check_hop,
    may_be_sent,
    read_site_headers,
    regions_of,
)
from steppe.sites.peer import SITE_TENANT
from steppe.tenants.limiter import RequestSize

if TYPE_CHECKING:  # OpenTelemetry is an extra
    from opentelemetry.trace import Span

    from steppe.gateway.tracing import RequestTraces

AVOID = "x-steppe-avoid"
"""Header with the replicas that a client asks to avoid where others have room, with commas between:
those that have failed its request before."""

_TENANT = re.compile(r"[A-Za-z0-9._:@-]{1,128}")
_QUOTE = re.compile(r"[A-Za-z0-9._:-]{0,128}")
_REFUSED_AFTER_WAITING = ("waited_too_long", "gave_way", SITE_FULL)


@dataclass(frozen=True, slots=True)
class Generation:
    """Serves requests that generate.

    Attributes:
        pools: Admission of requests, and the awake replicas of each model.
        tracker: Open and finished requests.
        metrics: The gateway's own metrics.
        forwarder: Forwards a request to a replica.
        energy: The energy of requests.
        energy_answers: Completes the answers to requests that ask for their energy.
        availability: When a request that is refused may come back.
        bodies: Reads the bodies of requests.
        access: Keys and limits of tenants.
        holds: Asks the ledger about each; None where requests have no price.
        sites: The sites of the configuration; None without any.
        traces: Traces of requests; None for none.
        now_s: Reads the monotonic clock, s.
    """

    pools: Pools
    tracker: RequestTracker
    metrics: GatewayMetrics
    forwarder: RequestForwarder
    energy: EnergyBook
    energy_answers: EnergyAnswers
    availability: Availability
    bodies: Bodies
    access: AccessControl
    holds: Holds | None = None
    sites: SitesSection | None = None
    traces: RequestTraces | None = None
    now_s: Callable[[], float] = time.monotonic

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Answer a request, and record it.

        Raises:
            web.HTTPException: It is not valid.
            ModelNameError: No pool serves its model.
            DeniedError: Its tenant may not ask for it, or not now.
        """
        arrival_s, headers = self.now_s(), _client_headers(request)
        site_headers = read_site_headers(request.headers)
        pin, proxied = _variant_pin(request), await proxied_request(request, self.bodies)
        body = read_body(request, proxied.body)
        pool = self.pools.of(body.model)
        self.access.check_model(request, body.model or pool.model.name)
        prompt_tokens = self.tracker.counts[pool.model.name].prompt_tokens(body.prompt)
        size = RequestSize(prompt_tokens, body.max_output_tokens)
        charge = await self.access.admit(request, size)
        may_leave = self.sites is not None and may_be_sent(request)
        context = self._open(headers, arrival_s, body, size, pin, is_here=not may_leave)
        self._choose_among_sites(request, context, body, size, site_headers)
        proxied = _for_replicas(request, context, body, proxied)
        REQUEST_OF_LOGS.set(context.id)
        trace = self._begin_trace(request, proxied, arrival_s)
        if self.holds is not None and not context.is_hop:  # sites settle their energy
            context.hold = self.holds.begin(context, size, body.sequences)
        try:
            response = await self._answer(request, context, proxied)
        except asyncio.CancelledError:
            context.disconnect()
            raise
        finally:
            if context.hold is not None:
                await context.hold.end()
            finished = self._close(context)
            self.access.finish(charge, finished)
            request[FINISHED] = finished
            if self.traces is not None and trace is not None:
                self.traces.end(trace, finished)
        if context.tail is None:
            return response
        return await self.energy_answers.complete(request, response, finished, context.tail)

    def _open(
        self,
        headers: ClientHeaders,
        arrival_s: float,
        body: RequestBody,
        size: RequestSize,
        pin: VariantPin,
        *,
        is_here: bool = True,
    ) -> RequestContext:
        """Begin to track a request; choose the variant of an alias that is to serve it."""
        alias, pool = self.pools.alias(body.model), self.pools.of(body.model)
        ttft_s = self.tracker.counts[pool.model.name].model.ttft_s
        if alias is not None:
            pool = self.pools.choose(alias, pin)
        context = self.tracker.open(
            headers,
            arrival_s,
            pool.model.name,
            wants_stream=body.wants_stream,
            prompt=body.prompt,
            places=body.places,
            adapter=body.model if body.model in pool.model.adapters else "",
            cost=self.access.limiter.expected_tokens(size),
            alias="" if alias is None else alias.name,
            ttft_s=ttft_s,
            is_here=is_here,
        )
        context.plain, context.blocks = body.plain, body.blocks
        context.is_pinned = pin == "required"
        return context

    def _choose_among_sites(
        self,
        request: web.Request,
        context: RequestContext,
        body: RequestBody,
        size: RequestSize,
        headers: SiteHeaders,
    ) -> None:
        """Note at which sites a request may be served."""
        caller = request.get(CALLER, NOBODY)
        context.is_hop = caller.is_service and caller.tenant.name.startswith(SITE_TENANT)
        if context.is_hop:
            context.earlier_tokens = body.earlier_tokens
        elif self.sites is not None:
            region, counts = self.sites.region, self.tracker.counts[context.model]
            context.may_stay = region in regions_of(caller.tenant, region)
            if not context.is_here:
                context.asked = asked_of(
                    context,
                    body,
                    headers,
                    caller.tenant,
                    model=counts.model,
                    own_region=region,
                    prompt_tokens=size.prompt_tokens,
                    output_tokens=counts.output_tokens(size.max_output_tokens, context.places),
                )

    def _close(self, context: RequestContext) -> FinishedRequest:
        """Record the end of a request."""
        finished = self.tracker.close(context, self.now_s())
        self.metrics.count(finished)
        self.energy.add_request(finished)
        if context.alias:
            self.pools.aliases[context.alias].end(context)
        if context.is_charged and context.tokens is not None:
            self.pools.of(context.model).gate.settle(context.ticket, context.tokens)
        return finished

    def _begin_trace(
        self, request: web.Request, proxied: ProxyRequest, arrival_s: float
    ) -> Span | None:
        if self.traces is None:
            return None
        arrival_epoch_s = time.time() - (self.now_s() - arrival_s)
        return self.traces.begin(
            proxied.headers, f"{request.method} {request.path}", arrival_epoch_s
        )

    async def _answer(
        self, request: web.Request, context: RequestContext, proxied: ProxyRequest
    ) -> web.StreamResponse:
        """Return the answer of a replica, or that of the gateway if none has one."""
        try:
            if context.hold is None:
                return await self.forwarder.forward(request, context, proxied)
            async with context.hold as hold:
                await hold.before_replica()
                return await self.forwarder.forward(request, context, proxied)
        except DeniedByLedgerError as error:
            return self._unpaid(context, error.denied)
        except RefusedError as error:
            return self._refused(context, error)
        except ReplicaLostError as error:
            context.status = 502
            response = error_answer(502, str(error), type_="server_error", code="replica_lost")
            response.headers[REQUEST_ID] = context.id
            return response

    def _refused(self, context: RequestContext, error: RefusedError) -> web.Response:
        if error.code == STOPPING and (context.replica is not None or context.site):
            context.cancel(503)
        else:
            context.finish = "shed" if error.code in _REFUSED_AFTER_WAITING else "rejected"
            context.status = 503
        return self.availability.refusal(error, *self._pools_of(context), id_=context.id)

    def _unpaid(self, context: RequestContext, denied: NotAdmitted) -> web.Response:
        """Return the answer to a request that the ledger refuses; it has no byte of another one."""
        if denied.status == 503:
            return self._refused(context, RefusedError(denied.message, denied.code))
        context.finish, context.status = "invalid", denied.status
        self.metrics.deny(context.headers.tenant, denied.code)
        response = error_answer(
            denied.status, denied.message, type_="billing_error", code=denied.code
        )
        response.headers[REQUEST_ID] = context.id
        return response

    def _pools_of(self, context: RequestContext) -> tuple[Pool, ...]:
        """Return the pools that may serve a request."""
        alias = None if context.is_pinned else self.pools.alias(context.alias)
        return (self.pools.of(context.model),) if alias is None else self.pools.variants_of(alias)


async def proxied_request(request: web.Request, bodies: Bodies) -> ProxyRequest:
    """Return a request as a replica may see it: with its whole body and without keys.

    Raises:
        web.HTTPException: It is not valid, or its body does not arrive.
    """
    if not request.raw_path.startswith("/"):
        raise web.HTTPBadRequest(text="asked for a path, found an absolute URL")
    headers = end_to_end(request.headers)
    drop_keys(headers)
    return ProxyRequest(
        method=request.method,
        target=request.raw_path,
        headers=headers,
        body=await bodies.read(request),
    )


def _for_replicas(
    request: web.Request, context: RequestContext, body: RequestBody, proxied: ProxyRequest
) -> ProxyRequest:
    """Return what a replica gets; note in the context what its answer has to be changed for."""
    context.avoid = frozenset(request.headers.get(AVOID, "").split(","))
    if body.wants_energy or asks_by_header(request):
        context.tail, proxied = HeldTail(), for_engine(proxied, request.path)
        if context.plain is not None:
            context.plain = replace(context.plain, wants_usage=True)
    is_row = context.headers.priority == PRIORITIES[DEFERRABLE]
    proxied.headers[PRIORITY_HEADER] = str(ROW_PRIORITY if is_row else FIRM_PRIORITY)
    return proxied


def _client_headers(request: web.Request) -> ClientHeaders:
    headers, caller = request.headers, request.get(CALLER, NOBODY)
    tenant = caller.tenant
    check_hop(headers, from_site=caller.is_service and tenant.name.startswith(SITE_TENANT))
    priority = headers.get("x-steppe-priority", tenant.usual_priority)
    if priority not in PRIORITIES:
        known = ", ".join(PRIORITIES)
        raise web.HTTPBadRequest(
            text=f"x-steppe-priority: asked for one of {known}, found {priority!r}"
        )
    if not tenant.may_have(priority):
        message = f"x-steppe-priority: {tenant.name} may have {tenant.priority}, found {priority}"
        raise DeniedError(403, "priority_not_allowed", message, param="x-steppe-priority")
    if not _TENANT.fullmatch(tenant.name):
        asked = "x-steppe-tenant: asked for at most 128 of A-Z a-z 0-9 ._:@-"
        raise web.HTTPBadRequest(text=f"{asked}, found {tenant.name!r}")
    quote = headers.get(QUOTE_HEADER, "")
    if not _QUOTE.fullmatch(quote):
        asked = f"{QUOTE_HEADER}: asked for at most 128 of A-Z a-z 0-9 ._:-"
        raise web.HTTPBadRequest(text=f"{asked}, found {quote!r:.150}")
    return ClientHeaders(
        tenant.name, priority, headers.get(REQUEST_ID, ""), tenant.weight, caller.key_id, quote
    )


def _variant_pin(request: web.Request) -> VariantPin:
    asked = request.headers.get(VARIANT_HEADER, "any")
    for pin in PINS:
        if pin == asked:
            return pin
    known = ", ".join(PINS)
    raise web.HTTPBadRequest(text=f"{VARIANT_HEADER}: asked for one of {known}, found {asked!r}")
