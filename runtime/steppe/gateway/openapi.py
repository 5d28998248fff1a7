"""The OpenAPI document of Steppe's own API, `/steppe/v1`."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from steppe.config.change import CHANGEABLE, MODELS, SECTIONS, PoolLimits
from steppe.config.section import Section
from steppe.control.batch_work import PaceReason, When
from steppe.gateway.answers import json_answer
from steppe.gateway.work_api import LEAST_TTL_S, MOST_COUNT, MOST_TTL_S

Json = dict[str, Any]

_TEXT: Json = {"type": "string"}
_NUMBER: Json = {"type": "number"}
_COUNT: Json = {"type": "integer", "minimum": 0}
_COUNT_53: Json = {"type": "integer", "minimum": 0, "maximum": MOST_COUNT}
_FLAG: Json = {"type": "boolean"}


def _nullable(schema: Json) -> Json:
    return {"anyOf": [schema, {"type": "null"}]}


def _object(required: Json, optional: Json | None = None) -> Json:
    """Return the schema of an object; it may have further values."""
    return {
        "type": "object",
        "properties": required | (optional or {}),
        "required": list(required),
    }


def _list(item: Json) -> Json:
    return {"type": "array", "items": item}


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


_ENERGY = _object({"joules": _NUMBER, "source": _TEXT, "boundary": _TEXT, "final": _FLAG})
_REQUEST = _object(
    {
        "id": _TEXT,
        "object": {"const": "steppe.request"},
        "model": _TEXT,
        "asked_model": _TEXT,
        "tenant": _TEXT,
        "priority": _TEXT,
        "arrived_at": {"type": "string", "format": "date-time"},
        "status": {"type": "integer"},
        "finish": _TEXT,
        "replica": _nullable(_TEXT),
        "ttft_s": _nullable(_NUMBER),
        "e2e_s": _NUMBER,
        "usage": _object(
            {
                "prompt_tokens": _nullable(_COUNT),
                "cached_tokens": _nullable(_COUNT),
                "completion_tokens": _nullable(_COUNT),
                "energy": _nullable(_ENERGY),
            }
        ),
    }
)
_USAGE_ROW = _object(
    {
        "tenant": _TEXT,
        "model": _TEXT,
        "hour": {"type": "string", "format": "date-time"},
        "requests": _COUNT,
        "completed": _COUNT,
        "prompt_tokens": _COUNT,
        "cached_tokens": _COUNT,
        "output_tokens": _COUNT,
        "energy_j": _NUMBER,
        "source": _TEXT,
        "boundary": _TEXT,
    }
)
_MODEL_STATE = _object(
    {
        "awake": _COUNT,
        "waiting": _COUNT,
        "deferrable_waiting": _COUNT,
        "outstanding": _COUNT,
        "serves_in_s": _nullable(_NUMBER),
        "joules_per_token": _nullable(_NUMBER),
    },
    {
        "state": _TEXT,
        "replicas": _COUNT,
        "output_tps": _NUMBER,
        "most_output_tps": _NUMBER,
        "headroom_tps": _NUMBER,
        "draw_w": _NUMBER,
    },
)
_SOURCE = _object(
    {
        "kind": {"enum": ["supply", "limit"]},
        "name": _TEXT,
        "state": {"enum": ["fresh", "stale", "missing"]},
        "watts": _nullable(_NUMBER),
        "age_s": _nullable(_NUMBER),
        "reason": _TEXT,
    }
)
_STATUS = _object(
    {
        "object": {"const": "steppe.status"},
        "controller": _object({"age_s": _nullable(_NUMBER), "stale": _FLAG}),
        "request_energy_j": {"type": "object", "additionalProperties": _NUMBER},
        "models": {"type": "object", "additionalProperties": _MODEL_STATE},
    },
    {
        "at": _NUMBER,
        "t_s": _NUMBER,
        "power": _object(
            {
                "budget_w": _NUMBER,
                "budget_source": _TEXT,
                "draw_w": _NUMBER,
                "headroom_w": _NUMBER,
                "supply_w": _NUMBER,
                "stale": _FLAG,
                "energy_source": _TEXT,
                "boundary": _TEXT,
            }
        ),
        "plan": _list(_object({"replica": _TEXT, "state": _TEXT, "clock_mhz": _COUNT})),
        "shortages": _list(_object({"of": _TEXT, "short_w": _NUMBER, "begins_in_s": _NUMBER})),
        "forecast": _list(_object({"in_s": _NUMBER, "budget_w": _NUMBER})),
        "sources": _list(_SOURCE),
    },
)
_WORK = _object(
    {"rows": _COUNT_53, "prompt_tokens": _COUNT_53, "output_tokens": _COUNT_53},
    {
        "model": _nullable(_TEXT),
        "deadline": _nullable({"type": "string", "format": "date-time"}),
        "when": {"enum": [when.value for when in When]},
        "ttl_s": {"type": "number", "minimum": LEAST_TTL_S, "maximum": MOST_TTL_S},
    },
)
_PACE = _object(
    {
        "object": {"const": "steppe.work"},
        "id": _TEXT,
        "outstanding": _COUNT,
        "tokens_per_s": _nullable(_NUMBER),
        "reason": {"enum": [reason.value for reason in PaceReason]},
        "valid_s": _NUMBER,
        "expected_finish": _nullable({"type": "string", "format": "date-time"}),
        "sure": _nullable({"type": "number", "minimum": 0, "maximum": 1}),
    }
)
_ERROR = _object(
    {"error": _object({"message": _TEXT, "type": _TEXT, "code": _TEXT, "param": _nullable(_TEXT)})}
)
_CHANGE = _object(
    {
        "object": {"const": "steppe.config_change"},
        "section": _TEXT,
        "applied": _FLAG,
        "t_s": _nullable(_NUMBER),
    }
)


def document() -> Json:
    """Return the OpenAPI document."""
    schemas = {
        "Error": _ERROR,
        "Request": _REQUEST,
        "UsageRow": _USAGE_ROW,
        "Status": _STATUS,
        "ConfigChange": _CHANGE,
        "Work": _WORK,
        "Pace": _PACE,
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Steppe",
            "version": "1",
            "description": "Energy, usage, state, batch work and configuration of a run.",
        },
        "paths": _read_paths() | _work_paths() | _config_paths(),
        "components": {
            "schemas": schemas | _section_schemas(),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "adminKey": {"type": "apiKey", "in": "header", "name": "X-Steppe-Admin-Key"},
            },
        },
    }


class OpenApi:
    """Serves the document."""

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Add the route."""
        router.add_get("/steppe/v1/openapi.json", self.show)

    async def show(self, _request: web.Request) -> web.Response:
        """Return the document."""
        return json_answer(document())


