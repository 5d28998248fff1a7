"""OpenAI's error shape: `{"error": {"message", "type", "param", "code"}}`.

Errors of the gateway are made in it, and those of replicas are translated to it. vLLM has the same
keys, but `type` is a class name or HTTP phrase and `code` is the HTTP status; FastAPI answers
`{"detail": ...}` where there is no route.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from http.client import responses
from typing import Any

import orjson

_CODES = (
    (re.compile(r"^The model `[^`]*` does not exist"), "model_not_found"),
    (re.compile(r"\bmaximum context length\b"), "context_length_exceeded"),
)
"""Codes of OpenAI's API for messages of vLLM's."""
_TYPE = re.compile(r"[a-z]+(?:_[a-z]+)*")
"""A type such as `invalid_request_error`; `BadRequestError` and `Bad Request` are not."""
_ERROR_DATA = re.compile(rb'^data:[ \t]*(\{\s*"(?:error|type)".*\})[ \t]*\r?$', re.MULTILINE)


def error_body(message: str, *, type_: str, code: str, param: str | None = None) -> bytes:
    """Return `{"error": {message, type, param, code}}` as JSON.

    Args:
        message: What was asked and what was found, for people.
        type_: The class of the error, such as `overloaded` or `invalid_request_error`.
        code: The exact reason, for programs.
        param: The header or field that is at fault, if one is.
    """
    return orjson.dumps({"error": _error(message, type_, code, param)})


def error_event(message: str, *, type_: str, code: str) -> bytes:
    """Return the event that ends a broken stream; no `[DONE]` follows it.

    Clients of the chat and the responses API look for the `error` in it, those of the messages API
    for its name.
    """
    body = {"type": "error", "error": _error(message, type_, code, None)}
    return b"event: error\ndata: " + orjson.dumps(body) + b"\n\n"


def phrase_code(status: int) -> str:
    """Return the code of an HTTP status without another one, such as `not_found`."""
    return responses.get(status, "error").lower().replace(" ", "_")


def translate_body(status: int, body: bytes) -> bytes:
    """Return the body of a replica's error response in OpenAI's shape."""
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        found = body.decode(errors="replace")
    match found:
        case {"error": dict(error), **rest}:
            return orjson.dumps({**rest, "error": _translated(status, error)})
        case {"error": str(message)} | {"detail": str(message)} | str(message):
            pass
        case _:
            message = body.decode(errors="replace")
    return error_body(message, type_=_type_of(status), code=phrase_code(status))


def translate_events(lines: bytes) -> bytes:
    """Return whole lines of an event stream, with their error events in OpenAI's shape."""
    return _ERROR_DATA.sub(_translate_event, lines)


def _translate_event(line: re.Match[bytes]) -> bytes:
    try:
        found = orjson.loads(line[1])
    except orjson.JSONDecodeError:
        return line[0]
    match found:
        case {"error": dict(error), **rest}:
            code = error.get("code")
            status = code if isinstance(code, int) else 500
            whole = {**rest, "error": _translated(status, error)}
            return line[0].replace(line[1], orjson.dumps(whole))
        case _:
            return line[0]


def _translated(status: int, error: Mapping[str, Any]) -> dict[str, str | None]:
    message, type_, code, param = (error.get(key) for key in ("message", "type", "code", "param"))
    message = message if isinstance(message, str) else orjson.dumps(message).decode()
    if not isinstance(code, str) or code.isdecimal():
        known = (name for pattern, name in _CODES if pattern.search(message))
        code = next(known, phrase_code(status))
    if not isinstance(type_, str) or not _TYPE.fullmatch(type_):
        type_ = _type_of(status)
    return _error(message, type_, code, param if isinstance(param, str) else None)


def _type_of(status: int) -> str:
    if status == 429:
        return "rate_limit_error"
    return "invalid_request_error" if status < 500 else "server_error"


def _error(message: str, type_: str, code: str, param: str | None) -> dict[str, str | None]:
    return {"message": message, "type": type_, "param": param, "code": code}
