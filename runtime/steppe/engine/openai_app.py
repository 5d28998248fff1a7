"""The OpenAI-shaped HTTP app of the engines that bring none of their own.

A stream ends with the usage, if that was asked for, and `[DONE]`; one that breaks ends with an
error event and without both.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Protocol

from aiohttp import web

from steppe.engine.openai_shape import Answer, EngineRequest, OutputChunk, failure, refusal
from steppe.errors import EngineError

STOP_S = 0.5
"""How long a stop waits for outstanding requests; without steps they never end."""
MAX_BODY_BYTES = 64 << 20
"""Largest request body; as much as the gateway lets through."""
MAX_FIELD_BYTES = 64 << 10
"""Largest header; likewise."""


class TokenStream(Protocol):
    """One request inside an engine."""

    @property
    def prompt_tokens(self) -> int:
        """Tokens of its prompt."""
        ...

    async def next_piece(self) -> OutputChunk:
        """Wait for more of the answer; raise EngineError when none will come."""
        ...

    def drop(self) -> None:
        """Nobody waits any longer; also called when it is finished."""
        ...


class Served(Protocol):
    """The engine behind the app."""

    def begin(self, asked: EngineRequest, request_id: str) -> TokenStream:
        """Take a request in; raise ValueError for one that cannot be."""
        ...

    async def check(self) -> None:
        """Return if the engine lives; raise EngineError otherwise."""
        ...


class OpenAiApp:
    """Chat and text completions, the model's name and the engine's health, over HTTP."""

    def __init__(self, served_name: str, engine: Served) -> None:
        """Remember whom to ask; `listen` opens the door."""
        self._served_name, self._engine = served_name, engine
        self._created_s = int(time.time())
        self._runner: web.AppRunner | None = None

    async def listen(self, host: str) -> int:
        """Serve on a free port of `host`, and return it."""
        app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[_in_openai_shape])
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
        """Close the door."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        request_id = request.headers.get("X-Request-Id", uuid.uuid4().hex)
        try:
            asked = EngineRequest.read(await request.read())
            self._refuse_other_models(asked)
            generation = self._engine.begin(asked, request_id)
        except _MEANINGLESS as error:
            return _refuse(f"{type(error).__name__}: {error}", 400)
        except EngineError as error:
            return web.json_response(failure(str(error)), status=500)
        answer = Answer(
            id=request_id,
            model=self._served_name,
            chat=asked.chat,
            include_usage=asked.include_usage,
            prompt_tokens=generation.prompt_tokens,
            created_s=int(time.time()),
        )
        try:
            if asked.stream:
                return await _stream(request, generation, answer)
            return await _whole(generation, answer)
        finally:
            generation.drop()

    def _refuse_other_models(self, asked: EngineRequest) -> None:
        if asked.model not in (None, self._served_name):
            text = f"asked for model {asked.model!r:.80}, found {self._served_name!r}"
            raise web.HTTPNotFound(text=text)

    async def _models(self, request: web.Request) -> web.Response:
        model = {
            "id": self._served_name,
            "object": "model",
            "created": self._created_s,
            "owned_by": "steppe",
        }
        return web.json_response({"object": "list", "data": [model]})

    async def _health(self, request: web.Request) -> web.Response:
        try:
            await self._engine.check()
        except EngineError as error:
            return web.json_response(failure(str(error)), status=503)
        return web.Response()


@web.middleware
async def _in_openai_shape(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPException as error:
        return _refuse(str(error.text), error.status)


_MEANINGLESS = (ValueError, KeyError, TypeError, AttributeError, web.RequestPayloadError)


def _refuse(message: str, status: int) -> web.Response:
    return web.json_response(refusal(message, status), status=status)


async def _whole(generation: TokenStream, answer: Answer) -> web.Response:
    text, tokens, finish = "", 0, None
    while finish is None:
        try:
            piece = await generation.next_piece()
        except EngineError as error:
            return web.json_response(failure(str(error)), status=500)
        text, tokens, finish = text + piece.text, tokens + piece.tokens, piece.finish
    return web.json_response(answer.whole(text, tokens, finish))


async def _stream(
    request: web.Request, generation: TokenStream, answer: Answer
) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    tokens, finish, opening = 0, None, answer.opening()
    while finish is None:
        try:
            piece = await generation.next_piece()
        except EngineError as error:
            await _send(response, failure(str(error)))
            return response
        tokens, finish = tokens + piece.tokens, piece.finish
        await _send(response, *opening, answer.chunk(piece))
        opening = []
    await _send(response, *answer.closing(tokens))
    await response.write(b"data: [DONE]\n\n")
    return response


async def _send(response: web.StreamResponse, *chunks: dict[str, object]) -> None:
    await response.write(b"".join(b"data: " + json.dumps(c).encode() + b"\n\n" for c in chunks))
