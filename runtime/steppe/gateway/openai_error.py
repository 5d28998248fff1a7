"""OpenAI's error shape, as a body and as a server-sent event."""

from __future__ import annotations

from http.client import responses

import orjson


def error_body(message: str, *, type_: str, code: str, param: str | None = None) -> bytes:
    """Return `{"error": {message, type, param, code}}` as JSON.

    Args:
        message: What was asked and what was found, for people.
        type_: The class of the error, such as `overloaded` or `invalid_request_error`.
        code: The exact reason, for programs.
        param: The header or field that is at fault, if one is.
    """
    return orjson.dumps({"error": _error(message, type_, code, param)})


def in_openai_shape(status: int, body: bytes) -> bytes:
    """Return the body of an answer with an error status: its own if it has the shape already.

    FastAPI, which vLLM is made of, answers `{"detail": ...}` where there is no route.
    """
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        found = body.decode(errors="replace")
    match found:
        case {"error": _}:
            return body
        case {"detail": str(message)} | str(message):
            pass
        case _:
            message = body.decode(errors="replace")
    type_ = "invalid_request_error" if status < 500 else "server_error"
    code = responses.get(status, "error").lower().replace(" ", "_")
    return error_body(message, type_=type_, code=code)


def error_event(message: str, *, type_: str, code: str) -> bytes:
    """Return the event that ends a broken stream; no `[DONE]` follows it.

    Clients of the chat and the responses API look for the `error` in it, those of the messages API
    for its name.
    """
    body = {"type": "error", "error": _error(message, type_, code, None)}
    return b"event: error\ndata: " + orjson.dumps(body) + b"\n\n"


def _error(message: str, type_: str, code: str, param: str | None) -> dict[str, str | None]:
    return {"message": message, "type": type_, "param": param, "code": code}
