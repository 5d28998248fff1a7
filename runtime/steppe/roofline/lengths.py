"""The mean request of a load."""

from __future__ import annotations

from dataclasses import dataclass

DECODED_SHARE = 0.75
"""Tokens that a running request has decoded, over the mean output: half of (1 + variance over the
squared mean), for outputs that deviate by 0.7 of their mean, as those of conversations do."""


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
        """Mean context of a running request, tokens: long outputs run, and are met, longer."""
        return self.cached_tokens + self.prompt_tokens + DECODED_SHARE * self.output_tokens
