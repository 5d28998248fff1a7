"""The gateway's routes: what each path does, and every refusal in OpenAI's error shape."""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import aiohttp
import orjson
from aiohttp import web

from steppe.control.admission import PRIORITIES, Ticket
from steppe.gateway.cancel_scope import CancelScope
from steppe.gateway.gate import AdmissionGate, RefusedError
from steppe.gateway.generation import REQUEST_ID, RequestForwarder, pass_on
from steppe.gateway.metrics import GatewayMetrics
from steppe.gateway.openai_error import error_body
from steppe.gateway.proxy import (
    ProxyRequest,
    ReplicaLostError,
    ReplicaUnreachableError,
    ask,
    end_to_end,
)
from steppe.gateway.request_tracker import Caller, RequestContext, RequestTracker, request_id

_TENANT = re.compile(r"[A-Za-z0-9._:@-]{1,128}")
# These POSTs generate nothing, so they take no place at a replica.
_LIGHT_POST = re.compile(r"/(?:tokenize|detokenize|count_tokens|render|derender|cancel)$")
_AFTER_WAITING = ("waited_too_long", "gave_way")
# Without a forecast and with nothing finishing, there is no truth to tell but "later".
_UNKNOWN_RETRY_S = 10.0

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def build_application(door: Handlers, max_body_bytes: int) -> web.Application:
    """Return the HTTP app; `max_body_bytes` is the largest request body it takes."""
    application = web.Application(client_max_size=max_body_bytes, middlewares=[_in_openai_shape])
    router = application.router
    router.add_get("/", door.about)
    router.add_get("/health", door.health)
    router.add_get("/metrics", door.show_metrics)
    router.add_get("/v1/models", door.list_models)
    router.add_get("/v1/models/{name:.+}", door.show_model)
    router.add_route("*", "/v1/{tail:.+}", door.pass_through)
    router.add_post("/tokenize", door.pass_through)
    router.add_post("/detokenize", door.pass_through)
    return application


@dataclass(slots=True)
class Handlers:
    """What the routes work with.

    Attributes:
        gate: Where requests wait.
        tally: Where they are counted.
        metrics: The gateway's own metrics.
        session: The HTTP client that asks replicas.
        generation: How requests that take a place are served.
        models: Names of the served model.
        foreign_metrics: A Prometheus exposition to show after our own.
    """

    gate: AdmissionGate
    tally: RequestTracker
    metrics: GatewayMetrics
    session: aiohttp.ClientSession
    generation: RequestForwarder
    models: tuple[str, ...]
    foreign_metrics: bytes = b""

    async def about(self, _request: web.Request) -> web.Response:
        """Say what this is."""
        return _json({"name": "steppe", "models": self.models, "api": "/v1"})

    async def health(self, _request: web.Request) -> web.Response:
        """Answer while the gateway lives, whether or not a replica is awake."""
        awake = [route.replica for route in self.gate.table.routes]
        return _json({"status": "ok", "awake_replicas": awake, "waiting": self.gate.waiting})

    async def show_metrics(self, _request: web.Request) -> web.Response:
        """Answer a Prometheus scrape."""
        own = self.metrics.exposition(self.gate.waiting, self.gate.table.all_outstanding())
        kind = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        return web.Response(body=own + self.foreign_metrics, headers=kind)

    async def list_models(self, request: web.Request) -> web.Response:
        """Let a replica tell the models; with none awake, tell them ourselves."""
        question = replace(await _question(request), method="GET", target="/v1/models")
        try:
            answer = await self._ask_any(request, question)
        except RefusedError:
            models = [
                {"id": name, "object": "model", "created": 0, "owned_by": "steppe"}
                for name in self.models
            ]
            return _json({"object": "list", "data": models})
        assert isinstance(answer, web.Response), "a list of models is no stream"
        return answer

    async def show_model(self, request: web.Request) -> web.Response:
        """Tell of one of these models; vLLM has no such route."""
        answer = await self.list_models(request)
        if answer.status != 200:
            return answer
        name = request.match_info["name"]
        for model in orjson.loads(str(answer.text))["data"]:
            if model["id"] == name:
                return _json(model)
        raise web.HTTPNotFound

    async def pass_through(self, request: web.Request) -> web.StreamResponse:
        """Let a replica answer; what generates takes a place there and is counted."""
        try:
            if request.method != "POST" or _LIGHT_POST.search(request.path):
                return await self._light(request)
            return await self._generate(request)
        except web.HTTPException as error:
            self.metrics.reject(_code(error))
            raise

    async def _light(self, request: web.Request) -> web.StreamResponse:
        try:
            return await self._ask_any(request, await _question(request))
        except RefusedError as error:
            return self._refusal(error)

    async def _ask_any(self, request: web.Request, question: ProxyRequest) -> web.StreamResponse:
        exchange = _uncounted(request)
        question.headers[REQUEST_ID] = exchange.id
        for route in self.gate.table.candidates():
            try:
                async with ask(self.session, route, question, CancelScope()) as answer:
                    return await pass_on(request, exchange, answer)
            except (ReplicaUnreachableError, ReplicaLostError):
                self.gate.table.suspect(route)
        raise RefusedError("no replica is awake and answers", "no_replica")

    async def _generate(self, request: web.Request) -> web.StreamResponse:
        arrival_s = time.monotonic()
        caller = _caller(request)
        question = await _question(request)
        exchange = self.tally.open(caller, arrival_s)
        question.headers[REQUEST_ID] = exchange.id
        try:
            return await self.generation.serve(request, exchange, question)
        except RefusedError as error:
            _note_refusal(exchange, error.code)
            return self._refusal(error, exchange.id)
        except ReplicaLostError as error:
            exchange.status = 502
            response = _error(502, str(error), type_="server_error", code="replica_lost")
            response.headers[REQUEST_ID] = exchange.id
            return response
        except asyncio.CancelledError:
            exchange.hang_up()
            raise
        finally:
            self.metrics.count(self.tally.close(exchange, time.monotonic()))

    def _refusal(self, refused: RefusedError, id_: str = "") -> web.Response:
        self.metrics.reject(refused.code)
        response = _error(503, str(refused), type_="overloaded", code=refused.code)
        response.headers["Retry-After"] = str(max(1, math.ceil(self._retry_after_s())))
        if id_:
            response.headers[REQUEST_ID] = id_
        return response

    def _retry_after_s(self) -> float:
        """Time until capacity as forecast; else until those who wait are served at this rate."""
        now_s = time.monotonic()
        forecast_s = self.gate.capacity_in_s(now_s)
        if forecast_s is not None:
            return forecast_s
        finish_rps = self.tally.ends.per_s(now_s)
        return self.gate.waiting / finish_rps if finish_rps else _UNKNOWN_RETRY_S


