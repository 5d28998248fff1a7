"""What the sites service of the run knows of this site and of others."""

from __future__ import annotations

import asyncio

import aiohttp
from aiohttp import web

from steppe.gateway.answers import error_answer
from steppe.gateway.run_service import RunService, unavailable
from steppe.sites.state import PATH as STATE

PATH = "/steppe/v1/sites"
ANSWER_S = 5.0
"""Longest wait for the service, s."""
UNAVAILABLE = "sites_unavailable"
"""Code of the 503 without an answer of the service."""


class SitesApi:
    """Shows the state of the sites service."""

    def __init__(self, service: RunService, *, is_configured: bool) -> None:
        """Create it.

        Args:
            service: The sites service.
            is_configured: Whether the run has one.
        """
        self._service, self._is_configured = service, is_configured

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Add its route."""
        router.add_get(PATH, self.show)

    async def show(self, request: web.Request) -> web.Response:
        """Answer what the service answers; everybody with a key may look."""
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
                async with service.session.get(service.url + STATE) as answer:
                    body = await answer.read()
                    if answer.status == 200:
                        return web.Response(body=body, content_type="application/json")
        except (aiohttp.ClientError, OSError) as error:
            return unavailable(f"the sites service does not answer: {error!r}", UNAVAILABLE)
        return unavailable(f"the sites service answers {answer.status}", UNAVAILABLE)
