"""OpenAI's error shape, as a body and as a server-sent event."""

from __future__ import annotations

import orjson


def error_body(message: str, *, type_: str, code: str, param: str | None = None) -> bytes:
    """Return `{"error": {message, type, param, code}}` as JSON.

    Args:
        message: What was asked and what was found, for people.
        type_: The class of the error, such as `overloaded` or `invalid_request_error`.
        code: The exact reason, for programs.
        param: The header or field that is at fault, if one is.
    """
    error = {"message": message, "type": type_, "param": param, "code": code}
    return orjson.dumps({"error": error})


def error_event(message: str, *, type_: str, code: str) -> bytes:
    """Return the event that ends a broken stream; no `[DONE]` follows it."""
    return b"data: " + error_body(message, type_=type_, code=code) + b"\n\n"
