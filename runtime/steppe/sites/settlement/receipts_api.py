"""`GET /sites/v1/receipts`: a home gets its own receipts of a period, at the door for sites."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from steppe.errors import SteppeError
from steppe.services.api_error import ApiError, invalid
from steppe.sites.settlement.target import (
    NotClosedError,
    OtherLengthError,
    ReceiptsQuery,
    TargetSide,
)

PATH = "/sites/v1/receipts"
RETRY_S = 2

HomeOf = Callable[[web.Request], str]
"""Returns the site of a caller by its certificate, or raises `ApiError`."""


class ReceiptsOfSites:
    """Answers each site with the receipts of its own requests."""

    def __init__(self, side: TargetSide, home_of: HomeOf) -> None:
        """Use the target's side.

        Args:
            side: Closes periods, and has their receipts.
            home_of: Returns the site that calls.
        """
        self._side, self._home_of = side, home_of

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Add its route."""
        router.add_get(PATH, self.show)

    async def show(self, request: web.Request) -> web.Response:
        """Answer a page; 409 while the period is open."""
        try:
            home = self._home_of(request)
            wanted = ReceiptsQuery(
                home,
                whole(request, "period"),
                whole(request, "length"),
                whole(request, "after", -1),
                whole(request, "size", 0),
            )
            page = await self._side.page(wanted)
        except ApiError as error:
            return error.answer()
        except NotClosedError as error:
            answer = ApiError(409, "period_open", str(error), "period").answer()
            answer.headers["Retry-After"] = str(RETRY_S)
            return answer
        except OtherLengthError as error:
            return ApiError(400, "invalid_value", str(error)).answer()
        except SteppeError as error:
            return ApiError(503, "ledger_away", str(error)).answer()
        return web.Response(body=page, content_type="application/json")


def whole(request: web.Request, name: str, usual: int | None = None) -> int:
    """Return a whole number of a query.

    Raises:
        ApiError: It is missing without a usual value, or none.
    """
    text = request.query.get(name)
    if text is None and usual is not None:
        return usual
    if text is None or not text.isascii() or not text.isdecimal() or len(text) > 18:
        raise invalid(f"{name}: asked for a whole number, found {text!r:.60}", name)
    return int(text)
