"""The order in which rows run: those with a common prefix one after another.

An engine keeps the keys and values of prompts it has seen for as long as it has room. Rows that
begin alike hit them only if they run close together.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import orjson

_FIRST, _LONGEST = 64, 1 << 16
"""Bytes of the shortest and the longest prefix that is compared; each is twice the one before."""
_DIGITS = 2
"""Bytes of each hash: two prefixes that share one by chance only run in a worse order."""


def run_order(body: Mapping[str, Any]) -> str:
    """Return a text that sorts requests by their prefixes.

    It is a chain of hashes of the first 64, 128, 256, ... bytes of the prompt, in hex: prompts with
    a common prefix share the beginning of the chain. So a database sorts any number of rows, and no
    window of them has to be in memory.
    """
    text = _prompt(body)
    digest = hashlib.blake2b(digest_size=_DIGITS)
    chain, begin, end = "", 0, _FIRST
    while end <= min(len(text), _LONGEST):
        digest.update(text[begin:end])
        chain += digest.hexdigest()
        begin, end = end, 2 * end
    return chain


def _prompt(body: Mapping[str, Any]) -> bytes:
    """Return what an engine reads, in its order, as bytes; tools stand before the messages."""
    if "messages" in body:
        parts = [*(body.get("tools") or ()), *body["messages"]]
        return b"".join(_text(part) for part in parts)[:_LONGEST]
    return _text(body.get("prompt", body.get("input", "")))[:_LONGEST]


def _text(part: Any) -> bytes:
    if isinstance(part, str):
        return part.encode()
    if isinstance(part, dict) and isinstance(part.get("content"), str):
        return f"{part.get('role')}\n{part['content']}\n".encode()
    return orjson.dumps(part)
