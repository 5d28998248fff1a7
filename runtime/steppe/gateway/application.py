"""The gateway's routes, and its own errors in OpenAI's shape."""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import aiohttp
import orjson
from aiohttp import web

from steppe.control.admission import PRIORITIES, Ticket
from steppe.gateway.cancel_scope import CancelScope
from steppe.gateway.forwarder import REQUEST_ID, RequestForwarder, relay
from steppe.gateway.gate import AdmissionGate, RefusedError
from steppe.gateway.metrics import GatewayMetrics
from steppe.gateway.openai_error import error_body, phrase_code
from steppe.gateway.prompt_size import UNKNOWN_SIZE, PromptSize, prompt_size
from steppe.gateway.replica_client import (
    ProxyRequest,
    ReplicaLostError,
    ReplicaUnreachableError,
    end_to_end,
    send_request,
)
from steppe.gateway.replica_metrics import scrape_replicas
from steppe.gateway.request import ClientHeaders, RequestContext, request_id
from steppe.gateway.request_tracker import GatewayStatus, RequestTracker
from steppe.gateway.sequences import sequences

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


def build_application(handlers: Handlers, max_body_bytes: int) -> web.Application:
    """Return the HTTP application; `max_body_bytes` is its largest request body."""
    application = web.Application(client_max_size=max_body_bytes, middlewares=[_openai_errors])
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
    return application


@dataclass(slots=True)
class Handlers:
    """The request handlers and the objects that they use.

    Attributes:
        gate: Admission of requests.
        tracker: Open and finished requests.
        metrics: The gateway's own metrics.
        session: The HTTP client of replicas.
        forwarder: Forwards requests that need a slot.
        models: Names of the served model.
        now_s: Reads the monotonic clock, s.
        controller_metrics: The controller's Prometheus exposition, shown after the gateway's.
    """

    gate: AdmissionGate
    tracker: RequestTracker
    metrics: GatewayMetrics
    session: aiohttp.ClientSession
    forwarder: RequestForwarder
    models: tuple[str, ...]
    now_s: Callable[[], float] = time.monotonic
    controller_metrics: bytes = b""

    async def about(self, _request: web.Request) -> web.Response:
        """Return the name of the service, its models and its API."""
        return _json({"name": "steppe", "models": self.models, "api": "/v1"})

    async def live(self, _request: web.Request) -> web.Response:
        """Return 200: this process responds."""
        return _json({"status": "ok"})

    async def ready(self, _request: web.Request) -> web.Response:
        """Return 200 if a request can be served now or within `READY_WITHIN_S`, else 503."""
        awake = [route.replica for route in self.gate.table.candidates()]
        awake = [] if self.gate.is_stale else awake  # they have paused, or soon will
        state = {"awake_replicas": awake, "waiting": self.gate.waiting}
        problem = self._unready()
        if problem is None:
            return _json({"status": "ok", **state})
        error = {"message": problem, "type": "overloaded", "param": None, "code": "no_replica"}
        response = _json({"status": "unavailable", **state, "error": error}, status=503)
        response.headers["Retry-After"] = self._retry_after()
        return response

    async def show_metrics(self, _request: web.Request) -> web.Response:
        """Return the metrics of the gateway and the controller for Prometheus."""
        own = self.metrics.exposition(
            ready=self._unready() is None,
            status=self.status(),
            controller_age_s=self.gate.routes_age_s,
            stale=self.gate.is_stale,
        )
        return web.Response(body=own + self.controller_metrics, headers=_PROMETHEUS)

    def status(self) -> GatewayStatus:
        """Return the counts of now."""
        gate, outstanding = self.gate, self.gate.table.all_outstanding()
        return self.tracker.status(self.now_s(), gate.waiting, gate.deferrable, outstanding)

    async def show_replica_metrics(self, _request: web.Request) -> web.Response:
        """Return the engines' own metrics for Prometheus, with a label `replica`."""
        text = await scrape_replicas(self.session, self.gate.table.candidates())
        return web.Response(body=text.encode(), headers=_PROMETHEUS)

    async def list_models(self, request: web.Request) -> web.Response:
        """Return the models of a replica; with none awake, those of the configuration."""
        proxied = replace(await _proxied(request), method="GET", target="/v1/models")
        try:
            response = await self._forward_to_any(request, proxied)
        except RefusedError:
            models = [
                {"id": name, "object": "model", "created": 0, "owned_by": "steppe"}
                for name in self.models
            ]
            return _json({"object": "list", "data": models})
        assert isinstance(response, web.Response), "a list of models is not a stream"
        return response

    async def show_model(self, request: web.Request) -> web.Response:
        """Return one of the models; vLLM has no such route."""
        response = await self.list_models(request)
        if response.status != 200:
            return response
        name = request.match_info["name"]
        models = {model["id"]: model for model in orjson.loads(str(response.text))["data"]}
        if name in models:
            return _json(models[name])
        message = f"asked for model {name}, found {', '.join(models)}"
        return _error(404, message, type_="invalid_request_error", code="model_not_found")

    async def forward(self, request: web.Request) -> web.StreamResponse:
        """Forward a request; one that generates needs a slot at a replica and is recorded."""
        try:
            if request.method != "POST" or _LIGHT_POST.search(request.path):
                return await self._forward_light(request)
            return await self._forward_generation(request)
        except web.HTTPException as error:
            self.metrics.reject(phrase_code(error.status))
            raise

    async def _forward_light(self, request: web.Request) -> web.StreamResponse:
        try:
            return await self._forward_to_any(request, await _proxied(request))
        except RefusedError as error:
            return self._refusal(error)

    async def _forward_to_any(
        self, request: web.Request, proxied: ProxyRequest
    ) -> web.StreamResponse:
        context = _untracked(request)
        proxied.headers[REQUEST_ID] = context.engine_id
        for route in self.gate.table.candidates():
            try:
                async with send_request(self.session, route, proxied, CancelScope()) as response:
                    return await relay(request, context, response)
            except (ReplicaUnreachableError, ReplicaLostError):
                self.gate.table.suspect(route)
        raise RefusedError("no replica is awake and responds", "no_replica")

    async def _forward_generation(self, request: web.Request) -> web.StreamResponse:
        arrival_s = self.now_s()
        headers = _client_headers(request)
        proxied = await _proxied(request)
        body = _read_body(request, proxied.body)
        context = self.tracker.open(
            headers,
            arrival_s,
            wants_stream=body.wants_stream,
            prompt=body.prompt,
            places=body.places,
        )
        proxied.headers[REQUEST_ID] = context.engine_id
        try:
            return await self.forwarder.forward(request, context, proxied)
        except RefusedError as error:
            _record_refusal(context, error.code)
            return self._refusal(error, context.id)
        except ReplicaLostError as error:
            context.status = 502
            response = _error(502, str(error), type_="server_error", code="replica_lost")
            response.headers[REQUEST_ID] = context.id
            return response
        except asyncio.CancelledError:
            context.disconnect()
            raise
        finally:
            self.metrics.count(self.tracker.close(context, self.now_s()))

    def _refusal(self, refused: RefusedError, id_: str = "") -> web.Response:
        self.metrics.reject(refused.code)
        response = _error(503, str(refused), type_="overloaded", code=refused.code)
        response.headers["Retry-After"] = self._retry_after()
        if id_:
            response.headers[REQUEST_ID] = id_
        return response

    def _unready(self) -> str | None:
        """Return why no request can be served soon; None if one can."""
        if self.gate.is_stale:
            return f"the controller has been silent for {self.gate.routes_age_s:.0f} s"
        if self.gate.table.candidates():
            return None
        capacity_in_s = self.gate.capacity_in_s()
        if capacity_in_s is None:
            return "no replica is awake, and it is unknown when one will be"
        if capacity_in_s <= READY_WITHIN_S:
            return None
        return f"no replica is awake; one is forecast in {math.ceil(capacity_in_s)} s"

    def _retry_after(self) -> str:
        """Return the `Retry-After`: the forecast of capacity, or the time to serve the queue, s."""
        now_s = self.now_s()
        retry_s = self.gate.capacity_in_s()
        if retry_s is None:
            finished_rps = self.tracker.ends.per_s(now_s)
            retry_s = self.gate.waiting / finished_rps if finished_rps else _UNKNOWN_RETRY_S
        return str(max(1, math.ceil(retry_s)))


