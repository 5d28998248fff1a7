"""The gateway's routes, and its own errors in OpenAI's shape."""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import aiohttp
from aiohttp import web
from prometheus_client import Metric

from steppe.control.admission import Ticket
from steppe.gateway.access import CALLER, NOBODY, AccessControl
from steppe.gateway.answers import error_answer, json_answer
from steppe.gateway.availability import Availability
from steppe.gateway.bodies import Bodies
from steppe.gateway.cancel_scope import CancelScope
from steppe.gateway.forwarder import REQUEST_ID, relay
from steppe.gateway.gate_errors import RefusedError
from steppe.gateway.generation import Generation, proxied_request
from steppe.gateway.metrics import GatewayMetrics
from steppe.gateway.model_list import ModelList
from steppe.gateway.openai_error import phrase_code
from steppe.gateway.page_api import PageApi, wants_page
from steppe.gateway.pools import ModelNameError, Pool, Pools
from steppe.gateway.replica_client import (
    ProxyRequest,
    ReplicaLostError,
    ReplicaUnreachableError,
    send_request,
)
from steppe.gateway.replica_metrics import scrape_replicas
from steppe.gateway.request import ClientHeaders, RequestContext, request_id
from steppe.gateway.request_body import read_body, with_model
from steppe.gateway.request_tracker import RequestTracker
from steppe.gateway.sharing.exposition import exposition
from steppe.gateway.sharing.sharing import Sharing
from steppe.gateway.sites.other_sites import OtherSites
from steppe.gateway.status import GatewayStatus
from steppe.tenants.limiter import NO_TOKENS

if TYPE_CHECKING:  # OpenTelemetry is an extra
    pass

# These POSTs generate nothing, so they need no slot at a replica.
_LIGHT_POST = re.compile(r"/(?:tokenize|detokenize|count_tokens|render|derender|cancel)$")
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
        generation: Serves requests that need a slot.
        availability: Whether requests can be served soon.
        model_list: The list of models for clients.
        bodies: Reads the bodies of requests.
        access: Keys and limits of tenants.
        now_s: Reads the monotonic clock, s.
        controller_metrics: The controller's Prometheus exposition, shown after the gateway's.
        service_metrics: Returns that of the services of the run, shown after it.
        sharing: What it shares with other gateways; None if it is the only one.
        page: The live page; None without one.
        sites: The other sites; None without any.
    """

    pools: Pools
    tracker: RequestTracker
    metrics: GatewayMetrics
    session: aiohttp.ClientSession
    generation: Generation
    availability: Availability
    model_list: ModelList
    bodies: Bodies
    access: AccessControl
    now_s: Callable[[], float] = time.monotonic
    controller_metrics: bytes = b""
    service_metrics: Callable[[], Awaitable[bytes]] | None = None
    sharing: Sharing | None = None
    page: PageApi | None = None
    sites: OtherSites | None = None

    async def about(self, request: web.Request) -> web.Response:
        """Return the live page to a browser; else name of the service, its models and its API."""
        if self.page is not None and wants_page(request):
            return await self.page.show_page(request)
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
        problem = self.availability.problem()
        if problem is None:
            return json_answer({"status": "ok", **state})
        error = {"message": problem, "type": "overloaded", "param": None, "code": "no_replica"}
        response = json_answer({"status": "unavailable", **state, "error": error}, status=503)
        response.headers["Retry-After"] = self.availability.retry_after(*self.pools)
        return response

    async def show_metrics(self, _request: web.Request) -> web.Response:
        """Return the metrics of the gateway and the controller for Prometheus."""
        own = self.own_metrics()
        text = exposition(own) if self.sharing is None else await self.sharing.exposition(own)
        services = b"" if self.service_metrics is None else await self.service_metrics()
        return web.Response(body=text + self.controller_metrics + services, headers=_PROMETHEUS)

    def own_metrics(self) -> list[Metric]:
        """Return the metrics of this gateway alone."""
        own = self.metrics.families(
            ready=self.availability.problem() is None,
            status=self.status(),
            controller_age_s=self.pools.routes_age_s,
            stale=self.pools.is_stale,
            placements=self.pools.placements(),
        )
        return own if self.sites is None else [*own, *self.sites.metrics()]

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
            return await self.generation.serve(request)
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
            proxied = await proxied_request(request, self.bodies)
            pools, is_alias = self._light_pools(request, proxied.body)
            return await self._forward_to_any(request, proxied, pools, is_alias=is_alias)
        except RefusedError as error:
            return self.availability.refusal(error, *pools)
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


def _untracked(request: web.Request) -> RequestContext:
    wanted = request.headers.get(REQUEST_ID, "")
    headers = ClientHeaders("default", "standard", wanted)
    return RequestContext(request_id(wanted), headers, Ticket(0, 0), arrival_s=0.0)
