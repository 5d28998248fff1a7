"""What the gateway reads in the body of a request."""

from __future__ import annotations

import re
from dataclasses import dataclass

import orjson
from aiohttp import web

from steppe.gateway.prompt_size import UNKNOWN_SIZE, PromptSize, prompt_size
from steppe.gateway.sequences import sequences

_FORM_MODEL = re.compile(rb'\bname="model"[^\r\n]*(?:\r\n[^\r\n]+)*\r\n\r\n([^\r\n]*)\r\n')
"""The field `model` of a form, as the transcription of speech has it."""


@dataclass(frozen=True, slots=True)
class RequestBody:
    """What the gateway takes from a body: for unknown types, the defaults.

    Attributes:
        wants_stream: Whether the client asks for an event stream.
        prompt: Size of the prompt.
        places: Sequences to generate.
        model: The model that it names; None without one.
    """

    wants_stream: bool = False
    prompt: PromptSize = UNKNOWN_SIZE
    places: int = 1
    model: str | None = None


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
    model = found.get("model")
    return RequestBody(
        found.get("stream") is True,
        prompt_size(found),
        sequences(found),
        model if isinstance(model, str) else None,
    )
