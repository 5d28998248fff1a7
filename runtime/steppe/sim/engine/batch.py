"""The next step of one engine: continuous batching within limits that change while it runs.

The rules are those of vLLM's scheduler under `engine/vllm_scheduler.py`. Running sequences come
first, those that decode before prompts. Prompts are computed in chunks within the tokens of a step.
Prompt tokens that the prefix cache holds are not computed, but the KV cache holds them for as long
as the sequence runs: sequences share none of it. What they are follows from the hashes of a prompt
(`prefix_cache.py`), or is given. If the KV cache is full, the sequence that came last is preempted
and computes everything again but what its hashes find; what was given, too.
Requests of class `deferrable` come last: they fill places that others leave, and are held, or
preempted, first. Where another one waits, as many of them are held as it needs places, and none of
them computes its prompt.
Then waiting sequences are admitted below the batch limit. If the limit has fallen below the number
of running sequences, those beyond it are held: they keep their KV and take turns. The KV cache is
counted in tokens, not in blocks.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from heapq import heapify, heappop, heappush

from steppe.sim.engine.energy import EnergyShares
from steppe.sim.engine.prefix_cache import NO_HOST_CACHE, HostCache, PrefixCache
from steppe.sim.request import Request

ROTATE_STEPS = 8
"""Held sequences take turns after this many steps, as in the live scheduler."""


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """The fixed limits of an engine.

    Attributes:
        tokens_per_step: Most tokens computed in one step; no less than any batch limit.
        chunk_tokens: Most prompt tokens of one sequence in one step.
        kv_tokens: Tokens that the KV cache holds; enough for any request.
        host: The part of the prefix cache in host memory.
    """

    tokens_per_step: int = 1 << 60
    chunk_tokens: int = 1 << 60
    kv_tokens: int = 1 << 60
    host: HostCache = NO_HOST_CACHE


class Sequence:
    """One request inside an engine.

    Attributes:
        request: The request.
        prompt_left: Tokens to compute before it can decode: its prompt without those in the prefix
            cache, or all of its tokens after a preemption.
        output_left: Remaining output tokens; out of date while it decodes.
        finish_at: Step count of its last token, while it decodes.
        cached: Tokens in the KV cache, or in the prefix cache while it waits; out of date once it
            decodes.
        most_cached: Tokens in the KV cache at its end.
        active: Whether the next step includes it.
        joined_j: Joules of the shares when it began to decode, J.
        held: Hashes of the blocks that it holds in the prefix cache.
        later: Whether its request is deferrable.
    """

    __slots__ = (
        "active",
        "cached",
        "finish_at",
        "held",
        "joined_j",
        "later",
        "most_cached",
        "output_left",
        "prompt_left",
        "request",
    )

    def __init__(self, request: Request) -> None:
        arrival = request.arrival
        self.request = request
        self.prompt_left = arrival.prompt_tokens - arrival.cached_tokens
        self.output_left = arrival.output_tokens
        self.finish_at = 0
        self.cached = arrival.cached_tokens
        self.most_cached = arrival.prompt_tokens + arrival.output_tokens - 1
        self.active = False
        self.joined_j = 0.0
        self.held: tuple[int, ...] = ()
        self.later = request.is_deferrable


class Batch:
    """The sequences of one engine, and which of them the next step includes.

    Attributes:
        limit: Batch limit in force.
        tokens_per_step: Most tokens computed in one step, in force.
        running: Sequences with KV, in the engine's order, the deferrable ones last.
        waiting: Sequences that are not admitted yet, in the same order.
        holds: Whether the limit binds running sequences, too.
        held: Whether some running sequences are not stepped.
        chunks: Prompts of the next step, with the tokens computed of each.
        decodes: Sequences that decode in the next step.
        context: Tokens in the KV of the decoding sequences.
        cached: Tokens in the KV of all running sequences.
        steps: Steps so far.
        output_tokens: Tokens sampled so far.
        begun: Requests that got their first token since `take_begun`.
        prefixes: The prefix cache.
        load_s: Time to load blocks from host memory in the next step, s.
    """

    __slots__ = (
        "_due",
        "_engine",
        "_firm",
        "_preempted",
        "_prompts",
        "_shares",
        "begun",
        "cached",
        "chunks",
        "context",
        "decodes",
        "held",
        "holds",
        "limit",
        "load_s",
        "output_tokens",
        "prefixes",
        "running",
        "steps",
        "tokens_per_step",
        "waiting",
    )

    def __init__(self, engine: BatchLimits, limit: int, shares: EnergyShares) -> None:
        self.limit, self.holds = limit, True
        self.running: list[Sequence] = []
        self.waiting: deque[Sequence] = deque()
        self.held = False
        self.chunks: list[tuple[Sequence, int]] = []
        self.decodes = self.context = self.cached = self.steps = self.output_tokens = 0
        self.begun: list[Request] = []
        self._engine, self._shares = engine, shares
        self.tokens_per_step = engine.tokens_per_step
        self._due: list[tuple[int, int, Sequence]] = []
        self._firm = 0  # of the running ones, those that are not deferrable
        self._prompts: list[Sequence] = []
        self._preempted = False
        self.prefixes, self.load_s = PrefixCache(engine.host.tokens), 0.0

    @property
    def chunk_tokens(self) -> int:
        """Prompt tokens of the next step."""
        return sum([tokens for _, tokens in self.chunks])

    @property
    def uniform_steps(self) -> int:
        """Number of steps like the next one, if no request comes and no limit changes."""
        if self.chunks or self._preempted:
            return 1
        steps = min(
            self._due[0][0] - self.steps,
            (self._engine.kv_tokens - self.cached) // self.decodes,
        )
        return min(steps, ROTATE_STEPS - self.steps % ROTATE_STEPS) if self.held else steps

    def offer(self, request: Request) -> None:
        """Take a request in; one that is not deferrable waits before those that are."""
        sequence, waiting = Sequence(request), self.waiting
        if sequence.later or not waiting or not waiting[-1].later:
            waiting.append(sequence)
        else:
            waiting.insert(self._firm_waiting, sequence)

    def gives_way_to(self, request: Request) -> bool:
        """Whether a running sequence is held for a request that came."""
        return not request.is_deferrable and self._firm < len(self.running)

    @property
    def _firm_waiting(self) -> int:
        """Number of waiting sequences that are not deferrable."""
        waiting = self.waiting
        if not waiting or waiting[0].later:
            return 0
        if not waiting[-1].later:
            return len(waiting)
        return next(number for number, each in enumerate(waiting) if each.later)

    def plan(self) -> bool:
        """Choose the sequences of the next step; return False if there are none."""
        while True:
            self._hold()
            self._preempted = self._fit()
            firm_waits = bool(self.waiting) and not self.waiting[0].later
            if not self._preempted and (not self.held or (firm_waits and self._later_held)):
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
            self._shares.leave(sequence.request, sequence.joined_j)
            self._finish(sequence, now_s, finished)
        if self.chunks:
            self._take_chunks(now_s, finished)
        return finished

    def take_begun(self) -> list[Request]:
        """Return the requests that got their first token since the last call."""
        begun, self.begun = self.begun, []
        return begun

    def drop_all(self) -> list[tuple[Request, int]]:
        """Drop all sequences and the prefix cache; return each request with its output tokens."""
        self.prefixes.clear()
        for sequence in self.running:
            if sequence.active and not sequence.prompt_left:
                self._stop_decoding(sequence)
        sequences = [*self.running, *self.waiting]
        self.running.clear()
        self.waiting.clear()
        self._due.clear()
        self._prompts, self.chunks, self.held = [], [], False
        self.cached = self._firm = 0
        return [(s.request, s.request.arrival.output_tokens - s.output_left) for s in sequences]

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
            if request.arrival.hash_ids:
                self._keep_prompt(sequence)
            self.output_tokens += 1
            sequence.output_left -= 1
            if request.first_s is None:
                request.first_s = now_s
                self.begun.append(request)
            if sequence.output_left:
                self._start_decoding(sequence)
                heappush(self._due, (sequence.finish_at, request.number, sequence))
            else:
                self._finish(sequence, now_s, finished)
        self.chunks = []

    def _finish(self, sequence: Sequence, now_s: float, finished: list[Request]) -> None:
        self.running.remove(sequence)
        self._firm -= not sequence.later
        if sequence.held:
            self._release(sequence)
        self.cached -= sequence.most_cached
        request = sequence.request
        request.end(now_s, "length", request.arrival.output_tokens)
        finished.append(request)

    def _hold(self) -> None:
        """Hold the running sequences beyond the limit."""
        running, limit = self.running, self._most_active()
        held = len(running) > limit
        if not held and not self.held:
            return
        if held and self.steps % ROTATE_STEPS == 0:
            first = self._firm if self._firm <= limit else 0  # they keep their turn
            running = running[:first] + running[limit:] + running[first:limit]
            running.sort(key=lambda sequence: sequence.later)
            self.running = running
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

    def _most_active(self) -> int:
        """Return how many of the running sequences the next step may include."""
        limit, firm, count = self.limit, self._firm, len(self.running)
        if firm == count:  # none is deferrable
            return limit if self.holds else max(limit, count)
        most = limit if self.holds else max(limit, firm)
        return max(min(firm, most), most - self._firm_waiting)

    @property
    def _later_held(self) -> bool:
        """Whether only deferrable sequences are held."""
        return self._firm < len(self.running) and self._firm <= self._most_active()

    def _sort_active(self) -> None:
        active = [sequence for sequence in self.running if sequence.active]
        self._prompts = [sequence for sequence in active if sequence.prompt_left]
        self._due = [(s.finish_at, s.request.number, s) for s in active if not s.prompt_left]
        heapify(self._due)

    def _start_decoding(self, sequence: Sequence) -> None:
        sequence.finish_at = self.steps + sequence.output_left
        self.decodes += 1
        self.context += sequence.most_cached - sequence.output_left
        sequence.joined_j = self._shares.join(sequence.request)

    def _stop_decoding(self, sequence: Sequence) -> None:
        sequence.output_left = sequence.finish_at - self.steps
        self.decodes -= 1
        self.context -= sequence.most_cached - sequence.output_left
        self._shares.leave(sequence.request, sequence.joined_j)

    def _fit(self) -> bool:
        """Cut the prompts into chunks, and preempt until the step fits into the KV cache."""
        preempted = False
        while True:
            room = self.tokens_per_step - self.decodes
            wanted = self.decodes
            self.chunks = []
            firm_waits = bool(self.waiting) and not self.waiting[0].later
            for sequence in self._prompts:
                if firm_waits and sequence.later and self.decodes + len(self.chunks):
                    continue
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
        """Move the last active sequence to the head of the waiting ones."""
        sequence = next(s for s in reversed(self.running) if s.active)
        if sequence.held:
            self._release(sequence)
        if sequence.prompt_left:
            self.cached -= sequence.cached
        else:
            self._stop_decoding(sequence)
            self.cached -= sequence.most_cached - sequence.output_left
        arrival = sequence.request.arrival
        sequence.prompt_left = arrival.prompt_tokens + arrival.output_tokens - sequence.output_left
        sequence.cached, sequence.active = 0, False
        self.running.remove(sequence)
        self._firm -= not sequence.later
        self.waiting.insert(self._firm_waiting if sequence.later else 0, sequence)
        self._sort_active()

    def _admit(self) -> None:
        """Admit waiting sequences while there is room."""
        if not self.waiting or not self._has_place(self.waiting[0]):
            return
        used = self.decodes + self.chunk_tokens
        room, free = (
            self.tokens_per_step - used,
            self._engine.kv_tokens - self.cached - used,
        )
        while self.waiting and self._has_place(self.waiting[0]):
            sequence = self.waiting[0]
            load_s = self._reuse(sequence) if sequence.request.arrival.hash_ids else 0.0
            tokens = min(sequence.prompt_left, self._engine.chunk_tokens, room)
            if tokens <= 0 or sequence.cached + tokens > free:
                if sequence.held:
                    self._return(sequence)
                return
            room -= tokens
            free -= sequence.cached + tokens
            self.load_s += load_s
            self.cached += sequence.cached
            self.waiting.popleft()
            sequence.active = True
            self._run_next(sequence)
            self.chunks.append((sequence, tokens))

    def _has_place(self, sequence: Sequence) -> bool:
        """Whether a waiting sequence may be admitted: a deferrable one needs a free place."""
        if sequence.later or self._firm == len(self.running):
            return len(self.running) < self.limit
        active = min(len(self.running), max(self._firm, self._most_active()))
        return active < self.limit and self._firm < self.limit

    def _run_next(self, sequence: Sequence) -> None:
        """Add an admitted sequence to the running ones, the deferrable ones last."""
        if sequence.later or self._firm == len(self.running):
            self.running.append(sequence)
            self._prompts.append(sequence)
        else:
            self.running.insert(self._firm, sequence)
            self._prompts.insert(sum([not each.later for each in self._prompts]), sequence)
        self._firm += not sequence.later

    def _reuse(self, sequence: Sequence) -> float:
        """Hold the blocks of a prompt that the prefix cache has, so that they are not computed.

        Returns:
            Time to load those from host memory, s.
        """
        request, engine = sequence.request, self._engine
        arrival = request.arrival
        self._shrink(arrival.block_tokens)
        found = self.prefixes.match(arrival.hash_ids)
        # An engine computes the last token of every prompt, whatever its cache holds.
        cached = min(found.blocks * arrival.block_tokens, arrival.prompt_tokens - 1)
        sequence.cached = request.cached_tokens = cached
        sequence.prompt_left -= cached
        sequence.held = arrival.hash_ids[: found.blocks]
        self.prefixes.hold(sequence.held)
        return found.loaded * arrival.block_tokens * engine.host.load_s

    def _return(self, sequence: Sequence) -> None:
        """Undo `_reuse`, because the prompt does not fit yet."""
        sequence.prompt_left += sequence.cached
        sequence.cached = sequence.request.cached_tokens = 0
        self._release(sequence)

    def _keep_prompt(self, sequence: Sequence) -> None:
        """Hold all blocks of a prompt that has been computed, so that others may reuse them."""
        arrival = sequence.request.arrival
        self.prefixes.hold(arrival.hash_ids)
        self.prefixes.release(sequence.held)
        sequence.held = arrival.hash_ids
        self.prefixes.store(arrival.hash_ids, arrival.block_tokens)

    def _release(self, sequence: Sequence) -> None:
        """Return the blocks of a sequence while its tokens still count: others needed that room."""
        self._shrink(sequence.request.arrival.block_tokens)
        self.prefixes.release(sequence.held)
        sequence.held = ()

    def _shrink(self, block_tokens: int) -> None:
        self.prefixes.shrink((self._engine.kv_tokens - self.cached) // block_tokens)
