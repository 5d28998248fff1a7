"""What one engine computes next: continuous batching within limits that change while it runs.

As vLLM's scheduler under `engine/vllm_scheduler.py` does: sequences that run come first, those
that decode before prompts; prompts are computed in chunks within the tokens of a step; whoever
does not fit into the KV cache is preempted, the last to come first, and computes everything
again; then waiting ones are admitted below the batch limit. When the limit has fallen below
what runs, those beyond it are held: they keep their KV and take turns. The KV cache is counted
in tokens, not in blocks.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from heapq import heapify, heappop, heappush

from steppe.sim.engine.account import Account
from steppe.sim.engine.sequence import Sequence
from steppe.sim.request import Request

ROTATE_STEPS = 8
"""A held sequence gets its turn after this many steps, as in the live scheduler."""


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """What an engine was started with.

    Attributes:
        tokens_per_step: Most tokens computed in one step; no less than any batch limit.
        chunk_tokens: Most prompt tokens of one sequence in one step.
        kv_tokens: Tokens that the KV cache holds; no less than any request needs.
    """

    tokens_per_step: int = 1 << 60
    chunk_tokens: int = 1 << 60
    kv_tokens: int = 1 << 60


class Batch:
    """The sequences of one engine, and which of them the next step includes.

    Attributes:
        limit: Batch limit in force.
        running: Sequences with KV, in the engine's order.
        waiting: Sequences that the engine has not admitted, in order.
        held: Whether some of those that run are not stepped.
        chunks: Prompts of the next step, with the tokens computed of each.
        decodes: Sequences that decode in the next step.
        context: Tokens in their KV, all together.
        cached: Tokens in the KV of all that run.
        steps: Steps so far.
        output_tokens: Tokens sampled so far.
        begun: Requests that have got their first token so far.
    """

    __slots__ = (
        "_account",
        "_due",
        "_engine",
        "_preempted",
        "_prompts",
        "begun",
        "cached",
        "chunks",
        "context",
        "decodes",
        "held",
        "limit",
        "output_tokens",
        "running",
        "steps",
        "waiting",
    )

    def __init__(self, engine: BatchLimits, limit: int, account: Account) -> None:
        self.limit = limit
        self.running: list[Sequence] = []
        self.waiting: deque[Sequence] = deque()
        self.held = False
        self.chunks: list[tuple[Sequence, int]] = []
        self.decodes = self.context = self.cached = self.steps = self.output_tokens = 0
        self.begun = 0
        self._engine, self._account = engine, account
        self._due: list[tuple[int, int, Sequence]] = []
        self._prompts: list[Sequence] = []
        self._preempted = False

    @property
    def chunk_tokens(self) -> int:
        """Prompt tokens of the next step."""
        return sum([tokens for _, tokens in self.chunks])

    @property
    def uniform_steps(self) -> int:
        """How many steps will be like the next one, if nobody comes or changes a limit."""
        if self.chunks or self._preempted:
            return 1
        steps = min(
            self._due[0][0] - self.steps,
            (self._engine.kv_tokens - self.cached) // self.decodes,
        )
        return min(steps, ROTATE_STEPS - self.steps % ROTATE_STEPS) if self.held else steps

    def plan(self) -> bool:
        """Choose who is in the next step; return False when there is nobody."""
        while True:
            self._deal()
            self._preempted = self._fit()
            if not self.held and not self._preempted:
                self._admit()
            if self.decodes or self.chunks or not self._preempted:
                return bool(self.decodes or self.chunks)

    def advance(self, steps: int, now_s: float) -> list[Request]:
        """Take the result of steps that are all like the planned one.

        Returns:
            The requests that got their last token.
        """
        tokens = self.decodes * steps
        self.steps += steps
        self.context += tokens
        self.cached += tokens
        self.output_tokens += tokens
        finished: list[Request] = []
        while self._due and self._due[0][0] == self.steps:
            sequence = heappop(self._due)[2]
            self.decodes -= 1
            self.context -= sequence.most_cached
            self._account.leave(sequence.request, sequence.receipt)
            self._finish(sequence, now_s, finished)
        if self.chunks:
            self._take_chunks(now_s, finished)
        return finished

    def drop_all(self) -> list[tuple[Request, int]]:
        """Forget everything; return each request with the tokens that it had."""
        for sequence in self.running:
            if sequence.active and not sequence.prompt_left:
                self._stop_decoding(sequence)
        everybody = [*self.running, *self.waiting]
        self.running.clear()
        self.waiting.clear()
        self._due.clear()
        self._prompts, self.chunks, self.held = [], [], False
        self.cached = 0
        return [(s.request, s.request.arrival.output_tokens - s.output_left) for s in everybody]

    def _take_chunks(self, now_s: float, finished: list[Request]) -> None:
        for sequence, tokens in self.chunks:
            sequence.prompt_left -= tokens
            sequence.cached += tokens
            self.cached += tokens
            request = sequence.request
            request.computed_tokens = max(request.computed_tokens, sequence.cached)
            if sequence.prompt_left:
                continue
            self._prompts.remove(sequence)
            self.output_tokens += 1
            sequence.output_left -= 1
            if request.first_s is None:
                request.first_s = now_s
                self.begun += 1
            if sequence.output_left:
                self._start_decoding(sequence)
                heappush(self._due, (sequence.finish_at, request.number, sequence))
            else:
                self._finish(sequence, now_s, finished)
        self.chunks = []

    def _finish(self, sequence: Sequence, now_s: float, finished: list[Request]) -> None:
        self.running.remove(sequence)
        self.cached -= sequence.most_cached
        request = sequence.request
        request.end(now_s, "length", request.arrival.output_tokens)
        finished.append(request)

    def _deal(self) -> None:
        """Part those that run into active and held ones."""
        running, limit = self.running, self.limit
        held = len(running) > limit
        if not held and not self.held:
            return
        if held and self.steps % ROTATE_STEPS == 0:
            running = self.running = running[limit:] + running[:limit]
        for sequence in running[limit:]:
            if sequence.active:
                sequence.active = False
                if not sequence.prompt_left:
                    self._stop_decoding(sequence)
        for sequence in running[:limit]:
            if not sequence.active:
                sequence.active = True
                if not sequence.prompt_left:
                    self._start_decoding(sequence)
        self.held = held
        self._sort_active()

    def _sort_active(self) -> None:
        active = [sequence for sequence in self.running if sequence.active]
        self._prompts = [sequence for sequence in active if sequence.prompt_left]
        self._due = [(s.finish_at, s.request.number, s) for s in active if not s.prompt_left]
        heapify(self._due)

    def _start_decoding(self, sequence: Sequence) -> None:
        sequence.finish_at = self.steps + sequence.output_left
        self.decodes += 1
        self.context += sequence.most_cached - sequence.output_left
        sequence.receipt = self._account.join(sequence.request)

    def _stop_decoding(self, sequence: Sequence) -> None:
        sequence.output_left = sequence.finish_at - self.steps
        self.decodes -= 1
        self.context -= sequence.most_cached - sequence.output_left
        self._account.leave(sequence.request, sequence.receipt)

    def _fit(self) -> bool:
        """Cut the prompts into chunks, and preempt until the step fits into the KV cache."""
        preempted = False
        while True:
            room = self._engine.tokens_per_step - self.decodes
            wanted = self.decodes
            self.chunks = []
            for sequence in self._prompts:
                tokens = min(sequence.prompt_left, self._engine.chunk_tokens, room)
                if tokens > 0:
                    self.chunks.append((sequence, tokens))
                    room -= tokens
                    wanted += tokens
            if self.cached + wanted <= self._engine.kv_tokens:
                return preempted
            self._preempt()
            preempted = True

    def _preempt(self) -> None:
        """Throw the last active sequence back to the head of those that wait."""
        sequence = next(s for s in reversed(self.running) if s.active)
        if sequence.prompt_left:
            self.cached -= sequence.cached
        else:
            self._stop_decoding(sequence)
            self.cached -= sequence.most_cached - sequence.output_left
        arrival = sequence.request.arrival
        sequence.prompt_left = arrival.prompt_tokens + arrival.output_tokens - sequence.output_left
        sequence.cached, sequence.active = 0, False
        self.running.remove(sequence)
        self.waiting.appendleft(sequence)
        self._sort_active()

    def _admit(self) -> None:
        """Let waiting sequences in while there is room."""
        if not self.waiting or len(self.running) >= self.limit:
            return
        used = self.decodes + self.chunk_tokens
        room, free = (
            self._engine.tokens_per_step - used,
            self._engine.kv_tokens - self.cached - used,
        )
        while self.waiting and len(self.running) < self.limit:
            sequence = self.waiting[0]
            tokens = min(sequence.prompt_left, self._engine.chunk_tokens, room)
            if not 0 < tokens <= free:
                return
            room -= tokens
            free -= tokens
            self.waiting.popleft()
            sequence.active = True
            self.running.append(sequence)
            self._prompts.append(sequence)
            self.chunks.append((sequence, tokens))
