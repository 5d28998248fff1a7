"""`/steppe/v1/budget`: the limits of an operator, over the link `http`."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from steppe.config.grid import HttpSection
from steppe.config.section import LARGEST
from steppe.grid.limits.limit import Limit
from steppe.grid.service.answers import NO_SAMPLES, change, json_answer, view_of
from steppe.grid.service.bodies import LIMIT, NewLimit, read, seconds
from steppe.grid.service.links import HTTP
from steppe.grid.service.seam import FleetLimits, Lift, PutLimit
from steppe.grid.service.shown import shown_budget


class BudgetApi:
    """Takes limits, lifts them, and shows what is in force.

    The gateway lets only administrators change something.
    """

    def __init__(
        self, limits: FleetLimits, section: HttpSection, now_s: Callable[[], float]
    ) -> None:
        """Use the limits of a fleet.

        Args:
            limits: The limits.
            section: What holds without a limit.
            now_s: Reads the time, s since the Unix epoch.
        """
        self._limits, self._now_s = limits, now_s
        self._default_w = LARGEST if section.default_w is None else section.default_w

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Add the routes."""
        router.add_get("/steppe/v1/budget", self.show)
        router.add_put("/steppe/v1/budget", self.put)
        router.add_delete("/steppe/v1/budget", self.lift)

    async def show(self, _request: web.Request) -> web.Response:
        """Answer what is in force."""
        return json_answer(shown_budget(await view_of(self._limits, NO_SAMPLES)))

    async def put(self, request: web.Request) -> web.Response:
        """Accept a limit, which replaces that of the same name."""
        asked, now_s = await read(request, NewLimit), self._now_s()
        limit = Limit(
            name=asked.name,
            source=HTTP,
            issued_s=now_s if asked.issued is None else seconds(asked.issued),
            watts=asked.steps(now_s),
            expires_s=None if asked.expires is None else seconds(asked.expires),
            default_w=self._default_w,
        )
        await change(self._limits, PutLimit(limit))
        return await self.show(request)

    async def lift(self, request: web.Request) -> web.Response:
        """Lift the limit of a name."""
        name = request.query.get("name", LIMIT)
        await change(self._limits, Lift(HTTP, name, self._now_s()))
        return await self.show(request)
