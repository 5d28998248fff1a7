"""The live page of the gateway: its files, its stream of events and what it keeps of the run."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, get_args

import aiohttp
import orjson
from aiohttp import web

from steppe.config.change import SECTIONS
from steppe.config.control import PolicyName
from steppe.control.batch_work import BatchWork
from steppe.gateway.access import CALLER, NOBODY, AccessControl, DeniedError
from steppe.gateway.admin_api import AdminDoor
from steppe.gateway.answers import error_answer, json_answer
from steppe.gateway.config_changes import ConfigChanges
from steppe.gateway.run_service import RunService, unavailable
from steppe.gateway.usage import HOUR_S, UsageTable
from steppe.page.amounts import span
from steppe.page.assets import assets
from steppe.page.broadcast import Broadcast, TooManyViewersError, Viewer
from steppe.page.history import History
from steppe.page.html import POLICY, PREFIX, live_page
from steppe.page.points import COLUMNS, Point
from steppe.page.view import live_view, tenant_rows

LIVE = "/steppe/v1/live"
PERIOD_S = 1.0
"""Time between two events of the stream, s."""
WRITE_S = 10.0
"""A viewer that takes nothing for so long is dropped, s."""
_BUFFER_BYTES = 64 << 10
"""Buffer of the connection to a viewer in the kernel, bytes."""
_SITES_PATH, _SITES_S = "/sites/v1/state", 0.5
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_STREAM = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # a proxy passes each event on at once
    **_HEADERS,
}
_CLOSED = b'data: {"closed": true}\n\n'
"""The last event of a stream whose gateway closes, so that a page can tell this from a failure."""
_A_YEAR = "public, max-age=31536000, immutable"


def wants_page(request: web.Request) -> bool:
    """Return whether a client asks `/` for a page, as browsers do, and not for JSON."""
    if request.path != "/" or request.method not in ("GET", "HEAD"):
        return False
    return "text/html" in request.headers.get("Accept", "")


def is_part_of_page(request: web.Request) -> bool:
    """Return whether a request is for the page itself, which has no data and needs no key."""
    path: str = request.path
    return wants_page(request) or path.startswith(PREFIX)


class PageApi:
    """Serves the page and sends the state of the fleet to its viewers, once a second.

    The state is rendered once for all of them, and only while there are any.
    """

    def __init__(
        self,
        status: Callable[[], Mapping[str, Any]],
        usage: UsageTable,
        access: AccessControl,
        door: AdminDoor,
        *,
        changes: ConfigChanges,
        sites: RunService,
        history_s: float,
        jobs: Callable[[], Iterable[BatchWork]],
        has_grid: bool,
    ) -> None:
        """Create it.

        Args:
            status: Returns what the status call answers.
            usage: Usage by tenant.
            access: Finds the tenant of a key.
            door: Lets in who may change something.
            changes: The configuration.
            sites: The sites service of the run.
            history_s: How far back the finer points of the charts reach, s.
            jobs: Returns the batch work that was declared.
            has_grid: Whether the run has a grid service, which takes limits.
        """
        self._status, self._usage, self._jobs = status, usage, jobs
        self._access, self._door, self._changes = access, door, changes
        self._sites, self._has_grid = sites, has_grid
        self._history, self._broadcast = History(history_s), Broadcast()
        self._history_s = history_s
        self._new: list[Point] = []
        self._seq = 0
        self._sender: asyncio.Task[None] | None = None

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Add the routes."""
        router.add_get(PREFIX + "access", self.show_access)
        router.add_get(PREFIX + "{name}", self.show_file)
        router.add_get(LIVE, self.follow)
        router.add_get(LIVE + "/history", self.show_history)
        router.add_get(LIVE + "/tenants", self.show_tenants)

    def add_tick(self, state: Mapping[str, Any]) -> None:
        """Add a tick to the charts: what the controller said of the fleet."""
        tick = state.get("tick")
        if tick is None:
            return  # a state that no controller made
        power = state["power"]
        values = {"t_s": state["t_s"], **tick}
        values |= {name: power[name] for name in ("supply_w", "budget_w", "draw_w")}
        point = self._history.add(values, state["plan"], state["at"])
        if point is not None and len(self._broadcast):
            self._new.append(point)

    def close(self) -> None:
        """Let all viewers go."""
        self._broadcast.end()
        if self._sender is not None:
            self._sender.cancel()

    async def show_page(self, _request: web.Request) -> web.Response:
        """Return the page."""
        headers = {**_HEADERS, "Cache-Control": "no-cache", "Vary": "Accept"}
        return web.Response(
            body=live_page(), content_type="text/html", charset="utf-8", headers=headers
        )

    async def show_file(self, request: web.Request) -> web.Response:
        """Return a file of the page."""
        asset = assets().get(request.match_info["name"])
        if asset is None:
            raise web.HTTPNotFound
        is_this = request.query.get("v") == asset.version
        headers = {**_HEADERS, "Cache-Control": _A_YEAR if is_this else "no-cache"}
        return web.Response(
            body=asset.body, content_type=asset.content_type, charset="utf-8", headers=headers
        )

    async def show_access(self, request: web.Request) -> web.Response:
        """Return what a client may do with its keys; it is no error to have none."""
        config = self._changes.config
        try:
            request[CALLER] = self._access.caller(request)
        except DeniedError as error:
            return json_answer({"role": "none", "reason": str(error)})
        try:
            self._door.require(request)
        except DeniedError as error:
            return json_answer({"role": "viewer", "reason": str(error)})
        policies = list(get_args(PolicyName))
        if config is not None and config.control.policy not in policies:
            policies.append(config.control.policy)
        return json_answer(
            {
                "role": "admin",
                "has_grid": self._has_grid,
                "has_config": config is not None,
                "policies": policies,
                "sections": list(SECTIONS),
            }
        )

    async def show_history(self, _request: web.Request) -> web.Response:
        """Return the points of the charts: the last hour, and the run so far."""
        length = span(self._history_s)
        return json_answer(
            {
                "object": "steppe.history",
                "span_text": "last hour" if self._history_s == HOUR_S else f"last {length}",
                **self._history.shown(),
            }
        )

    async def show_tenants(self, request: web.Request) -> web.Response:
        """Return the rows of the tenants that the caller may see."""
        caller = request.get(CALLER, NOBODY)
        own = caller.tenant.name if caller.is_known and not caller.is_admin else None
        rows = tenant_rows(row.shown() for row in self._usage.rows(own))
        return json_answer({"object": "steppe.tenants", "rows": rows})

    async def follow(self, request: web.Request) -> web.StreamResponse:
        """Send the state of the fleet as server-sent events, until the viewer leaves."""
        try:
            viewer = self._broadcast.join()
        except TooManyViewersError as error:
            return unavailable(str(error), "too_many_viewers")
        response = web.StreamResponse(headers=_STREAM)
        try:
            self._start()
            _bound_buffer(request)
            await response.prepare(request)
            await _send_to(viewer, response)
        except TimeoutError:
            if request.transport is not None:
                request.transport.abort()
        except ConnectionError:
            return response  # the viewer left while its event was written
        finally:
            self._broadcast.leave(viewer)
        return response

    def _start(self) -> None:
        if self._sender is None or self._sender.done():
            self._sender = asyncio.create_task(self._keep_sending())

    async def _keep_sending(self) -> None:
        """Send an event a second while there are viewers."""
        while len(self._broadcast):
            self._broadcast.send(await self._event())
            await asyncio.sleep(PERIOD_S)

    async def _event(self) -> bytes:
        sites = await self._sites_state()
        jobs = {work.key: work.rows for work in self._jobs()}
        view = live_view(
            self._status(), self._history.totals, jobs=jobs, sites=sites, now_s=time.time()
        )
        points, self._new = self._new, []
        self._seq += 1
        view |= {
            "seq": self._seq,
            "columns": COLUMNS,
            "points": [point.row() for point in points],
        }
        return b"id: %d\ndata: %s\n\n" % (self._seq, orjson.dumps(view))

    async def _sites_state(self) -> Mapping[str, Any] | None:
        """Return what the sites service shows; None without one, or while it does not answer."""
        if not self._sites.url:
            return None
        try:
            async with asyncio.timeout(_SITES_S):
                async with self._sites.session.get(self._sites.url + _SITES_PATH) as answer:
                    if answer.status != 200:
                        return None
                    found: Mapping[str, Any] = orjson.loads(await answer.read())
                    return found
        except (aiohttp.ClientError, OSError, orjson.JSONDecodeError):
            return None


class NoPage:
    """In the place of the page where the configuration has none."""

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Add a route that says so."""
        router.add_get(LIVE, self.refuse)

    async def refuse(self, request: web.Request) -> web.Response:
        """Return a 404."""
        message = f"{request.path}: asked for the live page, found gateway.page: false"
        return error_answer(404, message, type_="invalid_request_error", code="no_page")


async def _send_to(viewer: Viewer, response: web.StreamResponse) -> None:
    """Send a viewer its events until the end, which is an event too.

    Raises:
        TimeoutError: It takes nothing.
    """
    while (event := await viewer.next()) is not None:
        async with asyncio.timeout(WRITE_S):
            await response.write(event)
    async with asyncio.timeout(WRITE_S):
        await response.write(_CLOSED)


def _bound_buffer(request: web.Request) -> None:
    """Bound what the kernel holds for a viewer that reads nothing."""
    found = None if request.transport is None else request.transport.get_extra_info("socket")
    if found is not None:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
