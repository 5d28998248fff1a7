"""An engine without a model: the same limits, telemetry and HTTP shape, made-up text.

It batches continuously, honours batch limit and hold, and takes as long per step as its
step hook says (the emulated GPU) or as its own pace. Used where many replicas must run on
few cores; its tokens are not those of a language model, and it says so in every answer.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections import deque
from dataclasses import dataclass, field, replace

from aiohttp import web

from steppe.engine.control_block import (
    ControlBlock,
    Limits,
    RequestWork,
    StepRecord,
    Telemetry,
    request_key,
)
from steppe.engine.seam import Seam, StepHook
from steppe.engine.synthetic_answer import Asked, SyntheticAnswer, refusal
from steppe.errors import EngineError

CHUNK_TOKENS = 256
"""Most prompt tokens computed in one step."""
STOP_S = 0.5
"""How long a stop waits for outstanding requests; without steps they never end."""


@dataclass(frozen=True, slots=True)
class SyntheticSettings:
    """How a synthetic engine behaves.

    Attributes:
        served_name: Name that clients ask for.
        max_batch_limit: Largest batch limit.
        weights_s: Time of a step without work, s.
        decode_s: More time for each decoding sequence, s.
        prefill_s: More time for each prompt token, s.
    """

    served_name: str
    max_batch_limit: int
    weights_s: float = 0.0
    decode_s: float = 0.0
    prefill_s: float = 0.0


@dataclass(slots=True, eq=False)
class _Sequence:
    """One request inside the engine."""

    key: int
    prompt_left: int
    output_left: int
    tokens: asyncio.Queue[int] = field(default_factory=asyncio.Queue)
    gone: bool = False


class SyntheticEngine:
    """Runs steps over its sequences in a task, and serves an OpenAI-shaped app."""

    def __init__(self, settings: SyntheticSettings, seam: Seam) -> None:
        """Open the seam; `listen` starts it."""
        self._settings = settings
        self._block = ControlBlock(seam.path)
        self._hook: StepHook = seam.make_hook()
        self._version, self._limits = -1, Limits()
        self._running: deque[_Sequence] = deque()
        self._waiting: deque[_Sequence] = deque()
        self._awake = asyncio.Event()
        self._awake.set()
        self._work = asyncio.Event()
        self._totals = Telemetry()
        self._runner: web.AppRunner | None = None
        self._stepping: asyncio.Task[None] | None = None
        self.port = 0

    async def listen(self, host: str) -> None:
        """Serve on a free port of `host` and begin to step."""
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
        self.port = self._runner.addresses[0][1]
        self._stepping = asyncio.create_task(self._step_for_ever())

    async def freeze(self) -> None:
        """Stop stepping after the step that runs."""
        self._awake.clear()
        self._hook.idle()

    async def thaw(self) -> None:
        """Go on stepping."""
        self._awake.set()

    async def check(self) -> None:
        """Return if the stepping task lives.

        Raises:
            EngineError: It ended.
        """
        if self._stepping is not None and self._stepping.done():
            error = self._stepping.exception()
            raise EngineError(f"the steps of the synthetic engine ended: {error}") from error

    async def stop(self) -> None:
        """End the steps and the app."""
        if self._stepping is not None:
            self._stepping.cancel()
        if self._runner is not None:
            await self._runner.cleanup()
        self._hook.idle()

    async def _step_for_ever(self) -> None:
        while True:
            await self._awake.wait()
            if not self._running and not self._waiting:
                self._hook.idle()
                self._work.clear()
                await self._work.wait()
                continue
            await self._step()

    async def _step(self) -> None:
        batch = self._choose()
        work = [_work_of(sequence) for sequence in batch]
        prompt = sum(w.prompt_tokens for w in work)
        decodes = sum(1 for w in work if w.decode_tokens)
        start_ns = time.monotonic_ns()
        self._hook.begin(prompt, decodes)
        pace = self._settings
        await asyncio.sleep(pace.weights_s + pace.decode_s * decodes + pace.prefill_s * prompt)
        await asyncio.to_thread(self._hook.end)
        self._finish(batch, work)
        end_ns = time.monotonic_ns()
        self._block.append_step(StepRecord(start_ns, end_ns, tuple(work)))
        self._count(work, end_ns - start_ns, end_ns)

    def _choose(self) -> list[_Sequence]:
        """Return the sequences of the next step, admitting waiting ones below the limit."""
        news = self._block.read_limits(self._version)
        if news is not None:
            self._version, self._limits = news
        own = self._settings.max_batch_limit
        limit = min(self._limits.batch_limit or own, own)
        while self._waiting and len(self._running) < limit:
            self._running.append(self._waiting.popleft())
        if self._limits.hold and len(self._running) > limit:
            self._running.rotate(-1)
            return list(self._running)[:limit]
        return list(self._running)

    def _finish(self, batch: list[_Sequence], work: list[RequestWork]) -> None:
        for sequence, done in zip(batch, work, strict=True):
            sequence.prompt_left -= done.prompt_tokens
            sequence.output_left -= done.output_tokens
            if done.output_tokens:
                sequence.tokens.put_nowait(done.output_tokens)
            if (sequence.output_left <= 0 or sequence.gone) and sequence in self._running:
                self._running.remove(sequence)

    def _count(self, work: list[RequestWork], busy_ns: int, now_ns: int) -> None:
        old = self._totals
        self._totals = Telemetry(
            steps=old.steps + 1,
            running=len(self._running),
            waiting=len(self._waiting),
            prompt_tokens=old.prompt_tokens + sum(w.prompt_tokens for w in work),
            output_tokens=old.output_tokens + sum(w.output_tokens for w in work),
            busy_ns=old.busy_ns + busy_ns,
            now_ns=now_ns,
            scheduled=len(work),
        )
        self._block.write_telemetry(self._totals)

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        try:
            asked = Asked.read(await request.read())
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            return web.json_response(refusal(f"{type(error).__name__}: {error}"), status=400)
        outer_id = request.headers.get("X-Request-Id", uuid.uuid4().hex)
        sequence = _Sequence(request_key(outer_id), asked.prompt_tokens, asked.output_tokens)
        answer = SyntheticAnswer(
            outer_id, self._settings.served_name, request.path.endswith("/chat/completions"), asked
        )
        self._waiting.append(sequence)
        self._work.set()
        try:
            if asked.stream:
                return await _stream(request, sequence, answer)
            while sequence.output_left > 0 or not sequence.tokens.empty():
                await sequence.tokens.get()
            return web.json_response(answer.whole())
        finally:
            self._drop(sequence)

    def _drop(self, sequence: _Sequence) -> None:
        sequence.gone = True
        if sequence in self._waiting:
            self._waiting.remove(sequence)
        if sequence in self._running:
            self._running.remove(sequence)
        counts = {"running": len(self._running), "waiting": len(self._waiting)}
        self._totals = replace(self._totals, **counts)
        self._block.write_telemetry(self._totals)

    async def _models(self, request: web.Request) -> web.Response:
        model = {"id": self._settings.served_name, "object": "model", "owned_by": "steppe"}
        return web.json_response({"object": "list", "data": [model]})

    async def _health(self, request: web.Request) -> web.Response:
        return web.Response()


def _work_of(sequence: _Sequence) -> RequestWork:
    """Return what the next step does for a sequence."""
    if sequence.prompt_left > CHUNK_TOKENS:
        return RequestWork(sequence.key, CHUNK_TOKENS, 0, 0)
    if sequence.prompt_left:
        return RequestWork(sequence.key, sequence.prompt_left, 0, 1)
    return RequestWork(sequence.key, 0, 1, 1)


async def _stream(
    request: web.Request, sequence: _Sequence, answer: SyntheticAnswer
) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    while True:
        tokens = await sequence.tokens.get()
        ended = sequence.output_left <= 0 and sequence.tokens.empty()
        await _send(response, answer.chunk(tokens, "length" if ended else None))
        if ended:
            break
    await _send(response, answer.last())
    await response.write(b"data: [DONE]\n\n")
    return response


async def _send(response: web.StreamResponse, chunk: dict[str, object]) -> None:
    await response.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")


async def start_synthetic(settings: SyntheticSettings, seam: Seam, host: str) -> SyntheticEngine:
    """Start a synthetic engine on a free port of `host`."""
    engine = SyntheticEngine(settings, seam)
    await engine.listen(host)
    return engine