@web.middleware
async def _in_openai_shape(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPException as error:
        what = error.text if error.status == 400 else error.reason
        message = f"{request.method} {request.path}: {what}"
        response = _error(error.status, message, type_="invalid_request_error", code=_code(error))
        if "Allow" in error.headers:
            response.headers["Allow"] = error.headers["Allow"]
        return response


def _code(error: web.HTTPException) -> str:
    """Return the code of a refusal: one a status, in words."""
    return error.reason.lower().replace(" ", "_")


async def _question(request: web.Request) -> ProxyRequest:
    if not request.raw_path.startswith("/"):
        raise web.HTTPBadRequest(text="asked for a path, found an absolute URL")
    return ProxyRequest(
        method=request.method,
        target=request.raw_path,
        headers=end_to_end(request.headers),
        body=await request.read(),
    )


def _caller(request: web.Request) -> Caller:
    headers = request.headers
    tenant = headers.get("x-steppe-tenant", "default")
    priority = headers.get("x-steppe-priority", "standard")
    if priority not in PRIORITIES:
        known = ", ".join(PRIORITIES)
        raise web.HTTPBadRequest(text=f"x-steppe-priority: asked for one of {known}")
    if not _TENANT.fullmatch(tenant):
        raise web.HTTPBadRequest(text="x-steppe-tenant: asked for at most 128 of A-Z a-z 0-9 ._:@-")
    return Caller(tenant, priority, headers.get(REQUEST_ID, ""))


def _note_refusal(exchange: RequestContext, code: str) -> None:
    if code == "stopping" and exchange.replica is not None:
        exchange.cut_off(503)
    else:
        exchange.finish = "shed" if code in _AFTER_WAITING else "rejected"
        exchange.status = 503


def _uncounted(request: web.Request) -> RequestContext:
    wanted = request.headers.get(REQUEST_ID, "")
    caller = Caller("default", "standard", wanted)
    return RequestContext(id=request_id(wanted), caller=caller, ticket=Ticket(0, 0), arrival_s=0.0)


def _json(value: object) -> web.Response:
    return web.Response(body=orjson.dumps(value), content_type="application/json")


def _error(status: int, message: str, *, type_: str, code: str) -> web.Response:
    body = error_body(message, type_=type_, code=code)
    return web.Response(status=status, body=body, content_type="application/json")
