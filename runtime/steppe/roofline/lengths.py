"""The mean request of a load."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RequestLengths:
    """The mean request of a load, tokens.

    Attributes:
        prompt_tokens: Prompt tokens that the engine computes.
        output_tokens: Output tokens; at least 1, because a prompt gives one.
        cached_tokens: Prompt tokens that the prefix cache holds: read, but not computed.
    """

    prompt_tokens: float
    output_tokens: float
    cached_tokens: float = 0.0

    @property
    def context_tokens(self) -> float:
        """Context of a request that is half way through its output, tokens."""
        return self.cached_tokens + self.prompt_tokens + self.output_tokens / 2
