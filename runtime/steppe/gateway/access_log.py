"""The access log: one line for each request over HTTP, without keys, headers and bodies."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from logging.handlers import WatchedFileHandler
from pathlib import Path
from typing import Any, Literal

import orjson
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from steppe.errors import UsageError
from steppe.gateway.access import CALLER, NOBODY
from steppe.gateway.ended_requests import iso
from steppe.gateway.json_lines import REQUEST_OF_LOGS, JsonFormatter
from steppe.gateway.request import FinishedRequest

AccessLogFormat = Literal["none", "text", "json"]

FINISHED: web.RequestKey[FinishedRequest] = web.RequestKey("finished", FinishedRequest)
"""What happened to a request that generates, for the access log."""
_DISCONNECTED = 499


@dataclass(frozen=True, slots=True)
class AccessLogSettings:
    """Which access log to write.

    Attributes:
        format: `none`, `text` or `json`.
        file: The file, which another program may move away; None for standard error.
    """

    format: AccessLogFormat = "none"
    file: Path | None = None


NO_ACCESS_LOG = AccessLogSettings()


class AccessLog:
    """Writes a line when a request has been answered."""

    def __init__(self, settings: AccessLogSettings) -> None:
        """Open the log.

        Raises:
            UsageError: The file cannot be written.
        """
        self._as_json = settings.format == "json"
        self._handler = _handler(settings.file) if settings.format != "none" else None
        if self._handler is not None and self._as_json:
            _show_logs_as_json()

    def install(self, application: web.Application) -> None:
        """Log every request of an application."""
        if self._handler is not None:
            application.middlewares.insert(0, self._middleware())

    def close(self) -> None:
        """Close the file."""
        if self._handler is not None:
            self._handler.close()

    def _middleware(self) -> Middleware:
        @web.middleware
        async def log(request: web.Request, handler: Handler) -> web.StreamResponse:
            began_s = time.monotonic()
            REQUEST_OF_LOGS.set(request.headers.get("X-Request-Id", "")[:128])
            try:
                response = await handler(request)
            except asyncio.CancelledError:
                self._write(_values(request, _DISCONNECTED, "", began_s))
                raise
            except Exception:
                self._write(_values(request, 500, "", began_s))
                raise
            id_ = response.headers.get("X-Request-Id", "")
            self._write(_values(request, response.status, id_, began_s))
            return response

        return log

    def _write(self, values: Mapping[str, Any]) -> None:
        assert self._handler is not None, "there is a log"
        line = orjson.dumps(values).decode() if self._as_json else _text(values)
        record = logging.LogRecord("steppe.access", logging.INFO, "", 0, line, None, None)
        self._handler.handle(record)


def _values(request: web.Request, status: int, id_: str, began_s: float) -> dict[str, Any]:
    """Return what a line says; what is not known is left out."""
    caller, finished = request.get(CALLER, NOBODY), request.get(FINISHED)
    values = {
        "time": iso(time.time()),
        "remote": request.remote,
        "tenant": caller.tenant.name,
        "method": request.method,
        "path": request.path,
        "status": status if finished is None else finished.status,
        "duration_s": round(time.monotonic() - began_s, 6),
        "request_id": id_ or None,
    }
    if finished is not None:
        values |= {
            "request_id": finished.id,
            "tenant": finished.tenant,
            "model": finished.adapter or finished.model,
            "asked_model": finished.asked_model or None,
            "replica": finished.replica,
            "site": finished.site or None,
            "finish": finished.finish,
            "wait_s": _rounded(finished.wait_s),
            "ttft_s": _rounded(finished.ttft_s),
            "prompt_tokens": finished.prompt_tokens,
            "output_tokens": finished.output_tokens,
        }
    return {name: value for name, value in values.items() if value is not None}


def _text(values: Mapping[str, Any]) -> str:
    """Return a line for people: what all have, then the rest as `name=value`."""
    head = ("time", "remote", "tenant", "method", "path", "status", "duration_s")
    rest = " ".join(f"{name}={value}" for name, value in values.items() if name not in head)
    named = {name: _printable(values.get(name, "-")) for name in head}
    line = '{time} {remote} {tenant} "{method} {path}" {status} {duration_s:.3f}s'
    return f"{line.format(**named | {'duration_s': values['duration_s']})} {rest}".rstrip()


def _printable(value: Any) -> str:
    """Return a value in one line: a path may hold any character."""
    return "".join(c if c.isprintable() and c != '"' else "?" for c in str(value))


def _rounded(time_s: float | None) -> float | None:
    return None if time_s is None else round(time_s, 6)


def _handler(file: Path | None) -> logging.Handler:
    if file is None:
        return logging.StreamHandler(sys.stderr)
    try:
        return WatchedFileHandler(file)
    except OSError as error:
        raise UsageError(
            f"gateway.access_log_file: {file} cannot be written: {error.strerror}"
        ) from error


def _show_logs_as_json() -> None:
    """Write the other log lines of the gateway as JSON, too."""
    logger = logging.getLogger("steppe.gateway")
    if not any(isinstance(h.formatter, JsonFormatter) for h in logger.handlers):
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(JsonFormatter())
        logger.addHandler(handler)
        logger.propagate = False
