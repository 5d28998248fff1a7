"""Errors in OpenAI's shape."""

from __future__ import annotations

import logging

import orjson
from aiohttp import web
from aiohttp.typedefs import Handler

from steppe.errors import DiskFullError, SteppeError, UsageError

_log = logging.getLogger(__name__)
_RETRY_AFTER_S = 10


class ApiError(SteppeError):
    """A call that is refused.

    Attributes:
        status: HTTP status.
        code: The exact reason, for programs.
        param: The field that is at fault, if one is.
    """

    def __init__(self, status: int, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.param = status, code, param

    def body(self) -> bytes:
        """Return the error as JSON."""
        types = {429: "rate_limit_error", 503: "overloaded", 500: "server_error"}
        error = {
            "message": str(self),
            "type": types.get(self.status, "invalid_request_error"),
            "param": self.param,
            "code": self.code,
        }
        return orjson.dumps({"error": error})

    def answer(self) -> web.Response:
        """Return the answer."""
        answer = web.Response(
            status=self.status, body=self.body(), content_type="application/json", charset="utf-8"
        )
        if self.status in (429, 503):
            answer.headers["Retry-After"] = str(_RETRY_AFTER_S)
        return answer


def invalid(message: str, param: str, code: str = "invalid_value") -> ApiError:
    """Return the error of a field that is not as it should be."""
    return ApiError(400, code, message, param)


def not_found(what: str, id_: str) -> ApiError:
    """Return the error of an id that the tenant does not have."""
    message = f"asked for {what} {id_:.80}, found none of this id"
    return ApiError(404, f"{what}_not_found", message, "id")


@web.middleware
async def answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer errors in OpenAI's shape."""
    try:
        return await handler(request)
    except ApiError as error:
        return error.answer()
    except web.HTTPException as error:
        found = f"{request.method} {request.path}: {error.text or error.reason}"
        code = (error.reason or "error").lower().replace(" ", "_")
        answer = ApiError(error.status, code, found).answer()
        if "Allow" in error.headers:
            answer.headers["Allow"] = error.headers["Allow"]
        return answer
    except ConnectionError:  # the gateway's client is gone
        raise
    except DiskFullError as error:
        _log.error("%s", error)
        return ApiError(503, "disk_full", str(error)).answer()
    except (UsageError, OSError) as error:
        _log.error("%s %s: %s", request.method, request.path, error)
        text = "the store of the service does not answer; the log of the service says why"
        return ApiError(503, "store_unavailable", text).answer()
