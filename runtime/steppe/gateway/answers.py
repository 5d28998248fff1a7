"""Answers that the gateway makes itself: JSON values, and errors in OpenAI's shape."""

from __future__ import annotations

from typing import Any

import orjson
from aiohttp import web

from steppe.gateway.openai_error import error_body


def json_answer(value: Any, status: int = 200) -> web.Response:
    """Return a value as JSON."""
    return web.Response(status=status, body=orjson.dumps(value), content_type="application/json")


def error_answer(
    status: int, message: str, *, type_: str, code: str, param: str | None = None
) -> web.Response:
    """Return an error, see `openai_error.error_body` for its parts."""
    body = error_body(message, type_=type_, code=code, param=param)
    return web.Response(status=status, body=body, content_type="application/json")
