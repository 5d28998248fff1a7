"""The gateway's routes, and its own errors in OpenAI's shape."""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

import aiohttp
from aiohttp import web
from prometheus_client import Metric

from steppe.control.admission import DEFERRABLE, PRIORITIES, Ticket
from steppe.engine.request_class import FIRM_PRIORITY, PRIORITY_HEADER, ROW_PRIORITY
from steppe.gateway.access import CALLER, NOBODY, AccessControl, DeniedError, drop_keys
from steppe.gateway.access_log import FINISHED
from steppe.gateway.alias_shares import PINS, VARIANT_HEADER, VariantPin
from steppe.gateway.answers import error_answer, json_answer
from steppe.gateway.bodies import Bodies
from steppe.gateway.cancel_scope import CancelScope
from steppe.gateway.energy_answer import EnergyAnswers, asks_by_header, for_engine
from steppe.gateway.forwarder import REQUEST_ID, RequestForwarder, relay
from steppe.gateway.gate import RefusedError
from steppe.gateway.held_tail import HeldTail
from steppe.gateway.json_lines import REQUEST_OF_LOGS
from steppe.gateway.metrics import GatewayMetrics
from steppe.gateway.model_list import ModelList
from steppe.gateway.openai_error import phrase_code
from steppe.gateway.pools import ModelNameError, Pool, Pools
from steppe.gateway.replica_client import (
    ProxyRequest,
    ReplicaLostError,
    ReplicaUnreachableError,
    end_to_end,
    send_request,
)
from steppe.gateway.replica_metrics import scrape_replicas
from steppe.gateway.request import ClientHeaders, RequestContext, request_id
from steppe.gateway.request_body import read_body, with_model
from steppe.gateway.request_energy import EnergyBook
from steppe.gateway.request_tracker import RequestTracker
from steppe.gateway.sharing.exposition import exposition
from steppe.gateway.sharing.sharing import Sharing
from steppe.gateway.status import GatewayStatus
from steppe.tenants.limiter import NO_TOKENS, RequestSize

if TYPE_CHECKING:  # OpenTelemetry is an extra
    from opentelemetry.trace import Span

    from steppe.gateway.tracing import RequestTraces

AVOID = "x-steppe-avoid"
"""Header with the replicas that a client asks to avoid where others have room, with commas between:
those that have failed its request before."""
READY_WITHIN_S = 5.0
"""`/health/ready` is 200 if a replica is awake, or is forecast to be within this time, s."""

