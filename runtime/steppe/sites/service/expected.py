"""The energy that a call of another site is expected to need here, from its body."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from steppe.sites.view import PoolView, SiteView

USUAL_OUTPUT_TOKENS, MOST_OUTPUT_TOKENS = 512, 4096
"""Output tokens of a sequence that are expected of a call without a maximum, and at most: clients
ask for large maxima, and few answers come near."""
CHARS_PER_TOKEN = 4
_MOST_SEQUENCES, _DEEPEST = 1024, 8
_MAX_TOKENS_KEYS = ("max_completion_tokens", "max_tokens", "max_output_tokens")
_PROMPT_KEYS = ("messages", "prompt", "input", "instructions", "system", "query", "documents")


def expected_uj(view: SiteView, body: Mapping[str, Any], *, generates: bool) -> int:
    """Return the energy that a call is expected to need, uJ.

    Args:
        view: What this site shows of itself.
        body: The JSON of the call.
        generates: Whether it has output tokens: embeddings have none.
    """
    pools = _pools(view, body.get("model"))
    prompt = prompt_tokens([body.get(key) for key in _PROMPT_KEYS])
    output = output_tokens(body) if generates else 0
    return max((_energy_uj(pool, prompt, output) for pool in pools), default=0)


def output_tokens(body: Mapping[str, Any]) -> int:
    """Return the output tokens that are expected of a call, those of all sequences together."""
    given = _integers(body, _MAX_TOKENS_KEYS)
    each = min(max(given, default=USUAL_OUTPUT_TOKENS), MOST_OUTPUT_TOKENS)
    sequences = max([1, *_integers(body, ("n", "best_of"))])
    return max(each, 0) * min(sequences, _MOST_SEQUENCES)


def prompt_tokens(value: Any, depth: int = 0) -> int:
    """Return about how many tokens the text or the token ids of a prompt are."""
    match value:
        case str():
            is_media = value.startswith("data:")
            return 0 if is_media else math.ceil(len(value) / CHARS_PER_TOKEN)
        case [int(), *_]:
            return len(value)
        case list() if depth < _DEEPEST:
            return sum(prompt_tokens(each, depth + 1) for each in value)
        case dict() if depth < _DEEPEST:
            return sum(prompt_tokens(each, depth + 1) for each in value.values())
        case _:
            return 0


def _integers(body: Mapping[str, Any], keys: Iterable[str]) -> list[int]:
    return [value for key in keys if type(value := body.get(key)) is int]


def _pools(view: SiteView, model: Any) -> list[PoolView]:
    """Return the pools of a model; all if it may be an alias or an adapter of any."""
    pools = list(view.pools.values())
    return [pool for pool in pools if pool.model == model] or pools


def _energy_uj(pool: PoolView, prompt: int, output: int) -> int:
    return math.ceil(prompt * pool.prompt_uj_per_token + output * pool.uj_per_token)
