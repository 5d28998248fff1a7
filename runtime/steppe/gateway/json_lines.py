"""Log lines as JSON, with the id of the request that they belong to."""

from __future__ import annotations

import logging
from contextvars import ContextVar

import orjson

from steppe.gateway.ended_requests import iso

REQUEST_OF_LOGS: ContextVar[str] = ContextVar("request of logs", default="")
"""Id of the request that the present task serves; empty outside of one."""


class JsonFormatter(logging.Formatter):
    """Writes a record as one JSON object: `time`, `level`, `logger`, `message`, `request_id`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line = {
            "time": iso(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if request_id := REQUEST_OF_LOGS.get():
            line["request_id"] = request_id
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return orjson.dumps(line).decode()
