"""What the gateway reads in the body of a request."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson
from aiohttp import web

from steppe.gateway.continuable import PlainStream, read_plain, with_fields
from steppe.gateway.prompt_blocks import prompt_blocks
from steppe.gateway.prompt_size import UNKNOWN_SIZE, PromptSize, prompt_size
from steppe.gateway.replica_client import ProxyRequest
from steppe.gateway.sequences import all_sequences, sequences
from steppe.gateway.sites.conversation import conversation_of

_FORM_MODEL = re.compile(rb'\bname="model"[^\r\n]*(?:\r\n[^\r\n]+)*\r\n\r\n([^\r\n]*)\r\n')
"""The field `model` of a form, as the transcription of speech has it."""


_NO_OUTPUT = re.compile(r"/(?:embeddings|pooling|score|rerank|classify)$")
_MAX_TOKENS_KEYS = ("max_completion_tokens", "max_tokens", "max_output_tokens")
_MOST_TOKENS = 1 << 30


@dataclass(frozen=True, slots=True)
class RequestBody:
    """What the gateway takes from a body: for unknown types, the defaults.

    Attributes:
        wants_stream: Whether the client asks for an event stream.
        prompt: Size of the prompt.
        places: Places of a batch that it takes.
        model: The model that it names; None without one.
        max_output_tokens: Most output tokens of all sequences; None if it gives no maximum.
        wants_energy: Whether its `stream_options` ask for the energy.
        plain: What the client of a stream asked for that can go on elsewhere; None for others.
        blocks: Chained hashes of the blocks of the prompt, see `prompt_blocks`.
        sequences: Sequences to generate; beyond 1024 they are more than the places.
        conversation: What it shows of its conversation, see `conversation_of`; or empty.
        earlier_tokens: Output tokens that it brings along from another engine.
    """

    wants_stream: bool = False
    prompt: PromptSize = UNKNOWN_SIZE
    places: int = 1
    model: str | None = None
    max_output_tokens: int | None = None
    wants_energy: bool = False
    plain: PlainStream | None = None
    blocks: tuple[int, ...] = ()
    sequences: int = 1
    conversation: str = ""
    earlier_tokens: int = 0


def read_body(request: web.Request, body: bytes) -> RequestBody:
    """Return what the gateway takes from a body.

    Raises:
        web.HTTPBadRequest: The body is not JSON.
    """
    if "Content-Encoding" in request.headers:
        return RequestBody()
    if request.content_type == "multipart/form-data":
        field = _FORM_MODEL.search(body)
        return RequestBody(model=field[1].decode(errors="replace") if field else None)
    if request.content_type != "application/json":
        return RequestBody()
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        reason = error.msg.partition(": line ")[0]
        raise web.HTTPBadRequest(text=f"asked for JSON, found {reason} at {where}") from error
    if not isinstance(found, dict):
        return RequestBody()
    model, places = found.get("model"), sequences(found)
    return RequestBody(
        found.get("stream") is True,
        prompt_size(found),
        places,
        model if isinstance(model, str) else None,
        0 if _NO_OUTPUT.search(request.path) else _max_output_tokens(found, places),
        _wants_energy(found),
        read_plain(request.path, found),
        prompt_blocks(found),
        all_sequences(found),
        conversation_of(found),
        _earlier_tokens(found),
    )


def with_model(proxied: ProxyRequest, model: str) -> ProxyRequest:
    """Return a request for an alias as a replica takes it: with the name of its model."""
    if proxied.headers.get("Content-Type", "").startswith("multipart/form-data"):
        found = _FORM_MODEL.search(proxied.body)
        assert found is not None, "the alias was read there"
        start, end = found.span(1)
        return replace(
            proxied, body=b"".join((proxied.body[:start], model.encode(), proxied.body[end:]))
        )
    return replace(proxied, body=with_fields(proxied.body, b'"model":' + orjson.dumps(model)))


def _wants_energy(body: object) -> bool:
    match body:
        case {"stream_options": {"include_energy": True}}:
            return True
        case _:
            return False


def _earlier_tokens(found: Mapping[str, Any]) -> int:
    """Return how many output tokens a body brings along from another engine."""
    match found.get("vllm_xargs"):
        case {"steppe_output": list(ids)}:
            return len(ids)
        case _:
            return 0


def _max_output_tokens(found: Mapping[str, Any], places: int) -> int | None:
    """Return the largest maximum that a body gives: an engine reads one of them."""
    given = [each for key in _MAX_TOKENS_KEYS if (each := found.get(key)) is not None]
    limits = [each for each in given if type(each) is int and 0 <= each <= _MOST_TOKENS]
    return places * max(limits) if limits and len(limits) == len(given) else None
