"""Answers of the API, and its calls of the controller."""

from __future__ import annotations

from typing import Any

import orjson
from aiohttp import web

from steppe.grid.service.seam import Change, FleetAwayError, FleetLimits, GridView
from steppe.services.api_error import ApiError

NO_SAMPLES = 2**62
"""Number of a sample that is not there yet."""
AWAY, REFUSED = "controller_unavailable", "refused"
"""Codes of errors: the controller does not answer, and the limits refuse a change."""


def json_answer(values: Any, status: int = 200) -> web.Response:
    """Return JSON values as an answer."""
    return web.Response(body=orjson.dumps(values), status=status, content_type="application/json")


async def view_of(limits: FleetLimits, after: int) -> GridView:
    """Return what the controller has.

    Raises:
        ApiError: It does not answer.
    """
    try:
        return await limits.view(after)
    except FleetAwayError as error:
        raise ApiError(503, AWAY, str(error)) from error


async def change(limits: FleetLimits, asked: Change) -> None:
    """Make one change.

    Raises:
        ApiError: It is refused, or the controller does not answer.
    """
    try:
        (refusal,) = await limits.take([asked])
    except FleetAwayError as error:
        raise ApiError(503, AWAY, str(error)) from error
    if refusal:
        raise ApiError(409, REFUSED, refusal)