_TENANT = re.compile(r"[A-Za-z0-9._:@-]{1,128}")
# These POSTs generate nothing, so they need no slot at a replica.
_LIGHT_POST = re.compile(r"/(?:tokenize|detokenize|count_tokens|render|derender|cancel)$")
_REFUSED_AFTER_WAITING = ("waited_too_long", "gave_way")
_UNKNOWN_RETRY_S = 10.0
"""`Retry-After` without a forecast and without requests that finish, s."""
_PROMETHEUS = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class RoutesOf(Protocol):
    """A part of the HTTP API with routes of its own."""

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Add its routes."""
        ...


def build_application(
    handlers: Handlers, max_body_bytes: int, parts: Iterable[RoutesOf] = ()
) -> web.Application:
    """Return the HTTP application.

    Args:
        handlers: The handlers of OpenAI's API and of the checks.
        max_body_bytes: Largest request body, bytes.
        parts: Other parts of the API.
    """
    application = web.Application(client_max_size=max_body_bytes, middlewares=[_openai_errors])
    handlers.access.install(application)
    handlers.bodies.install(application)
    router = application.router
    router.add_get("/", handlers.about)
    router.add_get("/health", handlers.ready)
    router.add_get("/health/ready", handlers.ready)
    router.add_get("/health/live", handlers.live)
    router.add_get("/metrics", handlers.show_metrics)
    router.add_get("/metrics/replicas", handlers.show_replica_metrics)
    router.add_get("/v1/models", handlers.list_models)
    router.add_get("/v1/models/{name:.+}", handlers.show_model)
    router.add_route("*", "/v1/{tail:.+}", handlers.forward)
    router.add_post("/tokenize", handlers.forward)
    router.add_post("/detokenize", handlers.forward)
    for part in parts:
        part.add_routes(router)
    return application


@dataclass(slots=True)
class Handlers:
    """The request handlers and the objects that they use.

    Attributes:
        pools: The pools: admission of requests, and the awake replicas of each model.
        tracker: Open and finished requests.
        metrics: The gateway's own metrics.
        session: The HTTP client of replicas.
        forwarder: Forwards requests that need a slot.
        model_list: The list of models for clients.
        bodies: Reads the bodies of requests.
        access: Keys and limits of tenants.
        energy: The energy of requests.
        energy_answers: Completes the answers to requests that ask for their energy.
        traces: Traces of requests; None for none.
        now_s: Reads the monotonic clock, s.
        controller_metrics: The controller's Prometheus exposition, shown after the gateway's.
        service_metrics: Returns that of the services of the run, shown after it.
        sharing: What it shares with other gateways; None if it is the only one.
    """

    pools: Pools
    tracker: RequestTracker
    metrics: GatewayMetrics
    session: aiohttp.ClientSession
    forwarder: RequestForwarder
    model_list: ModelList
    energy: EnergyBook
    energy_answers: EnergyAnswers
    bodies: Bodies = field(default_factory=Bodies)
    access: AccessControl = field(default_factory=AccessControl)
    traces: RequestTraces | None = None
    now_s: Callable[[], float] = time.monotonic
    controller_metrics: bytes = b""
    service_metrics: Callable[[], Awaitable[bytes]] | None = None
    sharing: Sharing | None = None

    async def about(self, _request: web.Request) -> web.Response:
        """Return the name of the service, its models and its API."""
        return json_answer({"name": "steppe", "models": self.pools.names, "api": "/v1"})

    async def live(self, _request: web.Request) -> web.Response:
        """Return 200: this process responds."""
        return json_answer({"status": "ok"})

    async def ready(self, _request: web.Request) -> web.Response:
        """Return 200 if a request can be served now or within `READY_WITHIN_S`, else 503."""
        awake = [route.replica for route in self.pools.candidates()]
        awake = [] if self.pools.is_stale else awake  # they have paused, or soon will
        waiting = sum(pool.gate.waiting for pool in self.pools)
        state = {"awake_replicas": awake, "waiting": waiting}
        problem = self._unready()
        if problem is None:
            return json_answer({"status": "ok", **state})
        error = {"message": problem, "type": "overloaded", "param": None, "code": "no_replica"}
        response = json_answer({"status": "unavailable", **state, "error": error}, status=503)
        response.headers["Retry-After"] = self._retry_after(*self.pools)
        return response

    async def show_metrics(self, _request: web.Request) -> web.Response:
        """Return the metrics of the gateway and the controller for Prometheus."""
        own = self.own_metrics()
        text = exposition(own) if self.sharing is None else await self.sharing.exposition(own)
        services = b"" if self.service_metrics is None else await self.service_metrics()
        return web.Response(body=text + self.controller_metrics + services, headers=_PROMETHEUS)

    def own_metrics(self) -> list[Metric]:
        """Return the metrics of this gateway alone."""
        return self.metrics.families(
            ready=self._unready() is None,
            status=self.status(),
            controller_age_s=self.pools.routes_age_s,
            stale=self.pools.is_stale,
            placements=self.pools.placements(),
        )

    def status(self) -> GatewayStatus:
        """Return the counts of now."""
        pools = self.pools
        counts = self.tracker.status(self.now_s(), pools.waiting(), pools.outstanding())
        aliases = {name: alias.counts for name, alias in pools.aliases.items()}
        return replace(counts, cache_worth=pools.cache_worth(), aliases=aliases)

    async def show_replica_metrics(self, _request: web.Request) -> web.Response:
        """Return the engines' own metrics for Prometheus, with a label `replica`."""
        text = await scrape_replicas(self.session, self.pools.candidates())
        return web.Response(body=text.encode(), headers=_PROMETHEUS)

    async def list_models(self, request: web.Request) -> web.Response:
        """Return all models and adapters that the caller may ask for, with their state."""
        entries, tenant = await self.model_list.entries(), request.get(CALLER, NOBODY).tenant
        data = [entry for entry in entries if tenant.may_ask_for(entry["id"])]
        return json_answer({"object": "list", "data": data})

    async def show_model(self, request: web.Request) -> web.Response:
        """Return one of the models; vLLM has no such route."""
        name = request.match_info["name"]
        for entry in await self.model_list.entries():
            if entry["id"] == name:
                return json_answer(entry)
        return _unknown_model(self.pools.unknown(name))

    async def forward(self, request: web.Request) -> web.StreamResponse:
        """Forward a request; one that generates needs a slot at a replica and is recorded."""
        try:
            if request.method != "POST" or _LIGHT_POST.search(request.path):
                return await self._forward_light(request)
            return await self._forward_generation(request)
        except ModelNameError as error:
            self.metrics.count_client_error(error.code)
            return _unknown_model(error)
        except web.HTTPException as error:
            self.metrics.count_client_error(phrase_code(error.status))
            raise

    async def _forward_light(self, request: web.Request) -> web.StreamResponse:
        charge = None
        if request.method == "POST":
            charge = await self.access.admit(request, NO_TOKENS)
        pools: tuple[Pool, ...] = tuple(self.pools)
        try:
            proxied = await self._proxied(request)
            pools, is_alias = self._light_pools(request, proxied.body)
            return await self._forward_to_any(request, proxied, pools, is_alias=is_alias)
        except RefusedError as error:
            return self._refusal(error, *pools)
        finally:
            self.access.finish(charge)

    def _light_pools(self, request: web.Request, body: bytes) -> tuple[tuple[Pool, ...], bool]:
        """Return the pools any of which may answer: all, unless the body names a model.

        Returns:
            The pools, and whether the body names an alias of them.
        """
        if self.pools.only is not None or not body:
            return tuple(self.pools), False
        model = read_body(request, body).model
        alias = self.pools.alias(model)
        if alias is not None:
            return self.pools.variants_of(alias), True
        return (self.pools.of(model),), False

    async def _forward_to_any(
        self, request: web.Request, proxied: ProxyRequest, pools: Iterable[Pool], *, is_alias: bool
    ) -> web.StreamResponse:
        context = _untracked(request)
        proxied.headers[REQUEST_ID] = context.engine_id
        for pool in pools:
            asked = with_model(proxied, pool.model.name) if is_alias else proxied
            for route in pool.gate.table.candidates():
                try:
                    async with send_request(self.session, route, asked, CancelScope()) as sent:
                        return await relay(request, context, sent)
                except (ReplicaUnreachableError, ReplicaLostError):
                    pool.gate.table.suspect(route)
        raise RefusedError("no replica is awake and responds", "no_replica")

    async def _forward_generation(self, request: web.Request) -> web.StreamResponse:
        arrival_s = self.now_s()
        headers, pin = _client_headers(request), _variant_pin(request)
        proxied = await self._proxied(request)
        body = read_body(request, proxied.body)
        alias, pool = self.pools.alias(body.model), self.pools.of(body.model)
        self.access.check_model(request, body.model or pool.model.name)
        prompt_tokens = self.tracker.counts[pool.model.name].prompt_tokens(body.prompt)
        size = RequestSize(prompt_tokens, body.max_output_tokens)
        charge = await self.access.admit(request, size)
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
        )
        context.plain, context.blocks = body.plain, body.blocks
        context.avoid = frozenset(request.headers.get(AVOID, "").split(","))
        context.is_pinned = pin == "required"
        if body.wants_energy or asks_by_header(request):
            context.tail, proxied = HeldTail(), for_engine(proxied, request.path)
            if context.plain is not None:
                context.plain = replace(context.plain, wants_usage=True)
        proxied.headers[REQUEST_ID] = context.engine_id
        is_row = headers.priority == PRIORITIES[DEFERRABLE]
        proxied.headers[PRIORITY_HEADER] = str(ROW_PRIORITY if is_row else FIRM_PRIORITY)
        REQUEST_OF_LOGS.set(context.id)
        trace = self._begin_trace(request, proxied, arrival_s)
        try:
            response = await self._answer(request, context, proxied)
        except asyncio.CancelledError:
            context.disconnect()
            raise
        finally:
            finished = self.tracker.close(context, self.now_s())
            self.metrics.count(finished)
            self.access.finish(charge, finished)
            self.energy.add_request(finished)
            if alias is not None:
                alias.end(context)
            if context.is_charged and context.tokens is not None:
                self.pools.of(context.model).gate.settle(context.ticket, context.tokens)
            request[FINISHED] = finished
            if self.traces is not None and trace is not None:
                self.traces.end(trace, finished)
        if context.tail is None:
            return response
        return await self.energy_answers.complete(request, response, finished, context.tail)

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
            return await self.forwarder.forward(request, context, proxied)
        except RefusedError as error:
            _record_refusal(context, error.code)
            return self._refusal(error, *self._pools_of(context), id_=context.id)
        except ReplicaLostError as error:
            context.status = 502
            response = error_answer(502, str(error), type_="server_error", code="replica_lost")
            response.headers[REQUEST_ID] = context.id
            return response

    def _pools_of(self, context: RequestContext) -> tuple[Pool, ...]:
        """Return the pools that may serve a request."""
        alias = None if context.is_pinned else self.pools.alias(context.alias)
        return (self.pools.of(context.model),) if alias is None else self.pools.variants_of(alias)

    async def _proxied(self, request: web.Request) -> ProxyRequest:
        if not request.raw_path.startswith("/"):
            raise web.HTTPBadRequest(text="asked for a path, found an absolute URL")
        headers = end_to_end(request.headers)
        drop_keys(headers)
        return ProxyRequest(
            method=request.method,
            target=request.raw_path,
            headers=headers,
            body=await self.bodies.read(request),
        )

    def _refusal(self, refused: RefusedError, *pools: Pool, id_: str = "") -> web.Response:
        self.metrics.reject(refused.code)
        response = error_answer(503, str(refused), type_="overloaded", code=refused.code)
        response.headers["Retry-After"] = self._retry_after(*pools)
        if id_:
            response.headers[REQUEST_ID] = id_
        return response

    def _unready(self) -> str | None:
        """Return why no request for any model can be served soon; None if one can."""
        if self.pools.is_stale:
            return f"the controller has been silent for {self.pools.routes_age_s:.0f} s"
        if self.pools.candidates():
            return None
        known = (pool.gate.capacity_in_s() for pool in self.pools)
        capacity_in_s = min((in_s for in_s in known if in_s is not None), default=None)
        if capacity_in_s is None:
            return "no replica is awake, and it is unknown when one will be"
        if capacity_in_s <= READY_WITHIN_S:
            return None
        return f"no replica is awake; one is forecast in {math.ceil(capacity_in_s)} s"

    def _retry_after(self, *pools: Pool) -> str:
        """Return the `Retry-After`, s: the least over the pools that may serve the request."""
        return str(max(1, math.ceil(min(self._retry_s(pool) for pool in pools))))

    def _retry_s(self, pool: Pool) -> float:
        """Return the forecast of capacity of a pool, or the time to serve its queue, s."""
        retry_s = pool.gate.capacity_in_s()
        if retry_s is not None:
            return retry_s
        finished_rps = self.tracker.counts[pool.model.name].ends.per_s(self.now_s())
        return pool.gate.waiting / finished_rps if finished_rps else _UNKNOWN_RETRY_S