def _section_schemas() -> Json:
    """Return the schemas of the sections that can change, and of what is in them."""
    schemas: Json = {}
    sections: dict[str, type[Section]] = {**CHANGEABLE, "PoolLimits": PoolLimits}
    for name, section in sections.items():
        schema = section.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas |= schema.pop("$defs", {})
        schemas[name] = schema
    schemas[MODELS] = {"type": "object", "additionalProperties": _ref("PoolLimits")}
    return schemas


def _read_paths() -> Json:
    usage_query = [
        _parameter("tenant", "query", _TEXT),
        _parameter("model", "query", _TEXT),
        _parameter("since", "query", {"type": "string", "format": "date-time"}),
    ]
    usage = _object({"object": {"const": "list"}, "data": _list(_ref("UsageRow"))})
    id_ = _parameter("id", "path", _TEXT)
    return {
        "/steppe/v1/status": {"get": _operation("status", _ref("Status"))},
        "/steppe/v1/usage": {"get": _operation("usage", usage, usage_query, errors=(400, 403))},
        "/steppe/v1/requests/{id}": {
            "get": _operation("request", _ref("Request"), [id_], errors=(404,))
        },
        "/steppe/v1/openapi.json": {"get": _operation("openapi", _object({"openapi": _TEXT}))},
    }


def _work_paths() -> Json:
    id_ = _parameter("id", "path", {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,128}$"})
    put = _operation("put_work", _ref("Pace"), [id_], errors=(400, 403, 404, 429))
    put["requestBody"] = {
        "required": True,
        "content": {"application/json": {"schema": _ref("Work")}},
    }
    deleted = _object({"object": _TEXT, "id": _TEXT, "deleted": _FLAG})
    delete = _operation("delete_work", deleted, [id_], errors=(404,))
    return {"/steppe/v1/work/{id}": {"put": put, "delete": delete}}


def _config_paths() -> Json:
    whole = _object({"object": _TEXT, "version": _COUNT} | {name: _ref(name) for name in SECTIONS})
    paths = {"/steppe/v1/config": {"get": _operation("config", whole, errors=(403, 404))}}
    for name in SECTIONS:
        get = _operation(f"get_{name}", _ref(name), errors=(403, 404))
        put = _changing(f"put_{name}", _ref(name))
        patch = _changing(f"patch_{name}", {"type": "object"})
        paths[f"/steppe/v1/config/{name}"] = {"get": get, "put": put, "patch": patch}
    return paths


def _changing(name: str, body: Json) -> Json:
    operation = _operation(name, _ref("ConfigChange"), errors=(400, 403, 404))
    operation["responses"]["202"] = _answer("The change is under way.", _ref("ConfigChange"))
    content = {"application/json": {"schema": body}}
    return operation | {"requestBody": {"required": True, "content": content}}


def _operation(
    name: str, answer: Json, parameters: list[Json] | None = None, errors: tuple[int, ...] = ()
) -> Json:
    refused = {str(status): _answer("An error.", _ref("Error")) for status in (401, *errors)}
    return {
        "operationId": name,
        "parameters": parameters or [],
        "responses": {"200": _answer("The answer.", answer)} | refused,
        "security": [{}, {"bearer": []}, {"adminKey": []}],
    }


def _answer(description: str, schema: Json) -> Json:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _parameter(name: str, place: str, schema: Json) -> Json:
    return {"name": name, "in": place, "required": place == "path", "schema": schema}
