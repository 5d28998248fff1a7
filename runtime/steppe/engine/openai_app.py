"""The OpenAI-shaped HTTP app of the engines that have no app of their own.

A stream ends with the usage, if requested, and `[DONE]`; a broken one ends with an error event and
without both.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Protocol

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from steppe.engine.openai_shape import Answer, EngineRequest, OutputChunk, error_body
from steppe.engine.run_secret import HEADER, REFUSAL, knows
from steppe.errors import EngineError

STOP_S = 0.5
"""How long a stop waits for outstanding requests: a stopped engine never finishes them."""
MAX_BODY_BYTES = 64 << 20
"""Largest request body; the same as at the gateway."""
MAX_FIELD_BYTES = 64 << 10
"""Largest header; the same as at the gateway."""


class TokenStream(Protocol):
    """One request inside an engine."""

    @property
    def prompt_tokens(self) -> int:
        """Tokens of its prompt."""
        ...

    @property
    def prompt_ids(self) -> list[int]:
        """Their token ids."""
        ...

    async def next_chunk(self) -> OutputChunk:
        """Wait for more of the answer; raise EngineError if the engine fails."""
        ...

    def cancel(self) -> None:
        """Free its place; called once the client is gone or the answer is complete."""
        ...


class AppEngine(Protocol):
    """The engine behind the app."""

    def begin(self, request: EngineRequest, request_id: str) -> TokenStream:
        """Accept a request; raise ValueError for an invalid one."""
        ...

    async def check(self) -> None:
        """Return if the engine is alive; raise EngineError otherwise."""
        ...


class OpenAiApp:
    """Chat and text completions, the model's name and the engine's health, over HTTP."""

    def __init__(self, served_name: str, engine: AppEngine, secret: str = "") -> None:
        """Make the app; `listen` starts it.

        Args:
            served_name: The model's name.
            engine: The engine.
            secret: The secret of the run; the app answers only requests that carry it.
        """
        self._served_name, self._engine, self._secret = served_name, engine, secret
        self._created_s = int(time.time())
        self._runner: web.AppRunner | None = None

    async def listen(self, host: str) -> int:
        """Serve on a free port of `host`, and return it."""
        app = web.Application(
            client_max_size=MAX_BODY_BYTES,
            middlewares=[_secret_middleware(self._secret), _errors_in_openai_shape],
        )
        app.router.add_post("/v1/completions", self._complete)
        app.router.add_post("/v1/chat/completions", self._complete)
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/health", self._health)
        self._runner = web.AppRunner(
            app,
            access_log=None,
            handler_cancellation=True,
            max_field_size=MAX_FIELD_BYTES,
            shutdown_timeout=STOP_S,
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, host, 0).start()
        port: int = self._runner.addresses[0][1]
        return port

    async def close(self) -> None:
        """Stop serving."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _complete(self, http: web.Request) -> web.StreamResponse:
        request_id = http.headers.get("X-Request-Id", uuid.uuid4().hex)
        try:
            request = EngineRequest.read(await http.read())
            if request.model not in (None, self._served_name):
                message = f"asked for model {request.model!r:.80}, found {self._served_name!r}"
                return _error(message, 404, "model_not_found")
            tokens = self._engine.begin(request, request_id)
        except (ValueError, web.RequestPayloadError) as error:
            return _error(str(error), 400)
        except EngineError as error:
            return _error(str(error), 500)
        answer = Answer(
            id=request_id,
            model=self._served_name,
            chat=request.chat,
            include_usage=request.include_usage,
            prompt_tokens=tokens.prompt_tokens,
            created_s=int(time.time()),
            prompt_ids=tokens.prompt_ids if request.wants_ids else None,
        )
        try:
            if request.stream:
                return await _stream(http, tokens, answer)
            return await _whole(tokens, answer)
        finally:
            tokens.cancel()

    async def _models(self, http: web.Request) -> web.Response:
        model = {
            "id": self._served_name,
            "object": "model",
            "created": self._created_s,
            "owned_by": "steppe",
        }
        return web.json_response({"object": "list", "data": [model]})

    async def _health(self, http: web.Request) -> web.Response:
        try:
            await self._engine.check()
        except EngineError as error:
            return _error(str(error), 503)
        return web.Response()


def _secret_middleware(secret: str) -> Middleware:
    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if knows(secret, request.headers.get(HEADER, "").encode()):
            return await handler(request)
        return web.Response(status=401, body=REFUSAL, content_type="application/json")

    return check


@web.middleware
async def _errors_in_openai_shape(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPException as error:
        return _error(str(error.text), error.status)


def _error(message: str, status: int, code: str | None = None) -> web.Response:
    return web.json_response(error_body(message, status, code), status=status)


async def _whole(tokens: TokenStream, answer: Answer) -> web.Response:
    text, output_tokens, finish = "", 0, None
    while finish is None:
        try:
            chunk = await tokens.next_chunk()
        except EngineError as error:
            return _error(str(error), 500)
        text, output_tokens, finish = text + chunk.text, output_tokens + chunk.tokens, chunk.finish
    return web.json_response(answer.whole(text, output_tokens, finish))


async def _stream(http: web.Request, tokens: TokenStream, answer: Answer) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(http)
    output_tokens, finish, opening, is_first = 0, None, answer.opening(), True
    while finish is None:
        try:
            chunk = await tokens.next_chunk()
        except EngineError as error:
            await _send(response, error_body(str(error), 500))
            return response
        output_tokens, finish = output_tokens + chunk.tokens, chunk.finish
        await _send(response, *opening, answer.chunk(chunk, is_first=is_first))
        opening, is_first = [], False
    await _send(response, *answer.closing(output_tokens))
    await response.write(b"data: [DONE]\n\n")
    return response


async def _send(response: web.StreamResponse, *chunks: dict[str, object]) -> None:
    await response.write(b"".join(b"data: " + json.dumps(c).encode() + b"\n\n" for c in chunks))
