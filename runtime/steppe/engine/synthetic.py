"""An engine without a model: the same limits, telemetry and HTTP shape, with placeholder text.

It batches continuously and respects the batch limit, hold, and the tokens per step. A step takes
as long as its step hook (the emulated GPU) or its own pace requires. It is used where many replicas
run on few cores. Every word of its answers is "synthetic".
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from steppe.engine.control_block import (
    EngineLimits,
    RequestWork,
    StepRecord,
    Telemetry,
    request_key,
)
from steppe.engine.openai_app import OpenAiApp
from steppe.engine.openai_shape import EngineRequest, OutputChunk
from steppe.engine.seam import LAPSED_POLL_S, Seam, StepHook
from steppe.errors import EngineError

CHUNK_TOKENS = 256
"""Most prompt tokens computed in one step."""
DEFAULT_OUTPUT_TOKENS = 16

_WORD, _TOKEN = " synthetic", 0


@dataclass(frozen=True, slots=True)
class SyntheticSettings:
    """Settings of a synthetic engine.

    Attributes:
        served_name: Model name in requests.
        max_batch_limit: Largest batch limit.
        weights_s: Time of a step without work, s.
        decode_s: More time for each decoding sequence, s.
        prefill_s: More time for each prompt token, s.
        max_tokens_per_step: Most tokens in one step.
    """

    served_name: str
    max_batch_limit: int
    weights_s: float = 0.0
    decode_s: float = 0.0
    prefill_s: float = 0.0
    max_tokens_per_step: int = 2048


@dataclass(slots=True, eq=False)
class _Sequence:
    """One request inside the engine."""

    key: int
    prompt_left: int
    output_left: int
    computed: int = 0
    tokens: asyncio.Queue[int] = field(default_factory=asyncio.Queue)
    cancelled: bool = False


@dataclass(frozen=True, slots=True)
class _SequenceTokens:
    """The tokens of one sequence for the app; a word of the prompt counts as a token."""

    sequence: _Sequence
    prompt_tokens: int
    earlier: list[int]
    on_cancel: Callable[[_Sequence], None]

    @property
    def prompt_ids(self) -> list[int]:
        """Token ids of its prompt: there is one token."""
        return [_TOKEN] * self.prompt_tokens

    async def next_chunk(self) -> OutputChunk:
        """Wait for the tokens of the next step that has some."""
        tokens = await self.sequence.tokens.get()
        ended = self.sequence.output_left <= 0 and self.sequence.tokens.empty()
        tokens += len(self.earlier)  # the first chunk has what another engine made
        self.earlier.clear()
        ids = (_TOKEN,) * tokens
        return OutputChunk(_WORD * tokens, tokens, "length" if ended else None, ids)

    def cancel(self) -> None:
        """Free its place."""
        self.on_cancel(self.sequence)


class SyntheticEngine:
    """Runs steps over its sequences in a task, and serves an OpenAI-shaped app."""

    def __init__(self, settings: SyntheticSettings, seam: Seam, secret: str = "") -> None:
        """Open the control block; `listen` starts the engine, for requests with this secret."""
        self._settings = settings
        self._block = seam.open_block()
        self._hook: StepHook = seam.make_hook()
        self._version, self._limits = -1, EngineLimits()
        self._running: deque[_Sequence] = deque()
        self._waiting: deque[_Sequence] = deque()
        self._stepped: list[_Sequence] = []
        self._awake = asyncio.Event()
        self._awake.set()
        self._work = asyncio.Event()
        self._totals = Telemetry()
        self._app = OpenAiApp(settings.served_name, self, secret)
        self._stepping: asyncio.Task[None] | None = None
        self.port = 0

    async def listen(self, host: str) -> None:
        """Serve on a free port of `host` and start stepping."""
        self.port = await self._app.listen(host)
        self._stepping = asyncio.create_task(self._step_forever())

    def begin(self, request: EngineRequest, request_id: str) -> _SequenceTokens:
        """Accept a request."""
        prompt_tokens = max(1, len(request.prompt.words.split()))
        output_tokens = request.output_tokens or DEFAULT_OUTPUT_TOKENS
        earlier = [] if request.earlier is None else request.earlier.output
        left = max(1, output_tokens - len(earlier))
        sequence = _Sequence(request_key(request_id), prompt_tokens + len(earlier), left)
        self._waiting.append(sequence)
        self._work.set()
        return _SequenceTokens(sequence, prompt_tokens, list(earlier), self._cancel)

    async def freeze(self) -> None:
        """Stop stepping after the step that runs."""
        self._awake.clear()

    async def thaw(self) -> None:
        """Continue stepping."""
        self._awake.set()

    async def offload(self) -> None:
        """Stop stepping: there are no weights to move."""
        await self.freeze()

    async def reload(self) -> None:
        """Continue stepping."""
        await self.thaw()

    async def check(self) -> None:
        """Return if the stepping task is alive.

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
        await self._app.close()
        self._hook.idle()

    async def _step_forever(self) -> None:
        while True:
            if not self._awake.is_set():
                self._hook.idle()
                await self._awake.wait()
            if not self._running and not self._waiting:
                self._hook.idle()
                self._work.clear()
                await self._work.wait()
                continue
            if self._block.has_lapsed:
                self._hook.idle()
                await asyncio.sleep(LAPSED_POLL_S)
                continue
            await self._step()

    async def _step(self) -> None:
        chosen, most = self._choose(), self._settings.max_tokens_per_step
        batch, work = _work_of(chosen, min(self._limits.tokens_per_step or most, most))
        prompt = sum(w.prompt_tokens for w in work)
        decodes = sum(1 for w in work if w.decode_tokens)
        start_ns = time.monotonic_ns()
        self._stepped = batch
        self._publish(self._totals)
        context = sum(s.computed + 1 for s, w in zip(batch, work, strict=True) if w.decode_tokens)
        self._hook.begin(prompt, decodes, context)
        pace = self._settings
        await asyncio.sleep(pace.weights_s + pace.decode_s * decodes + pace.prefill_s * prompt)
        await asyncio.to_thread(self._hook.end)
        self._finish(batch, work)
        done = StepRecord(start_ns, time.monotonic_ns(), tuple(work), context)
        self._block.append_step(done)
        self._publish(self._totals.after(done))

    def _choose(self) -> list[_Sequence]:
        """Return the sequences of the next step, admitting waiting ones below the limit."""
        changed = self._block.read_limits(self._version)
        if changed is not None:
            self._version, self._limits = changed
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
            sequence.computed += done.prompt_tokens + done.decode_tokens
            sequence.prompt_left -= done.prompt_tokens
            sequence.output_left -= done.output_tokens
            if done.output_tokens:
                sequence.tokens.put_nowait(done.output_tokens)
            if sequence.output_left <= 0 or sequence.cancelled:
                self._running.remove(sequence)
        self._stepped = []

    def _publish(self, totals: Telemetry) -> None:
        """Publish the counters, with the current numbers of requests."""
        counts = {"running": len(self._running), "waiting": len(self._waiting)}
        self._totals = replace(totals, **counts)
        self._block.write_telemetry(self._totals)

    def _cancel(self, sequence: _Sequence) -> None:
        """Remove a request; one in the running step stays until the step ends."""
        sequence.cancelled = True
        if sequence in self._waiting:
            self._waiting.remove(sequence)
        if sequence in self._running and sequence not in self._stepped:
            self._running.remove(sequence)
        self._publish(self._totals)


def _work_of(
    chosen: list[_Sequence], tokens_per_step: int
) -> tuple[list[_Sequence], list[RequestWork]]:
    """Return the sequences of the next step, and the work for each.

    Decoding sequences come first, as in vLLM; what they leave of the tokens of the step goes to
    prompts, in their order. A prompt for which nothing is left waits.
    """
    batch: list[_Sequence] = []
    work: list[RequestWork] = []
    decodes = sum(1 for sequence in chosen if not sequence.prompt_left)
    room = max(0, tokens_per_step - decodes)
    for sequence in chosen:
        key, left = sequence.key, sequence.prompt_left
        tokens = min(left, CHUNK_TOKENS, room)
        if left and not tokens:
            continue
        room -= tokens
        batch.append(sequence)
        work.append(RequestWork(key, tokens, 0 if left else 1, 1 if tokens == left else 0))
    return batch, work


async def start_synthetic(
    settings: SyntheticSettings, seam: Seam, host: str, secret: str = ""
) -> SyntheticEngine:
    """Start a synthetic engine on a free port of `host`, for requests with the run's secret."""
    engine = SyntheticEngine(settings, seam, secret)
    await engine.listen(host)
    return engine
