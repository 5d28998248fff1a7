"""The part of the OpenAPI document with files and batches."""

from __future__ import annotations

from steppe.gateway.openapi_schemas import (
    COUNT,
    FLAG,
    NUMBER,
    TEXT,
    Json,
    answer,
    list_of,
    nullable,
    object_of,
    operation,
    parameter,
    ref,
)

STATES = (
    "validating",
    "failed",
    "in_progress",
    "finalizing",
    "completed",
    "expired",
    "cancelling",
    "cancelled",
)
ENDPOINTS = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings")
_TIMES = (
    "in_progress_at",
    "expires_at",
    "finalizing_at",
    "completed_at",
    "failed_at",
    "expired_at",
    "cancelling_at",
    "cancelled_at",
)
_AWAY = (404, 503)
"""Statuses of every call: no Batch API is configured, its service starts."""
_CHANGE = (400, 429, *_AWAY)
_EXPIRY = object_of(
    {
        "anchor": {"const": "created_at"},
        "seconds": {"type": "integer", "minimum": 3600, "maximum": 2_592_000},
    }
)
_METADATA: Json = {
    "type": "object",
    "maxProperties": 16,
    "propertyNames": {"maxLength": 64},
    "additionalProperties": {"type": "string", "maxLength": 512},
}


def batch_schemas() -> Json:
    """Return the schemas of files and batches, by name."""
    file = {
        "id": TEXT,
        "object": {"const": "file"},
        "bytes": COUNT,
        "created_at": COUNT,
        "expires_at": nullable(COUNT),
        "filename": TEXT,
        "purpose": {"enum": ["batch", "batch_output"]},
        "status": {"enum": ["uploaded", "processed", "error"]},
    }
    new = {
        "input_file_id": TEXT,
        "endpoint": {"enum": list(ENDPOINTS)},
        "completion_window": {"type": "string", "pattern": "^[1-9][0-9]{0,5}[mhd]$"},
    }
    options = {
        "metadata": nullable(_METADATA),
        "output_expires_after": nullable(_EXPIRY),
        "when": {"enum": ["now", "deadline", "surplus"]},
    }
    return {
        "File": object_of(file),
        "NewBatch": object_of(new, options) | {"additionalProperties": False},
        "Batch": _batch(),
    }


def batch_paths() -> Json:
    """Return the paths of files and batches."""
    page = [
        parameter("after", "query", TEXT),
        parameter("limit", "query", {"type": "integer", "minimum": 1, "maximum": 100}),
    ]
    id_ = parameter("id", "path", TEXT)
    report = operation("batch_report", {"type": "object"}, [id_, _format()], (400, *_AWAY))
    report["responses"]["200"]["content"]["text/html"] = {"schema": TEXT}
    create = operation("create_batch", ref("Batch"), errors=(*_CHANGE, 413))
    create["requestBody"] = _body("application/json", ref("NewBatch"))
    cancel = operation("cancel_batch", ref("Batch"), [id_], (*_CHANGE, 409, 413))
    return _file_paths(id_) | {
        "/v1/batches": {
            "post": create,
            "get": operation("batches", _page_of("Batch"), page, (400, *_AWAY)),
        },
        "/v1/batches/{id}": {"get": operation("batch", ref("Batch"), [id_], _AWAY)},
        "/v1/batches/{id}/cancel": {"post": cancel},
        "/steppe/v1/batches/{id}/report": {"get": report},
    }


def _file_paths(id_: Json) -> Json:
    page = [
        parameter("after", "query", TEXT),
        parameter("limit", "query", {"type": "integer", "minimum": 1, "maximum": 10_000}),
        parameter("order", "query", {"enum": ["asc", "desc"]}),
        parameter("purpose", "query", TEXT),
    ]
    form = object_of({"purpose": {"const": "batch"}, "file": TEXT | {"format": "binary"}})
    upload = operation("create_file", ref("File"), errors=(*_CHANGE, 408, 413))
    upload["requestBody"] = _body("multipart/form-data", form)
    content = operation("file_content", {}, [id_], _AWAY)
    content["responses"]["200"] = answer("The content.", TEXT, "application/jsonl")
    deleted = object_of({"id": TEXT, "object": {"const": "file"}, "deleted": FLAG})
    return {
        "/v1/files": {
            "post": upload,
            "get": operation("files", _page_of("File"), page, (400, *_AWAY)),
        },
        "/v1/files/{id}": {
            "get": operation("file", ref("File"), [id_], _AWAY),
            "delete": operation("delete_file", deleted, [id_], (409, *_AWAY)),
        },
        "/v1/files/{id}/content": {"get": content},
    }


def _batch() -> Json:
    tokens = {
        "input_tokens": COUNT,
        "input_tokens_details": object_of({"cached_tokens": COUNT}),
        "output_tokens": COUNT,
        "output_tokens_details": object_of({"reasoning_tokens": COUNT}),
        "total_tokens": COUNT,
    }
    error = object_of({"code": TEXT, "message": TEXT, "line": nullable(COUNT)})
    errors = object_of({"object": {"const": "list"}, "data": list_of(error)})
    return object_of(
        {
            "id": TEXT,
            "object": {"const": "batch"},
            "endpoint": {"enum": list(ENDPOINTS)},
            "model": nullable(TEXT),
            "errors": nullable(errors),
            "input_file_id": TEXT,
            "completion_window": TEXT,
            "status": {"enum": list(STATES)},
            "output_file_id": nullable(TEXT),
            "error_file_id": nullable(TEXT),
            "created_at": COUNT,
            **{name: nullable(COUNT) for name in _TIMES},
            "request_counts": object_of({"total": COUNT, "completed": COUNT, "failed": COUNT}),
            "usage": object_of(tokens),
            "metadata": nullable(_METADATA),
            "when": {"enum": ["now", "deadline", "surplus"]},
            "waits_for": nullable(TEXT),
            "energy": object_of({"joules": NUMBER, "wasted_joules": NUMBER}),
        }
    )


def _format() -> Json:
    return parameter("format", "query", {"enum": ["json", "html"]})


def _page_of(name: str) -> Json:
    ids = {"first_id": nullable(TEXT), "last_id": nullable(TEXT), "has_more": FLAG}
    return object_of({"object": {"const": "list"}, "data": list_of(ref(name))} | ids)


def _body(type_: str, schema: Json) -> Json:
    return {"required": True, "content": {type_: {"schema": schema}}}
