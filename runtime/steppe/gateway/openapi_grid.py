"""The part of the OpenAPI document with the budget, events and flexibility of the grid."""

from __future__ import annotations

from steppe.gateway.openapi_schemas import (
    COUNT,
    FLAG,
    NUMBER,
    TEXT,
    Json,
    list_of,
    nullable,
    object_of,
    operation,
    parameter,
    ref,
)

_MOST = 1e12
_WATTS: Json = {"type": "number", "minimum": 0, "maximum": _MOST}
_SPAN: Json = {"type": "number", "minimum": 0, "maximum": _MOST}
_SHARE: Json = {"type": "number", "minimum": 0, "maximum": 1}
_MOMENT: Json = {
    "anyOf": [
        {"type": "number", "minimum": 0, "maximum": _MOST},
        {"type": "string", "format": "date-time"},
    ]
}
_NAME: Json = {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,128}$"}
_READ, _CHANGE = (400, 404, 503), (400, 403, 404, 409, 413, 503)
"""Statuses of calls that read, and of those that change something: a bad value, no right, no grid
in the configuration or nothing of this id, a refusal with its reason, a body that is too large,
no answer of the service or the controller."""


def grid_schemas() -> Json:
    """Return the schemas of budget, events and flexibility, by name."""
    step = object_of({"from": _MOMENT, "limit_w": _WATTS}) | {"additionalProperties": False}
    limit = {"name": _NAME, "expires": _MOMENT, "issued": _MOMENT}
    steps = list_of(step) | {"minItems": 1, "maxItems": 3000}
    new_limit: Json = {
        "anyOf": [
            object_of({"limit_w": _WATTS}, limit) | {"additionalProperties": False},
            object_of({"schedule": steps}, limit) | {"additionalProperties": False},
        ]
    }
    return {
        "NewLimit": new_limit,
        "NewEvent": {"anyOf": [_new_event(name) for name in ("share", "limit_w")]},
        "Budget": _budget(),
        "GridEvent": _event(),
        "GridRecord": _record(),
        "EventReport": object_of(
            {"kind": {"const": "event_report"}, "v": {"const": 1}, "energy_source": TEXT}
        ),
        "Grid": _grid(),
        "Flexibility": object_of(
            {
                "object": {"const": "steppe.flexibility"},
                "at": NUMBER,
                "draw_w": nullable(NUMBER),
                "sources": list_of(object_of({"name": TEXT, "watts": NUMBER, "notice_s": NUMBER})),
            },
            {"site": TEXT, "energy_source": TEXT, "history": TEXT, "offers": list_of(_offer())},
        ),
        "Commitment": _commitment(),
        "NewCommitment": _new_commitment(),
    }


def grid_paths() -> Json:
    """Return the paths of budget, events and flexibility."""
    id_ = parameter("id", "path", _NAME)
    name = parameter("name", "query", _NAME)
    events = object_of({"object": {"const": "list"}, "data": list_of(ref("GridEvent"))})
    cancelled = object_of({"object": {"const": "steppe.grid_event"}, "id": TEXT, "cancelled": FLAG})
    commitments = object_of({"object": {"const": "list"}, "data": list_of(ref("Commitment"))})
    records = object_of({"object": {"const": "list"}, "data": list_of(ref("GridRecord"))})
    flexibility = operation("flexibility", ref("Flexibility"), errors=_READ)
    return {
        "/steppe/v1/budget": {
            "get": operation("budget", ref("Budget"), errors=_READ),
            "put": _put("put_budget", "Budget", "NewLimit", []),
            "delete": operation("lift_budget", ref("Budget"), [name], _CHANGE),
        },
        "/steppe/v1/grid": {"get": operation("grid", ref("Grid"), errors=_READ)},
        "/steppe/v1/grid/events": {"get": operation("grid_events", events, errors=_READ)},
        "/steppe/v1/grid/events/{id}": {
            "get": operation("grid_event", ref("GridEvent"), [id_], _READ),
            "put": _put("put_grid_event", "GridEvent", "NewEvent", [id_]),
            "delete": operation("cancel_grid_event", cancelled, [id_], _CHANGE),
        },
        "/steppe/v1/grid/commitments": {
            "get": operation("commitments", commitments, errors=_READ),
            "post": _post_commitment(),
        },
        "/steppe/v1/grid/events/{id}/report": {"get": _report(id_)},
        "/steppe/v1/grid/reports": {"get": operation("grid_reports", records, errors=_READ)},
        "/steppe/v1/flexibility": {"get": flexibility},
    }


def _report(id_: Json) -> Json:
    """Return the operation that answers the report of an event, as JSON or as a page."""
    as_page = parameter("format", "query", {"enum": ["html", "json"]})
    found = operation("grid_event_report", ref("EventReport"), [id_, as_page], _READ)
    found["responses"]["200"]["content"]["text/html"] = {"schema": TEXT}
    return found


def _put(name: str, found: str, body: str, parameters: list[Json]) -> Json:
    content = {"application/json": {"schema": ref(body)}}
    changing = operation(name, ref(found), parameters, _CHANGE)
    return changing | {"requestBody": {"required": True, "content": content}}


