"""The OpenAPI document of Steppe's own API, `/steppe/v1`, and of the Batch API."""

from __future__ import annotations

from aiohttp import web

from steppe.config.change import CHANGEABLE, MODELS, SECTIONS, PoolLimits
from steppe.config.section import Section
from steppe.control.batch_work import PaceReason, When
from steppe.gateway.answers import json_answer
from steppe.gateway.openapi_batch import batch_paths, batch_schemas
from steppe.gateway.openapi_grid import grid_paths, grid_schemas
from steppe.gateway.openapi_ledger import ledger_paths, ledger_schemas
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
from steppe.gateway.openapi_sites import sites_paths, sites_schemas
from steppe.gateway.work_api import LEAST_TTL_S, MOST_COUNT, MOST_TTL_S

_COUNT_53: Json = {"type": "integer", "minimum": 0, "maximum": MOST_COUNT}

_ENERGY = object_of({"joules": NUMBER, "source": TEXT, "boundary": TEXT, "final": FLAG})
_REQUEST = object_of(
    {
        "id": TEXT,
        "object": {"const": "steppe.request"},
        "model": TEXT,
        "asked_model": TEXT,
        "tenant": TEXT,
        "priority": TEXT,
        "arrived_at": {"type": "string", "format": "date-time"},
        "status": {"type": "integer"},
        "finish": TEXT,
        "replica": nullable(TEXT),
        "site": TEXT,
        "ttft_s": nullable(NUMBER),
        "e2e_s": NUMBER,
        "usage": object_of(
            {
                "prompt_tokens": nullable(COUNT),
                "cached_tokens": nullable(COUNT),
                "completion_tokens": nullable(COUNT),
                "energy": nullable(_ENERGY),
            }
        ),
    }
)
_USAGE_ROW = object_of(
    {
        "tenant": TEXT,
        "model": TEXT,
        "hour": {"type": "string", "format": "date-time"},
        "requests": COUNT,
        "completed": COUNT,
        "prompt_tokens": COUNT,
        "cached_tokens": COUNT,
        "output_tokens": COUNT,
        "energy_j": NUMBER,
        "source": TEXT,
        "boundary": TEXT,
    }
)
_MODEL_STATE = object_of(
    {
        "awake": COUNT,
        "waiting": COUNT,
        "deferrable_waiting": COUNT,
        "outstanding": COUNT,
        "serves_in_s": nullable(NUMBER),
        "joules_per_token": nullable(NUMBER),
    },
    {
        "state": TEXT,
        "replicas": COUNT,
        "output_tps": NUMBER,
        "most_output_tps": NUMBER,
        "headroom_tps": NUMBER,
        "draw_w": NUMBER,
    },
)
_SOURCE = object_of(
    {
        "kind": {"enum": ["supply", "limit"]},
        "name": TEXT,
        "state": {"enum": ["fresh", "stale", "missing"]},
        "watts": nullable(NUMBER),
        "age_s": nullable(NUMBER),
        "reason": TEXT,
    }
)
_GRID_STATE = object_of(
    {
        "limit": nullable(TEXT),
        "limit_w": nullable(NUMBER),
        "lost": list_of(TEXT),
        "events": list_of(
            object_of(
                {
                    "id": TEXT,
                    "link": TEXT,
                    "starts_s": NUMBER,
                    "hold_until_s": NUMBER,
                    "ends_s": NUMBER,
                    "baseline_w": NUMBER,
                    "target_w": nullable(NUMBER),
                    "delivered_w": nullable(NUMBER),
                    "can_comply": FLAG,
                    "reason": TEXT,
                }
            )
        ),
    }
)
_STATUS = object_of(
    {
        "object": {"const": "steppe.status"},
        "controller": object_of({"age_s": nullable(NUMBER), "stale": FLAG}),
        "request_energy_j": {"type": "object", "additionalProperties": NUMBER},
        "models": {"type": "object", "additionalProperties": _MODEL_STATE},
    },
    {
        "at": NUMBER,
        "t_s": NUMBER,
        "power": object_of(
            {
                "budget_w": NUMBER,
                "budget_source": TEXT,
                "draw_w": NUMBER,
                "headroom_w": NUMBER,
                "supply_w": NUMBER,
                "stale": FLAG,
                "energy_source": TEXT,
                "boundary": TEXT,
            }
        ),
        "plan": list_of(object_of({"replica": TEXT, "state": TEXT, "clock_mhz": COUNT})),
        "shortages": list_of(object_of({"of": TEXT, "short_w": NUMBER, "begins_in_s": NUMBER})),
        "forecast": list_of(object_of({"in_s": NUMBER, "budget_w": NUMBER})),
        "sources": list_of(_SOURCE),
        "grid": nullable(_GRID_STATE),
    },
)
_WORK = object_of(
    {"rows": _COUNT_53, "prompt_tokens": _COUNT_53, "output_tokens": _COUNT_53},
    {
        "model": nullable(TEXT),
        "deadline": nullable({"type": "string", "format": "date-time"}),
        "when": {"enum": [when.value for when in When]},
        "ttl_s": {"type": "number", "minimum": LEAST_TTL_S, "maximum": MOST_TTL_S},
    },
)
_PACE = object_of(
    {
        "object": {"const": "steppe.work"},
        "id": TEXT,
        "outstanding": COUNT,
        "tokens_per_s": nullable(NUMBER),
        "reason": {"enum": [reason.value for reason in PaceReason]},
        "valid_s": NUMBER,
        "expected_finish": nullable({"type": "string", "format": "date-time"}),
        "sure": nullable({"type": "number", "minimum": 0, "maximum": 1}),
    }
)
_ERROR = object_of(
    {"error": object_of({"message": TEXT, "type": TEXT, "code": TEXT, "param": nullable(TEXT)})}
)
_CHANGE = object_of(
    {
        "object": {"const": "steppe.config_change"},
        "section": TEXT,
        "applied": FLAG,
        "t_s": nullable(NUMBER),
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
            "description": "Energy, usage, receipts, state, batches and configuration of a run.",
        },
        "paths": _paths(),
        "components": {
            "schemas": schemas
            | batch_schemas()
            | ledger_schemas()
            | grid_schemas()
            | sites_schemas()
            | _section_schemas(),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "adminKey": {"type": "apiKey", "in": "header", "name": "X-Steppe-Admin-Key"},
            },
        },
    }


