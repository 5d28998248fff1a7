"""Which blocks does a prompt begin with, before a replica has tokenised it?

The gateway has no tokeniser, so it cuts the text into blocks of bytes and chains their hashes, as
vLLM does with blocks of tokens: equal hashes mean equal beginnings. A conversation that goes on
begins with the blocks that it had before, and so do requests with the same system prompt. Only
whole blocks count.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

BLOCK_BYTES = 512
"""Bytes of a block, some 128 tokens of English text."""
MOST_BLOCKS = 512
"""Most blocks of a prompt, some 64,000 tokens of English text; about 1 ms of work."""
_HASH_BYTES = 8


def prompt_blocks(request: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the chained hashes of the blocks of a prompt in any of OpenAI's or Anthropic's APIs.

    Requests for different models, adapters or cache salts share no block. The order is that in
    which chat templates write: tools, the system prompt, then the messages.
    """
    try:
        parent = _bytes_of([request.get("model"), request.get("cache_salt")])
        text = _beginning(_pieces(request), BLOCK_BYTES * MOST_BLOCKS)
    except orjson.JSONEncodeError:  # nested deeper than can be written
        return ()
    hashes: list[int] = []
    for end in range(BLOCK_BYTES, len(text) + 1, BLOCK_BYTES):
        block = text[end - BLOCK_BYTES : end]
        parent = hashlib.blake2b(parent + block, digest_size=_HASH_BYTES).digest()
        hashes.append(int.from_bytes(parent))
    return tuple(hashes)


def _beginning(pieces: Iterator[bytes], most: int) -> bytes:
    kept, size = [], 0
    for piece in pieces:
        kept.append(piece)
        size += len(piece)
        if size >= most:
            break
    return b"".join(kept)[:most]


def _pieces(request: Mapping[str, Any]) -> Iterator[bytes]:
    """Yield the parts of a prompt in the order in which an engine reads them."""
    for key in ("tools", "system", "instructions"):
        if request.get(key):
            yield _bytes_of(request[key])
    for key in ("messages", "input", "prompt"):
        part = request.get(key)
        if isinstance(part, list) and part and isinstance(part[0], Mapping):
            for message in part:
                # A message ends with a mark, so that no text looks like two messages.
                yield _bytes_of(message) + b"\0"
        elif part:
            yield _bytes_of(part)


def _bytes_of(part: Any) -> bytes:
    """Return a part as bytes: texts as they are, all else as JSON."""
    if isinstance(part, str):
        return part.encode(errors="replace")
    return orjson.dumps(part, option=orjson.OPT_SORT_KEYS)
