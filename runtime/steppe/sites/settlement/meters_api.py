"""`GET /sites/v1/meters`: another site gets the signed meter records of an hour of this one."""

from __future__ import annotations

import asyncio

from aiohttp import web

from steppe.errors import SteppeError
from steppe.services.api_error import ApiError
from steppe.sites.settlement.meters import records_of_hour, write_records
from steppe.sites.settlement.own_ledger import OwnLedger
from steppe.sites.settlement.receipts_api import HomeOf, whole

PATH = "/sites/v1/meters"


class MetersOfSite:
    """Answers any other site: the meters of this one are no secret to those that trust it."""

    def __init__(self, site: str, ledger: OwnLedger, home_of: HomeOf) -> None:
        """Use a ledger.

        Args:
            site: This site.
            ledger: Its ledger.
            home_of: Returns the site that calls, or raises `ApiError`.
        """
        self._site, self._ledger, self._home_of = site, ledger, home_of

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Add its route."""
        router.add_get(PATH, self.show)

    async def show(self, request: web.Request) -> web.Response:
        """Answer the records of an hour; 404 if the log has none."""
        try:
            self._home_of(request)
            hour = whole(request, "hour")
            found = await asyncio.to_thread(records_of_hour, self._ledger, self._site, hour)
            if found is None:
                message = f"hour {hour}: asked for its book, found it not closed"
                raise ApiError(404, "hour_not_closed", message, "hour")
        except ApiError as error:
            return error.answer()
        except SteppeError as error:
            return ApiError(503, "ledger_away", str(error)).answer()
        return web.Response(body=write_records(found), content_type="application/json")
