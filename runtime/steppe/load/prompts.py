"""Prompts of a given length, made of plain words, for any OpenAI server."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from steppe.load.arrivals import Arrival

_TEXT = """
    time year people way day man thing woman life child world school state family student
    group country problem hand part place case week company system program question work
    government number night point home water room mother area money story fact month lot right
    study book eye job word business issue side kind head house service friend father power
    hour game line end member law car city community name president team minute idea body
    information back parent face others level office door health person art war history party
    result change morning reason research girl guy moment air teacher force education wind sun
    river field light green warm cold slow fast old new long short high low open close early
    late good great small large strong clear simple free
"""
WORDS = tuple(_TEXT.split())
"""Common words; with a space before it, each is one token of SmolLM2's tokenizer (measured)."""


def write_prompt(rng: np.random.Generator, tokens: int, prefix: Sequence[str] = ()) -> str:
    """Write a text of about this many tokens: one random common word a token.

    The count holds exactly for SmolLM2's tokenizer and nearly for other byte-level BPE
    tokenizers of English; the exact count is in the answer's `usage`. Without a `prefix` two
    prompts share one only by chance, so a prefix cache gains nothing from them but the chat
    template.

    Args:
        rng: Random number generator; the same state gives the same text.
        tokens: Length; at least one word is written.
        prefix: The words that it begins with; at least one other word follows them.
    """
    shared = prefix[: max(0, tokens - 1)]
    return " ".join([*shared, *_choose(rng, max(1, tokens - len(shared)))])


def shared_prefix(seed: int, arrivals: Sequence[Arrival]) -> list[str]:
    """Return the words that prompts have in common as far as a prefix cache is to hold them."""
    longest = max((arrival.cached_tokens for arrival in arrivals), default=0)
    # Prompts have the seeds (seed, index); a seed of three numbers is none of theirs.
    return _choose(np.random.default_rng((seed, 0, 1)), longest)


def _choose(rng: np.random.Generator, count: int) -> list[str]:
    """Return so many random words."""
    return [WORDS[index] for index in rng.integers(len(WORDS), size=count).tolist()]
