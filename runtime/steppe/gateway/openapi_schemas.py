"""Parts that OpenAPI documents are made of."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]

TEXT: Json = {"type": "string"}
NUMBER: Json = {"type": "number"}
COUNT: Json = {"type": "integer", "minimum": 0}
FLAG: Json = {"type": "boolean"}


def nullable(schema: Json) -> Json:
    """Return the schema of a value that may be null."""
    return {"anyOf": [schema, {"type": "null"}]}


def object_of(required: Json, optional: Json | None = None) -> Json:
    """Return the schema of an object; it may have further values."""
    return {
        "type": "object",
        "properties": required | (optional or {}),
        "required": list(required),
    }


def list_of(item: Json) -> Json:
    """Return the schema of a list."""
    return {"type": "array", "items": item}


def ref(name: str) -> Json:
    """Return a reference to a schema of the document."""
    return {"$ref": f"#/components/schemas/{name}"}


def operation(
    name: str, found: Json, parameters: list[Json] | None = None, errors: tuple[int, ...] = ()
) -> Json:
    """Return an operation that answers 200 with this schema, or one of these errors."""
    refused = {str(status): answer("An error.", ref("Error")) for status in (401, *errors)}
    return {
        "operationId": name,
        "parameters": parameters or [],
        "responses": {"200": answer("The answer.", found)} | refused,
        "security": [{}, {"bearer": []}, {"adminKey": []}],
    }


def answer(description: str, schema: Json, type_: str = "application/json") -> Json:
    """Return an answer of a content type."""
    return {"description": description, "content": {type_: {"schema": schema}}}


def parameter(name: str, place: str, schema: Json) -> Json:
    """Return a parameter; those in the path are required."""
    return {"name": name, "in": place, "required": place == "path", "schema": schema}
