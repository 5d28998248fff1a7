"""`/steppe/v1/grid/events/ID/report` and `/steppe/v1/grid/reports`: what events have changed."""

from __future__ import annotations

import asyncio
from pathlib import Path

from aiohttp import web

from steppe.grid.reports.record import EventRecord, ReportState
from steppe.grid.reports.shown import shown_record
from steppe.grid.service.answers import json_answer
from steppe.grid.service.verification import Verification
from steppe.services.api_error import ApiError, not_found

PENDING = "report_pending"
"""Code of the error for an event whose report is not due."""
_HTML = "text/html"


class ReportsApi:
    """Shows all events that the site ever had, and their reports."""

    def __init__(self, verification: Verification) -> None:
        """Show what it keeps."""
        self._verification = verification

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Add the routes."""
        router.add_get("/steppe/v1/grid/reports", self.list)
        router.add_get("/steppe/v1/grid/events/{id}/report", self.show)

    async def list(self, _request: web.Request) -> web.Response:
        """Answer all events, the newest first."""
        records = self._verification.records
        data = [shown_record(name, record) for name, record in reversed(records.items())]
        return json_answer({"object": "list", "data": data})

    async def show(self, request: web.Request) -> web.Response:
        """Answer a report: the page to a browser or with `?format=html`, else its JSON."""
        id_ = request.match_info["id"]
        name, record = _newest(self._verification.records, id_)
        if record.state in (ReportState.WAITS, ReportState.NOTHING):
            why = record.note or f"its report is made {record.due_s or 0} s after the Unix epoch"
            raise ApiError(404, PENDING, f"event {id_}: found no report: {why}")
        usual = "html" if _HTML in request.headers.get("Accept", "") else "json"
        path = self._verification.page_of(name)
        if request.query.get("format", usual) == "html":
            return web.Response(body=await _read(path), content_type=_HTML, charset="utf-8")
        body = await _read(path.with_name("report.json"))
        return web.Response(body=body, content_type="application/json")


def _newest(records: dict[str, EventRecord], id_: str) -> tuple[str, EventRecord]:
    """Return the newest event of an id or of the name of its folder."""
    for name, record in reversed(records.items()):
        if id_ in (record.event.id, name):
            return name, record
    raise not_found("event", id_)


async def _read(path: Path) -> bytes:
    return await asyncio.to_thread(path.read_bytes)
