"""The HTTP application of the batch service; only the gateway of its run may ask it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Protocol

from aiohttp import web

from steppe.batch.service.metrics import BatchMetrics
from steppe.batch.store.job_store import JobStore
from steppe.services.api_error import answer_errors
from steppe.services.run_secret import only_with

BODY_BYTES = 1 << 20
"""Largest body that is no file, bytes."""


class RoutesOf(Protocol):
    """A part of the API."""

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Add its routes."""
        ...


def build_application(
    store: JobStore, metrics: BatchMetrics, parts: Iterable[RoutesOf], secret: str
) -> web.Application:
    """Return the application.

    Args:
        store: What the metrics look at.
        metrics: The metrics.
        parts: The parts of the API.
        secret: The secret of the run; empty lets everybody ask.
    """
    middlewares = [only_with(secret), answer_errors]
    application = web.Application(client_max_size=BODY_BYTES, middlewares=middlewares)

    async def show_metrics(_request: web.Request) -> web.Response:
        text = await asyncio.to_thread(metrics.read, store)
        return web.Response(body=text, content_type="text/plain")

    application.router.add_get("/metrics", show_metrics)
    for part in parts:
        part.add_routes(application.router)
    return application