def _post_commitment() -> Json:
    content = {"application/json": {"schema": ref("NewCommitment")}}
    changing = operation("commit", ref("Commitment"), [], _CHANGE)
    made = {"201": changing["responses"]["200"] | {"description": "made"}}
    changing["responses"] = changing["responses"] | made
    return changing | {"requestBody": {"required": True, "content": content}}


def _offer() -> Json:
    step = object_of({"watts": COUNT, "price_per_mwh": NUMBER})
    numbers = ("price_per_mwh", "ramp_w_per_s", "tokens_per_j", "slo_tokens_per_j", "recovery_s")
    power = object_of(
        {
            "watts": COUNT,
            "free_w": COUNT,
            "reason": TEXT,
            "steps": list_of(step),
            "sure_w": {"type": "object"},
            "rebound": object_of({"energy_j": NUMBER, "within_s": NUMBER}),
        }
        | dict.fromkeys(numbers, NUMBER)
    )
    return object_of(
        {
            "object": {"const": "steppe.flex_offer"},
            "id": TEXT,
            "from": NUMBER,
            "until": NUMBER,
            "call": object_of({"notice_s": NUMBER, "hold_s": NUMBER, "confidence": NUMBER}),
            "down": power,
            "up": power,
            "broken": list_of(TEXT),
        }
    )


def _commitment() -> Json:
    counts = ("from", "until", "taken_until", "down_w", "up_w", "recovery_s")
    texts = ("id", "site", "programme", "offer")
    return object_of(
        {"object": {"const": "steppe.commitment"}}
        | dict.fromkeys(counts, COUNT)
        | dict.fromkeys(texts, TEXT)
    )


def _new_commitment() -> Json:
    name: Json = {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,60}$"}
    watts: Json = {"type": "integer", "minimum": 0, "maximum": 10**12}
    required = {"id": name, "programme": name, "from": _MOMENT, "until": _MOMENT}
    optional = {"down_w": watts, "up_w": watts, "hold_s": _SPAN, "notice_s": _SPAN}
    return object_of(required, optional) | {"additionalProperties": False}


def _new_event(target: str) -> Json:
    spans = dict.fromkeys(("notice_s", "ramp_down_s", "ramp_up_s", "settle_s"), _SPAN)
    required = {"hold_s": _SPAN, target: _SHARE if target == "share" else _WATTS}
    optional = {
        **spans,
        "priority": {"type": "integer", "minimum": 0, "maximum": 1000},
        "issued": _MOMENT,
    }
    return object_of(required, optional) | {"additionalProperties": False}


def _budget() -> Json:
    limit = {
        "link": TEXT,
        "name": TEXT,
        "issued": NUMBER,
        "schedule": list_of(object_of({"from": NUMBER, "limit_w": NUMBER})),
        "expires": nullable(NUMBER),
        "default_w": nullable(NUMBER),
    }
    found = {"object": {"const": "steppe.budget"}, "at": NUMBER}
    return object_of(found | _state() | {"limits": list_of(object_of(limit))})


def _event() -> Json:
    verdict = {
        "complies": FLAG,
        "needs_s": nullable(NUMBER),
        "reason": TEXT,
        "short_w": NUMBER,
    }
    texts = dict.fromkeys(("id", "link", "program", "kind"), TEXT)
    numbers = dict.fromkeys(
        ("issued", "starts", "holds", "hold_until", "ends", "baseline_w", "delivered_w"), NUMBER
    )
    return object_of(
        {
            "object": {"const": "steppe.grid_event"},
            "priority": COUNT,
            "target": nullable({"type": "object"}),
            "target_w": nullable(NUMBER),
            "verdict": object_of(verdict),
        }
        | texts
        | numbers
    )


def _record() -> Json:
    texts = ("name", "id", "link", "program", "kind", "state", "note", "energy_source", "verdict")
    numbers = ("accepted", "starts", "ends", "interval_s", "baseline_w")
    found = {"object": {"const": "steppe.grid_record"}, "cancelled": FLAG, "due": nullable(NUMBER)}
    return object_of(found | dict.fromkeys(texts, TEXT) | dict.fromkeys(numbers, NUMBER))


def _grid() -> Json:
    link = {
        "name": TEXT,
        "lost": nullable(FLAG),
        "default_w": nullable(NUMBER),
        "lost_s": nullable(NUMBER),
        "problem": TEXT,
    }
    refused = {"at": NUMBER, "link": TEXT, "reason": TEXT, "times": COUNT}
    return object_of(
        {
            "object": {"const": "steppe.grid"},
            "site": TEXT,
            "at": nullable(NUMBER),
            "away": TEXT,
            "links": list_of(object_of(link)),
            "parts": {"type": "object"},
            "events": list_of(ref("GridEvent")),
            "refused": list_of(object_of(refused)),
        }
        | _state()
    )


def _state() -> Json:
    return {
        "budget_w": nullable(NUMBER),
        "budget_source": TEXT,
        "draw_w": nullable(NUMBER),
        "in_force": nullable(object_of({"name": TEXT, "limit_w": NUMBER})),
    }
