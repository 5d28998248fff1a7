"""`/steppe/v1/batches/ID/report`: what a job took, as JSON or as a page."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import orjson
from aiohttp import web

from steppe.batch.report.job_report import report_of
from steppe.batch.report.page import html_page
from steppe.batch.report.shown import shown
from steppe.batch.report.timeline import read_timeline
from steppe.batch.service.job_run import timeline_path
from steppe.batch.store.job_store import JobStore
from steppe.services.api_error import invalid, not_found
from steppe.services.tenant_header import tenant_of


class ReportApi:
    """The route of reports."""

    def __init__(
        self,
        store: JobStore,
        folder: Path,
        threads: ThreadPoolExecutor,
        epoch_s: Callable[[], float],
    ) -> None:
        """Create it.

        Args:
            store: The jobs.
            folder: Folder of the service, with the timelines.
            threads: For what takes seconds.
            epoch_s: Reads the time, s since the Unix epoch.
        """
        self._store, self._folder = store, folder
        self._threads, self._epoch_s = threads, epoch_s

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Add the route."""
        router.add_get("/steppe/v1/batches/{id}/report", self.show, allow_head=False)

    async def show(self, request: web.Request) -> web.Response:
        """Return the report of a job, which may still run."""
        id_, form = request.match_info["id"], request.query.get("format", "json")
        if form not in ("json", "html"):
            raise invalid(f"format: asked for json or html, found {form!r:.20}", "format")
        job = await asyncio.to_thread(self._store.job, id_)
        if job is None or job.tenant != tenant_of(request):
            raise not_found("batch", id_)
        loop, make = asyncio.get_running_loop(), partial(self._made, id_, as_page=form == "html")
        body = await loop.run_in_executor(self._threads, make)
        type_ = "text/html" if form == "html" else "application/json"
        return web.Response(body=body, content_type=type_, charset="utf-8")

    def _made(self, job_id: str, *, as_page: bool) -> bytes:
        path = timeline_path(self._folder, job_id)
        timeline = read_timeline(path) if path.is_file() else []
        report = report_of(self._store, job_id, timeline, self._epoch_s())
        return html_page(report).encode() if as_page else orjson.dumps(shown(report))
