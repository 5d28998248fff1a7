"""The OpenAI-shaped HTTP app of the engines that bring none of their own.

A stream ends with the usage and `[DONE]`; one that breaks ends with an error event and without it.
"""

from __future__ import annotations

import json
import uuid
from typing import Protocol

from aiohttp import web

from steppe.engine.openai_shape import Answer, Asked, Piece, failure, refusal
from steppe.errors import EngineError

STOP_S = 0.5
"""How long a stop waits for outstanding requests; without steps they never end."""


class Generation(Protocol):
    """One request inside an engine."""

    @property
    def prompt_tokens(self) -> int:
        """Tokens of its prompt."""
        ...

    async def next_piece(self) -> Piece:
        """Wait for more of the answer; raise EngineError when none will come."""
        ...

    def drop(self) -> None:
        """Nobody waits any longer; also called when it is finished."""
        ...


class Served(Protocol):
    """The engine behind the app."""

    def begin(self, asked: Asked, request_id: str) -> Generation:
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
        self._runner: web.AppRunner | None = None

    async def listen(self, host: str) -> int:
        """Serve on a free port of `host`, and return it."""
        app = web.Application()
        app.router.add_post("/v1/completions", self._complete)
        app.router.add_post("/v1/chat/completions", self._complete)
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/health", self._health)
        self._runner = web.AppRunner(
            app, access_log=None, handler_cancellation=True, shutdown_timeout=STOP_S
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
            asked = Asked.read(await request.read())
            generation = self._engine.begin(asked, request_id)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            return web.json_response(refusal(f"{type(error).__name__}: {error}"), status=400)
        except EngineError as error:
            return web.json_response(failure(str(error)), status=500)
        answer = Answer(request_id, self._served_name, asked.chat, generation.prompt_tokens)
        try:
            if asked.stream:
                return await _stream(request, generation, answer)
            return await _whole(generation, answer)
        finally:
            generation.drop()

    async def _models(self, request: web.Request) -> web.Response:
        model = {"id": self._served_name, "object": "model", "owned_by": "steppe"}
        return web.json_response({"object": "list", "data": [model]})

    async def _health(self, request: web.Request) -> web.Response:
        try:
            await self._engine.check()
        except EngineError as error:
            return web.json_response(failure(str(error)), status=503)
        return web.Response()


async def _whole(generation: Generation, answer: Answer) -> web.Response:
    text, tokens, finish = "", 0, None
    while finish is None:
        try:
            piece = await generation.next_piece()
        except EngineError as error:
            return web.json_response(failure(str(error)), status=500)
        text, tokens, finish = text + piece.text, tokens + piece.tokens, piece.finish
    return web.json_response(answer.whole(text, tokens, finish))


async def _stream(
    request: web.Request, generation: Generation, answer: Answer
) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    tokens, finish = 0, None
    while finish is None:
        try:
            piece = await generation.next_piece()
        except EngineError as error:
            await _send(response, failure(str(error)))
            return response
        tokens, finish = tokens + piece.tokens, piece.finish
        await _send(response, answer.chunk(piece))
    await _send(response, answer.last(tokens))
    await response.write(b"data: [DONE]\n\n")
    return response


async def _send(response: web.StreamResponse, chunk: dict[str, object]) -> None:
    await response.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
