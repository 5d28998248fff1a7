"""Prompts of a given length, made of plain words, for any OpenAI server."""

from __future__ import annotations

import numpy as np

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


def write_prompt(rng: np.random.Generator, tokens: int) -> str:
    """Write a text of about this many tokens: one random common word a token.

    The count holds exactly for SmolLM2's tokenizer and nearly for other byte-level BPE
    tokenizers of English; the exact count is in the answer's `usage`. Two prompts share a prefix
    only by chance, so a prefix cache gains nothing from them but the chat template.

    Args:
        rng: Random number generator; the same state gives the same text.
        tokens: Length; at least one word is written.
    """
    chosen = rng.integers(len(WORDS), size=max(1, tokens))
    return " ".join([WORDS[index] for index in chosen.tolist()])