@web.middleware
async def _openai_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPException as error:
        what = error.text if error.status == 400 else error.reason
        message = f"{request.method} {request.path}: {what}"
        code = phrase_code(error.status)
        response = _error(error.status, message, type_="invalid_request_error", code=code)
        if "Allow" in error.headers:
            response.headers["Allow"] = error.headers["Allow"]
        return response


async def _proxied(request: web.Request) -> ProxyRequest:
    if not request.raw_path.startswith("/"):
        raise web.HTTPBadRequest(text="asked for a path, found an absolute URL")
    return ProxyRequest(
        method=request.method,
        target=request.raw_path,
        headers=end_to_end(request.headers),
        body=await request.read(),
    )


@dataclass(frozen=True, slots=True)
class _Body:
    """What the gateway takes from a body: for all other types than JSON, the defaults."""

    wants_stream: bool = False
    prompt: PromptSize = UNKNOWN_SIZE
    places: int = 1


def _read_body(request: web.Request, body: bytes) -> _Body:
    """Return what the gateway takes from a body.

    Raises:
        web.HTTPBadRequest: The body is not JSON.
    """
    if request.content_type != "application/json" or "Content-Encoding" in request.headers:
        return _Body()
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        reason = error.msg.partition(": line ")[0]
        raise web.HTTPBadRequest(text=f"asked for JSON, found {reason} at {where}") from error
    if not isinstance(found, dict):
        return _Body()
    return _Body(found.get("stream") is True, prompt_size(found), sequences(found))


def _client_headers(request: web.Request) -> ClientHeaders:
    headers = request.headers
    tenant = headers.get("x-steppe-tenant", "default")
    priority = headers.get("x-steppe-priority", "standard")
    if priority not in PRIORITIES:
        known = ", ".join(PRIORITIES)
        raise web.HTTPBadRequest(
            text=f"x-steppe-priority: asked for one of {known}, found {priority!r}"
        )
    if not _TENANT.fullmatch(tenant):
        raise web.HTTPBadRequest(
            text=f"x-steppe-tenant: asked for at most 128 of A-Z a-z 0-9 ._:@-, found {tenant!r}"
        )
    return ClientHeaders(tenant, priority, headers.get(REQUEST_ID, ""))


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


def _json(value: Mapping[str, Any], status: int = 200) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(value), content_type="application/json")


def _error(status: int, message: str, *, type_: str, code: str) -> web.Response:
    body = error_body(message, type_=type_, code=code)
    return web.Response(status=status, body=body, content_type="application/json")