def _unknown_model(error: ModelNameError) -> web.Response:
    type_ = "invalid_request_error"
    return error_answer(error.status, str(error), type_=type_, code=error.code, param="model")


@web.middleware
async def _openai_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPException as error:
        what = error.text if error.status == 400 else error.reason
        message = f"{request.method} {request.path}: {what}"
        code = phrase_code(error.status)
        response = error_answer(error.status, message, type_="invalid_request_error", code=code)
        if "Allow" in error.headers:
            response.headers["Allow"] = error.headers["Allow"]
        return response


def _client_headers(request: web.Request) -> ClientHeaders:
    headers, caller = request.headers, request.get(CALLER, NOBODY)
    tenant = caller.tenant
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
    wanted_id = headers.get(REQUEST_ID, "")
    return ClientHeaders(tenant.name, priority, wanted_id, tenant.weight, caller.key_id)


def _variant_pin(request: web.Request) -> VariantPin:
    asked = request.headers.get(VARIANT_HEADER, "any")
    for pin in PINS:
        if pin == asked:
            return pin
    known = ", ".join(PINS)
    raise web.HTTPBadRequest(text=f"{VARIANT_HEADER}: asked for one of {known}, found {asked!r}")


def _record_refusal(context: RequestContext, code: str) -> None:
    if code == "stopping" and context.replica is not None:
        context.cancel(503)
    else:
        context.finish = "shed" if code in _REFUSED_AFTER_WAITING else "rejected"
        context.status = 503


def _untracked(request: web.Request) -> RequestContext:
    wanted = request.headers.get(REQUEST_ID, "")
    headers = ClientHeaders("default", "standard", wanted)
    return RequestContext(request_id(wanted), headers, Ticket(0, 0), arrival_s=0.0)
