"""One line of an output or error file, as OpenAI's Batch API writes it."""

from __future__ import annotations

import hashlib
from typing import Any

import orjson

from steppe.batch.row import RowResult


def output_line(result: RowResult, job_id: str) -> bytes:
    """Return the line of a result, with its end; the same result gives the same bytes.

    A row that has an answer of status 400 or above has it in `response`, and no `error`; one
    without an answer has `error` with a code, and no `response`. `steppe` holds what it took.
    """
    error = None
    if result.error_code or result.error:
        error = {"code": result.error_code or "error", "message": result.error}
    document = {
        "id": _id(job_id, result.number),
        "custom_id": result.custom_id,
        "response": _response(result) if result.status else None,
        "error": error,
        "steppe": _took(result),
    }
    return orjson.dumps(document) + b"\n"


def _response(result: RowResult) -> dict[str, Any]:
    return {
        "status_code": result.status,
        "request_id": result.request_id,
        "body": _body(result.body),
    }


def _body(body: bytes) -> Any:
    """Return the answer as it came, if it is JSON; else as a text."""
    if not body:
        return None
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError:
        return body.decode(errors="replace")
    # Between the values of JSON a line feed is a space; within a text it is never bare.
    return orjson.Fragment(body.replace(b"\n", b" ").replace(b"\r", b" "))


def _took(result: RowResult) -> dict[str, Any]:
    return {
        "energy_j": result.energy_j,
        "wasted_j": result.wasted_j,
        "energy_source": result.energy_source,
        "boundary": result.boundary,
        "attempts": result.attempts,
        "replica": result.replica,
        "started_epoch_s": result.started_epoch_s,
        "ended_epoch_s": result.ended_epoch_s,
    }


def _id(job_id: str, number: int) -> str:
    digest = hashlib.blake2b(f"{job_id} {number}".encode(), digest_size=12)
    return f"batch_req_{digest.hexdigest()}"
