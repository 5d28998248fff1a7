"""Which conversation does a request go on with?

A client may name it: `prompt_cache_key` or `session_id` in the body, or the header
`x-steppe-conversation`. Else it is known by its begin: the messages up to the first one of the
user, or the first block of a prompt. They are the same in each later request of the conversation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import orjson

from steppe.gateway.prompt_blocks import BLOCK_BYTES

KEYS = ("prompt_cache_key", "session_id")
"""Fields of a body that name a conversation, the first one that is given counts."""
_BEGIN_BYTES = 4096
"""So much of the begin is looked at."""
_HASH_BYTES = 16


def conversation_of(body: Mapping[str, Any]) -> str:
    """Return what a body shows of its conversation: a name or a hash; empty if nothing."""
    for key in KEYS:
        if isinstance(name := body.get(key), str) and name:
            return _hashed(b"name", name.encode(errors="replace")[:_BEGIN_BYTES])
    try:
        begin = _begin(body)
    except orjson.JSONEncodeError:  # nested deeper than can be written
        return ""
    return _hashed(b"begin", begin) if begin else ""


def conversation_key(tenant: str, model: str, conversation: str) -> str:
    """Return the key of a conversation: those of two tenants, or with two models, differ."""
    return _hashed(*(part.encode(errors="replace") for part in (tenant, model, conversation)))


def _begin(body: Mapping[str, Any]) -> bytes:
    messages = body.get("messages")
    if isinstance(messages, list):
        return _until_user(messages)
    text = _short(body["prompt"])[:BLOCK_BYTES] if "prompt" in body else b""
    return text if len(text) == BLOCK_BYTES else b""  # a short prompt is in no cache


def _until_user(messages: list[Any]) -> bytes:
    """Return the messages up to the first one of the user."""
    found = bytearray()
    for message in messages:
        if not isinstance(message, Mapping):
            return b""
        found += str(message.get("role")).encode(errors="replace") + b"\0"
        found += _short(message.get("content")) + b"\0"
        if message.get("role") == "user" or len(found) >= _BEGIN_BYTES:
            return bytes(found[:_BEGIN_BYTES])
    return b""


def _short(text: Any) -> bytes:
    """Return the begin of a text, or of a value as JSON."""
    if isinstance(text, str):
        return text[:_BEGIN_BYTES].encode(errors="replace")[:_BEGIN_BYTES]
    return orjson.dumps(text, option=orjson.OPT_SORT_KEYS)[:_BEGIN_BYTES]


def _hashed(*parts: bytes) -> str:
    found = hashlib.blake2b(digest_size=_HASH_BYTES)
    for part in parts:
        found.update(len(part).to_bytes(4, "big") + part)
    return found.hexdigest()