def _paths() -> Json:
    own = _read_paths() | _work_paths() | _config_paths()
    return own | batch_paths() | ledger_paths() | grid_paths() | sites_paths()


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
    schemas[MODELS] = {"type": "object", "additionalProperties": ref("PoolLimits")}
    return schemas


def _read_paths() -> Json:
    usage_query = [
        parameter("tenant", "query", TEXT),
        parameter("model", "query", TEXT),
        parameter("since", "query", {"type": "string", "format": "date-time"}),
    ]
    usage = object_of({"object": {"const": "list"}, "data": list_of(ref("UsageRow"))})
    id_ = parameter("id", "path", TEXT)
    return {
        "/steppe/v1/status": {"get": operation("status", ref("Status"))},
        "/steppe/v1/usage": {"get": operation("usage", usage, usage_query, errors=(400, 403))},
        "/steppe/v1/requests/{id}": {
            "get": operation("request", ref("Request"), [id_], errors=(404,))
        },
        "/steppe/v1/openapi.json": {"get": operation("openapi", object_of({"openapi": TEXT}))},
    }


def _work_paths() -> Json:
    id_ = parameter("id", "path", {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,128}$"})
    put = operation("put_work", ref("Pace"), [id_], errors=(400, 403, 404, 429))
    put["requestBody"] = {
        "required": True,
        "content": {"application/json": {"schema": ref("Work")}},
    }
    deleted = object_of({"object": TEXT, "id": TEXT, "deleted": FLAG})
    delete = operation("delete_work", deleted, [id_], errors=(404,))
    return {"/steppe/v1/work/{id}": {"put": put, "delete": delete}}


def _config_paths() -> Json:
    whole = object_of({"object": TEXT, "version": COUNT} | {name: ref(name) for name in SECTIONS})
    paths = {"/steppe/v1/config": {"get": operation("config", whole, errors=(403, 404))}}
    for name in SECTIONS:
        get = operation(f"get_{name}", ref(name), errors=(403, 404))
        put = _changing(f"put_{name}", ref(name))
        patch = _changing(f"patch_{name}", {"type": "object"})
        paths[f"/steppe/v1/config/{name}"] = {"get": get, "put": put, "patch": patch}
    return paths


def _changing(name: str, body: Json) -> Json:
    change = operation(name, ref("ConfigChange"), errors=(400, 403, 404))
    change["responses"]["202"] = answer("The change is under way.", ref("ConfigChange"))
    content = {"application/json": {"schema": body}}
    return change | {"requestBody": {"required": True, "content": content}}
