"""Sessions: requests whose prompts begin as earlier ones did.

A session begins with a system prompt, which other sessions have too. Each further turn has the
prompt and the answer of the turn before as its beginning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from steppe.load.arrivals import HASH_BLOCK_TOKENS, Arrival, LengthLimits


@dataclass(frozen=True, slots=True)
class Sessions:
    """How requests form sessions.

    Attributes:
        system_prompts: Number of system prompts; the k-th is as frequent as 1/k (Zipf).
        system_tokens: Length of each, tokens.
        going_on: Share of the requests that go on with an open session; the others begin one.
        open_sessions: Most sessions whose next turn may come; beyond it the oldest end.
    """

    system_prompts: int
    system_tokens: int
    going_on: float
    open_sessions: int

    def scaled(self, factor: float) -> Sessions:
        """Return sessions with system prompts of another length."""
        return replace(self, system_tokens=max(1, round(factor * self.system_tokens)))

    def form(
        self, rng: np.random.Generator, turns: Sequence[Arrival], limits: LengthLimits
    ) -> tuple[Arrival, ...]:
        """Return the requests of sessions, given what each turn adds.

        A session whose prompt would exceed the limit ends.

        Args:
            rng: Random number generator.
            turns: Arrivals with the tokens that a turn adds.
            limits: Longest prompt.
        """
        ids = _Ids(self.system_prompts, self.system_tokens // HASH_BLOCK_TOKENS)
        weights = 1 / np.arange(1, self.system_prompts + 1)
        systems = rng.choice(self.system_prompts, len(turns), p=weights / weights.sum()).tolist()
        goes_on = (rng.random(len(turns)) < self.going_on).tolist()
        chosen = rng.random(len(turns)).tolist()
        open_: list[_Open] = []
        made, begun = [], 0
        for turn, system, more, choice in zip(turns, systems, goes_on, chosen, strict=True):
            past = open_.pop(int(choice * len(open_))) if more and open_ else None
            if past is None or past.tokens + turn.prompt_tokens > limits.prompt_tokens:
                begun += 1
                past = _Open(self.system_tokens, ids.of_system(system), begun)
            prompt_tokens = min(past.tokens + turn.prompt_tokens, limits.prompt_tokens)
            blocks = ids.extended(past.blocks, -(-prompt_tokens // HASH_BLOCK_TOKENS))
            made.append(
                replace(
                    turn,
                    prompt_tokens=prompt_tokens,
                    hash_ids=blocks,
                    conversation=past.conversation,
                )
            )
            whole = blocks[: prompt_tokens // HASH_BLOCK_TOKENS]
            open_.append(_Open(prompt_tokens + turn.output_tokens, whole, past.conversation))
            del open_[: -self.open_sessions]
        return tuple(made)


@dataclass(frozen=True, slots=True)
class _Open:
    """A session whose next turn may come.

    Attributes:
        tokens: Tokens with which the next prompt begins.
        blocks: Hashes of the whole blocks among them that an engine has computed as a prompt.
        conversation: Its number, from 1.
    """

    tokens: int
    blocks: tuple[int, ...]
    conversation: int


class _Ids:
    """Hashes: those of the system prompts first, then new ones."""

    def __init__(self, system_prompts: int, blocks: int) -> None:
        self._blocks, self._next = blocks, system_prompts * blocks

    def of_system(self, number: int) -> tuple[int, ...]:
        """Return the whole blocks of a system prompt."""
        return tuple(range(number * self._blocks, (number + 1) * self._blocks))

    def extended(self, blocks: tuple[int, ...], length: int) -> tuple[int, ...]:
        """Return blocks with new ones after them, or the first of them, so many in all."""
        first, self._next = self._next, self._next + max(0, length - len(blocks))
        return blocks[:length] + tuple(range(first, self._next))
