"""What the sites service of the run knows of this site and of others.

Each client with a key may look at the sites. What they owe each other is for administrators.
"""

from __future__ import annotations

import asyncio

import aiohttp
from aiohttp import web

from steppe.gateway.admin_api import AdminDoor
from steppe.gateway.answers import error_answer
from steppe.gateway.run_service import RunService, unavailable
from steppe.sites.settlement.shown import PATH as SETTLEMENTS
from steppe.sites.state import PATH as STATE

PATH = "/steppe/v1/sites"
ANSWER_S = 5.0
"""Longest wait for the service, s."""
UNAVAILABLE = "sites_unavailable"
"""Code of the 503 without an answer of the service."""


class SitesApi:
    """Shows the state of the sites service, and its settlements."""

    def __init__(self, door: AdminDoor, service: RunService, *, is_configured: bool) -> None:
        """Create it.

        Args:
            door: Lets in clients that may see what sites owe each other.
            service: The sites service.
            is_configured: Whether the run has one.
        """
        self._door, self._service, self._is_configured = door, service, is_configured

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Add its routes."""
        router.add_get(PATH, self.show)
        router.add_get(SETTLEMENTS, self.show_settlements)

    async def show(self, request: web.Request) -> web.Response:
        """Answer what the service answers; each client with a key may look."""
        return await self._ask(request, STATE)

    async def show_settlements(self, request: web.Request) -> web.Response:
        """Answer the last settlements with other sites.

        Raises:
            DeniedError: The client may not administrate.
        """
        self._door.require(request)
        query = f"?{request.query_string}" if request.query_string else ""
        return await self._ask(request, SETTLEMENTS + query)

    async def _ask(self, request: web.Request, path: str) -> web.Response:
        if not self._is_configured:
            asked = f"{request.method} {request.path}: asked for other sites"
            message = f"{asked}, found no section sites in the configuration of this run"
            code = "sites_not_configured"
            return error_answer(404, message, type_="invalid_request_error", code=code)
        service = self._service
        if not service.url:
            return unavailable("the sites service starts", UNAVAILABLE)
        try:
            async with asyncio.timeout(ANSWER_S):
                async with service.session.get(service.url + path) as answer:
                    body = await answer.read()
        except (aiohttp.ClientError, OSError) as error:
            return unavailable(f"the sites service does not answer: {error!r}", UNAVAILABLE)
        if answer.status in (200, 400, 404):
            return web.Response(body=body, status=answer.status, content_type="application/json")
        return unavailable(f"the sites service answers {answer.status}", UNAVAILABLE)
