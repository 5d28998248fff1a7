"""The HTTP application of a service of a run; only the gateways of the run may ask it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Protocol

from aiohttp import web

from steppe.services.api_error import answer_errors
from steppe.services.run_secret import only_with

BODY_BYTES = 1 << 20
"""Largest body, bytes."""


class RoutesOf(Protocol):
    """A part of the API."""

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Add its routes."""
        ...


def build_application(
    parts: Iterable[RoutesOf], read_metrics: Callable[[], bytes], secret: str
) -> web.Application:
    """Return the application.

    Args:
        parts: The parts of the API.
        read_metrics: Returns all metrics; called in a thread.
        secret: The secret of the run; empty lets everybody ask.
    """
    middlewares = [only_with(secret), answer_errors]
    application = web.Application(client_max_size=BODY_BYTES, middlewares=middlewares)

    async def show_metrics(_request: web.Request) -> web.Response:
        text = await asyncio.to_thread(read_metrics)
        return web.Response(body=text, content_type="text/plain")

    application.router.add_get("/metrics", show_metrics)
    for part in parts:
        part.add_routes(application.router)
    return application
