"""Bodies of calls: what they ask for, checked field by field."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from aiohttp import web

from steppe.services.api_error import invalid


async def body_of(request: web.Request) -> Any:
    """Return the JSON value of a body.

    Raises:
        ApiError: It is none.
    """
    try:
        return orjson.loads(await request.read())
    except orjson.JSONDecodeError as error:
        raise invalid(f"asked for JSON, found {error}", "body", "invalid_json") from error


def mapping(value: Any, where: str) -> dict[str, Any]:
    """Return a JSON object.

    Raises:
        ApiError: It is none.
    """
    if not isinstance(value, dict):
        raise invalid(f"{where}: asked for an object, found {value!r:.60}", where)
    return value


def text(values: Mapping[str, Any], name: str, usual: str | None = None) -> str:
    """Return a text of a JSON object.

    Raises:
        ApiError: It is missing without a usual value, no text, not ASCII, or too long.
    """
    found = values.get(name, usual)
    if not isinstance(found, str) or not found.isascii() or len(found) > 128:
        raise invalid(f"{name}: asked for ASCII text of at most 128, found {found!r:.60}", name)
    return found


def whole(values: Mapping[str, Any], name: str, usual: int | None = None, most: int = 2**40) -> int:
    """Return a whole number of a JSON object, at least 0.

    Raises:
        ApiError: It is missing without a usual value, no whole number, or out of its range.
    """
    found = values.get(name, usual)
    if type(found) is not int or not 0 <= found <= most:
        asked = f"{name}: asked for a whole number of 0 to {most}"
        raise invalid(f"{asked}, found {found!r:.60}", name)
    return found


def whole_of_query(request: web.Request, name: str, usual: int, most: int = 2**62) -> int:
    """Return a whole number of the query, at least 0.

    Raises:
        ApiError: It is none, or out of its range.
    """
    found = request.query.get(name)
    if found is None:
        return usual
    if not found.isascii() or not found.isdecimal() or len(found) > 20:
        raise invalid(f"{name}: asked for a whole number, found {found!r:.60}", name)
    return whole({name: int(found)}, name, most=most)
