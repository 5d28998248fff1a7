"""How long is the prompt of a request, before a replica has tokenised it?

The gateway has no tokeniser. A prompt of token ids is counted exactly. That of a text is estimated
from its bytes, times the tokens per byte that the `usage` of recent requests gives.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from steppe.gateway.stream import Usage

PRIOR_TOKENS_PER_BYTE, PRIOR_BYTES = 0.25, 8192.0
"""Tokens per byte before any request has ended, and its weight in bytes of prompts. English text
has about four characters a token (OpenAI, "What are tokens and how to count them?")."""
MEMORY = 0.995
"""Weight that the requests so far keep as another one ends: about the last 200 count."""

MOST_PARTS = 50_000
"""Most JSON values of a prompt that are looked at, some 10 ms of work."""

_PROMPT_KEYS = ("messages", "prompt", "input", "system", "instructions", "tools")
_MEDIA_KEYS = frozenset({"image_url", "video_url", "audio_url", "input_audio", "file", "source"})
"""Parts of a message that carry data or an address, not text."""


@dataclass(frozen=True, slots=True)
class PromptSize:
    """The size of a prompt as its client sent it.

    Attributes:
        text_bytes: Bytes of its texts, in UTF-8.
        token_ids: Number of its token ids.
    """

    text_bytes: int = 0
    token_ids: int = 0


UNKNOWN_SIZE = PromptSize()
"""The size of a body that is not plain JSON."""


@dataclass(frozen=True, slots=True)
class PromptCount:
    """Tokens of prompts.

    Attributes:
        prompt_tokens: All of them.
        cached_tokens: Those of them that the prefix cache held.
    """

    prompt_tokens: int = 0
    cached_tokens: int = 0


def prompt_size(request: Mapping[str, Any]) -> PromptSize:
    """Return the size of the prompt in a request of any of OpenAI's or Anthropic's APIs.

    What lies beyond the first `MOST_PARTS` parts is left out: other requests wait meanwhile.
    """
    text_bytes = token_ids = parts = 0
    # A stack, because a client may nest its JSON deeper than Python calls may be.
    left: list[Any] = [request[key] for key in _PROMPT_KEYS if key in request]
    while left and parts < MOST_PARTS:
        part = left.pop()
        parts += 1
        if isinstance(part, str):
            text_bytes += len(part) if part.isascii() else len(part.encode(errors="replace"))
        elif isinstance(part, list):
            if part and type(part[0]) is int:  # the ids of one prompt
                token_ids += len(part)
            else:
                left += part[:MOST_PARTS]
        elif isinstance(part, dict):
            left += [value for key, value in part.items() if key not in _MEDIA_KEYS]
    return PromptSize(text_bytes, token_ids)


class PromptTotals:
    """Running totals of the prompts that have arrived.

    A request counts with an estimate from its arrival on, and with its `usage` once it has ended.
    So a total may fall a little. The cached tokens of a request are estimated from the share of
    those that ended, too.
    """

    __slots__ = ("_bytes", "_cached", "_of_text", "_prompts", "cached_tokens", "prompt_tokens")

    def __init__(self) -> None:
        """Begin without requests."""
        self.prompt_tokens = self.cached_tokens = 0
        # Recent requests that ended: bytes and tokens of their texts, prompt and cached tokens.
        self._bytes, self._of_text = PRIOR_BYTES, PRIOR_BYTES * PRIOR_TOKENS_PER_BYTE
        self._prompts = self._cached = 0.0

    def tokens(self, size: PromptSize) -> int:
        """Return the tokens of a prompt, estimated for a text."""
        return round(size.token_ids + size.text_bytes * self._of_text / self._bytes)

    def arrive(self, size: PromptSize) -> PromptCount:
        """Add a request; return what it counts for until it ends."""
        tokens = self.tokens(size)
        cached_share = self._cached / self._prompts if self._prompts else 0.0
        count = PromptCount(tokens, round(tokens * cached_share))
        self._add(count, 1)
        return count

    def end(self, size: PromptSize, counted: PromptCount, usage: Usage) -> None:
        """Replace what a request counted for by its `usage`, and learn from it."""
        cached_tokens = usage.cached_tokens or 0  # vLLM leaves a zero out
        self._add(counted, -1)
        self._add(PromptCount(usage.prompt_tokens, cached_tokens), 1)
        self._prompts = MEMORY * self._prompts + usage.prompt_tokens
        self._cached = MEMORY * self._cached + cached_tokens
        of_text = usage.prompt_tokens - size.token_ids
        if size.text_bytes and of_text > 0:
            self._bytes = MEMORY * self._bytes + size.text_bytes
            self._of_text = MEMORY * self._of_text + of_text

    def drop(self, counted: PromptCount) -> None:
        """Remove a request that no replica computes, such as one with a client error."""
        self._add(counted, -1)

    def _add(self, count: PromptCount, sign: int) -> None:
        self.prompt_tokens += sign * count.prompt_tokens
        self.cached_tokens += sign * count.cached_tokens
