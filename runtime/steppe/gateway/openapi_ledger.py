"""The part of the OpenAPI document with receipts, accounts, tariffs and the log."""

from __future__ import annotations

from steppe.control.admission import PRIORITIES
from steppe.gateway.openapi_schemas import (
    COUNT,
    FLAG,
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

_INTEGER: Json = {"type": "integer"}
_TIME_US: Json = COUNT | {"maximum": 2**62}
_AWAY = (400, 404, 503)
"""Statuses of every call: a name that is not valid, no ledger is configured, it starts."""
_PENDING = object_of({}, {"object": TEXT, "request": TEXT, "state": TEXT, "status": TEXT})
_TEXTS = (
    "id",
    "request",
    "site",
    "tenant",
    "key_id",
    "model",
    "model_rev",
    "tokenizer_sha",
    "priority",
    "energy_source",
    "boundary",
    "tariff",
    "currency",
    "finish",
    "retry_of",
    "corrects",
)
_NUMBERS = (
    "seq",
    "prompt_tokens",
    "cached_tokens",
    "output_tokens",
    "energy_uj",
    "idle_uj",
    "green_uj",
    "hour",
    "amount_nano",
    "started_us",
    "first_us",
    "ended_us",
    "clock_err_us",
)


def ledger_schemas() -> Json:
    """Return the schemas of receipts, balances and tariffs, by name."""
    kind = {"kind": {"const": "receipt"}, "v": COUNT}
    fields = dict.fromkeys(_TEXTS, TEXT) | dict.fromkeys(_NUMBERS, _INTEGER)
    balance = {"unit": TEXT, "available": _INTEGER, "held": COUNT, "credit": nullable(COUNT)}
    tariff = {
        "kind": {"const": "tariff"},
        "v": COUNT,
        "id": TEXT,
        "currency": TEXT,
        "valid_from_us": COUNT,
        "utc_offset_hours": _INTEGER,
        "rates": list_of({"type": "object"}),
    }
    window = {"from_us": _TIME_US, "until_us": _TIME_US}
    asked = {"model": TEXT, "tokens": COUNT | {"minimum": 1, "maximum": 10**12}}
    offer = {"id": TEXT, "priority": TEXT, "tariff": TEXT, "currency": TEXT, "note": TEXT}
    return {
        "NewQuote": object_of(asked, {"priority": {"enum": list(PRIORITIES)}} | window),
        "Quote": object_of({"object": {"const": "quote"}} | asked | offer | window),
        "Receipt": object_of(kind | fields),
        "Balance": object_of(balance),
        "Tariff": object_of(tariff),
        "Pending": _PENDING,
    }


def ledger_paths() -> Json:
    """Return the paths of receipts, accounts, tariffs and the log."""
    id_ = parameter("id", "path", TEXT)
    receipt = operation("receipt", ref("Receipt"), [id_], _AWAY)
    receipt["responses"]["202"] = answer("It comes soon.", ref("Pending"))
    return {
        "/steppe/v1/receipts": {"get": _list_of_receipts()},
        "/steppe/v1/receipts/{id}": {"get": receipt},
        "/steppe/v1/receipts/{id}/proof": {"get": _proof("receipt_proof", id_)},
        "/steppe/v1/quote": {"post": _quote()},
        "/steppe/v1/balance": {"get": operation("balance", _page("Balance"), errors=_AWAY)},
        "/steppe/v1/tariffs": {"get": operation("tariffs", _page("Tariff"), errors=_AWAY)},
        "/steppe/v1/tariffs/{id}": {"get": operation("tariff", ref("Tariff"), [id_], _AWAY)},
        "/steppe/v1/tariffs/{id}/proof": {"get": _proof("tariff_proof", id_)},
        "/steppe/v1/log/checkpoint": {"get": _file("checkpoint", "text/plain")},
        "/steppe/v1/log/key": {"get": _file("log_key", "text/plain")},
    }


def _quote() -> Json:
    found = operation("quote", ref("Quote"), errors=(*_AWAY, 413, 429))
    content = {"application/json": {"schema": ref("NewQuote")}}
    return found | {"requestBody": {"required": True, "content": content}}


def _list_of_receipts() -> Json:
    query = [
        parameter("since", "query", _TIME_US),
        parameter("until", "query", _TIME_US),
        parameter("after", "query", COUNT | {"maximum": 2**53}),
        parameter("limit", "query", {"type": "integer", "minimum": 1, "maximum": 1000}),
    ]
    item = object_of({"place": COUNT, "receipt": ref("Receipt")})
    page = {"object": {"const": "list"}, "data": list_of(item), "has_more": FLAG}
    return operation("receipts", object_of(page), query, _AWAY)


def _proof(name: str, id_: Json) -> Json:
    found = operation(name, {}, [id_], _AWAY)
    found["responses"]["200"] = answer("A proof, c2sp.org/tlog-proof.", TEXT, "text/plain")
    found["responses"]["202"] = answer("It comes soon.", ref("Pending"))
    return found


def _file(name: str, type_: str) -> Json:
    found = operation(name, {}, errors=_AWAY)
    found["responses"]["200"] = answer("A file of the log.", TEXT, type_)
    return found


def _page(name: str) -> Json:
    return object_of({"object": {"const": "list"}, "data": list_of(ref(name))})
