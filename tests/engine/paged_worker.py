"""A made-up model runner over a paged KV cache, to drive vLLM's real schedulers without a model.

It keeps its own state of each request, as vLLM's two model runners do, and takes from a
`SchedulerOutput` only what they take. The next token is a hash of all tokens before it, read
through the request's block table: a block that was freed too early, shared wrongly or never
written changes the tokens, or fails an assertion here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

VOCABULARY = 40
END = 3
"""The end-of-text token."""

_WRONG = 1_000_000
"""Added to a draft token that shall be rejected; no real token is that large."""


def next_token(tokens: Sequence[int]) -> int:
    """Return the token that follows `tokens`: the whole of the made-up model."""
    return hash(tuple(tokens)) % VOCABULARY


def expected_output(prompt: Sequence[int], max_tokens: int, max_model_len: int) -> list[int]:
    """Return the output tokens of a request: a pure function of the prompt."""
    tokens = list(prompt)
    while True:
        tokens.append(next_token(tokens))
        done = len(tokens) - len(prompt)
        if tokens[-1] == END or done >= max_tokens or len(tokens) >= max_model_len:
            return tokens[len(prompt) :]


@dataclass
class _State:
    """What the runner keeps of one request."""

    prompt_tokens: int
    tokens: list[int]
    blocks: list[int]
    computed: int
    drafts: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class StepResult:
    """What one step sampled, by request id.

    Attributes:
        sampled: Its tokens; empty in the middle of a prompt.
        drafts: Drafts for the next step.
        context_tokens: Context of the requests that computed tokens after their prompt.
    """

    sampled: dict[str, list[int]]
    drafts: dict[str, list[int]]
    context_tokens: int

    @property
    def sampling(self) -> list[str]:
        """The requests that got tokens."""
        return [name for name, tokens in self.sampled.items() if tokens]


class PagedWorker:
    """Executes scheduled steps in order, as one stream of a GPU does."""

    def __init__(
        self, block_size: int, *, is_v2: bool, is_async: bool, draft: Callable[[str, int], int]
    ) -> None:
        """Start with an empty cache.

        Args:
            block_size: Tokens in one block.
            is_v2: Whether to take states as model runner V2 does.
            is_async: Whether drafts stay in the worker, as with async scheduling.
            draft: How many draft tokens of a request are right, by request id and position.
        """
        self._block_size, self._is_v2, self._is_async = block_size, is_v2, is_async
        self._right_drafts = draft
        self._states: dict[str, _State] = {}
        self._cache: dict[int, list[int | None]] = {}
        self._previous: set[str] = set()

    def execute(self, step: Any, spec_tokens: int) -> StepResult:
        """Run one step; the result is final here before the scheduler sees it."""
        self._take_states(step)
        sampled: dict[str, list[int]] = {}
        drafts: dict[str, list[int]] = {}
        context = 0
        starts = {name: self._start_of(name) for name in step.num_scheduled_tokens}
        for name, count in step.num_scheduled_tokens.items():
            self._write(name, starts[name], count, step)
            state = self._states[name]
            if state.computed + count > state.prompt_tokens:
                context += state.computed + count
        for name, count in step.num_scheduled_tokens.items():
            sampled[name] = self._sample(name, starts[name], count, step)
            state = self._states[name]
            if sampled[name] and spec_tokens:
                state.drafts = drafts[name] = self._draft(name, spec_tokens)
        self._previous = set(step.num_scheduled_tokens)
        return StepResult(sampled, drafts, context)

    def _take_states(self, step: Any) -> None:
        gone = set(step.finished_req_ids)
        if self._is_v2:
            gone |= step.preempted_req_ids or set()
        for name in gone:
            self._states.pop(name, None)
        for new in step.scheduled_new_reqs:
            tokens = new.prefill_token_ids if self._is_v2 else new.prompt_token_ids
            (blocks,) = new.block_ids
            self._states[new.req_id] = _State(
                len(new.prompt_token_ids), list(tokens), list(blocks), new.num_computed_tokens
            )
        cached = step.scheduled_cached_reqs
        for i, name in enumerate(cached.req_ids):
            self._take_cached(cached, i, name)

    def _take_cached(self, cached: Any, i: int, name: str) -> None:
        state = self._states[name]
        state.computed = cached.num_computed_tokens[i]
        new_blocks = cached.new_block_ids[i]
        if name in cached.resumed_req_ids:
            assert not self._is_v2, "model runner V2 has resumed requests among the new ones"
            (blocks,) = new_blocks
            state.blocks = list(blocks)
        elif new_blocks is not None:
            (blocks,) = new_blocks
            state.blocks += blocks
        # Model runner V1 drops a request from its batch for a step in which it does not take part,
        # and then takes its tokens from the scheduler.
        resumed = name in cached.resumed_req_ids
        if not self._is_v2 and (resumed or name not in self._previous):
            tokens = list(cached.all_token_ids[name])
            assert resumed or tokens == state.tokens, (
                "the scheduler lacks tokens that only the runner's last batch had"
            )
            state.tokens = tokens

    def _start_of(self, name: str) -> int:
        """Return the first position to compute; a rejected draft takes it back from the plan."""
        state = self._states[name]
        return min(state.computed, len(state.tokens) - 1)

    def _inputs(self, name: str, step: Any) -> list[int]:
        """Return the known tokens of a request and its drafts."""
        state = self._states[name]
        given = step.scheduled_spec_decode_tokens.get(name, [])
        drafts = list(given)
        if self._is_async and drafts:
            kept = state.drafts if self._is_v2 or name in self._previous else []
            drafts = [*kept, *drafts[len(kept) :]][: len(given)]
        return state.tokens + [max(0, token) for token in drafts]

    def _write(self, name: str, start: int, count: int, step: Any) -> None:
        """Write the step's tokens into the blocks of the request."""
        state, inputs = self._states[name], self._inputs(name, step)
        size = self._block_size
        assert count > 0
        assert start + count <= len(state.blocks) * size, f"{name} has no block for its tokens"
        assert start + count <= len(inputs), f"{name} has no tokens for its positions"
        for position in range(start, start + count):
            block = self._cache.setdefault(state.blocks[position // size], [None] * size)
            block[position % size] = inputs[position]

    def _sample(self, name: str, start: int, count: int, step: Any) -> list[int]:
        state, inputs = self._states[name], self._inputs(name, step)
        end = start + count
        self._check_context(name, inputs[:end])
        if end < len(state.tokens):
            return []
        drafts = inputs[len(state.tokens) : end]
        sampled: list[int] = []
        for draft in [*drafts, None]:
            token = next_token(state.tokens)
            state.tokens.append(token)
            sampled.append(token)
            if token != draft:
                break
        return sampled

    def _check_context(self, name: str, tokens: list[int]) -> None:
        """Check that the cache of a request holds just these tokens."""
        size, blocks = self._block_size, self._states[name].blocks
        for at in range(0, len(tokens), size):
            want = tokens[at : at + size]
            found = self._cache.get(blocks[at // size], [])[: len(want)]
            assert found == want, f"{name} reads {found} at {at}, wrote {want}"

    def _draft(self, name: str, count: int) -> list[int]:
        """Return draft tokens: some right, then wrong ones."""
        tokens = list(self._states[name].tokens)
        right = self._right_drafts(name, len(tokens))
        drafts = []
        for i in range(count):
            token = next_token(tokens)
            drafts.append(token if i < right else token + _WRONG)
            tokens.append(token)
        return drafts
