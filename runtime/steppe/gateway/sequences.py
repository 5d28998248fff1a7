"""How many sequences a request generates: each takes a place of a batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MOST_SEQUENCES = 1024
"""A request counts with no more; no engine has a larger batch by default."""
MOST_HELD = 1 << 20
"""What a request costs counts with no more."""


def sequences(request: Mapping[str, Any]) -> int:
    """Return the places that a request takes, 1 to 1024: one for each of its sequences."""
    return min(all_sequences(request), MOST_SEQUENCES)


def all_sequences(request: Mapping[str, Any]) -> int:
    """Return the sequences of a request of any of OpenAI's or Anthropic's APIs, 1 to 2^20.

    `n` (and the older `best_of`) is the number of samples, or the width of a beam search, for each
    prompt. A text completion may have a list of prompts, an embedding a list of inputs, and a batch
    of chats a list of lists of messages.
    """
    samples = max(_count(request.get("n")), _count(request.get("best_of")))
    prompts = max(_prompts(request.get("prompt")), _prompts(request.get("input")))
    match request.get("messages"):
        case [list(), *_] as chats:
            prompts = max(prompts, len(chats))
    return min(samples * prompts, MOST_HELD)


def _count(value: object) -> int:
    """Return a count of samples; engines also take one that is a text or a float."""
    if not isinstance(value, int | float | str):
        return 1
    try:
        return max(1, int(value))
    except (ValueError, OverflowError):
        return 1


def _prompts(value: object) -> int:
    """Return the prompts in a `prompt` or `input`; the ids of one prompt are one."""
    match value:
        case [str() | list(), *_]:
            return len(value)
        case _:
            return 1
