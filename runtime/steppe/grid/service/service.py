"""The grid service of a run: its links to the grid, and what the grid and operators see of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from aiohttp import web

from steppe.engine.run_secret import HEADER
from steppe.grid.service.grid_api import GridApi
from steppe.grid.service.links import links_of
from steppe.grid.service.metrics import GridMetrics
from steppe.grid.service.parts import Parts, parts_of
from steppe.grid.service.refusals import NotedLimits, Refusals
from steppe.grid.service.seam import FleetLimits
from steppe.grid.service.settings import GridSettings
from steppe.grid.service.watch import PERIOD_S, Watch
from steppe.ledger.entry_log import EntryLog
from steppe.services.application import build_application
from steppe.services.folder_lock import FolderLock

LOCK_WAIT_S = 15.0
"""Longest wait for the folder, s: the process of an earlier service may be ending."""
_SHUTDOWN_S = 2.0


class GridService:
    """Takes what the grid asks over its links, and hands it to the controller.

    The controller holds the limits. So while this service is gone, links count as lost after their
    time, and their defaults hold. Start and stop it on one event loop.
    """

    def __init__(
        self,
        settings: GridSettings,
        limits: FleetLimits,
        now_s: Callable[[], float] = time.time,
        period_s: float = PERIOD_S,
        *,
        log: EntryLog | None = None,
    ) -> None:
        """Prepare; nothing happens before `start`.

        Args:
            settings: How it is set up.
            limits: The limits of the fleet, in its controller.
            now_s: Reads the time, s since the Unix epoch.
            period_s: Time between two looks at the site, s.
            log: The log of the ledger; None without a ledger.
        """
        self._log = log
        self._settings, self._limits = settings, limits
        self._now_s, self._period_s = now_s, period_s
        self._lock: FolderLock | None = None
        self._hosted: Parts | None = None
        self._watch: Watch | None = None
        self._runner: web.AppRunner | None = None

    async def start(self) -> str:
        """Open the links and listen; return the URL.

        Raises:
            UsageError: Another run uses the folder, or a link cannot run as it is configured.
        """
        is_started = False
        try:
            url = await self._start()
            is_started = True
        finally:
            if not is_started:
                await self.stop()
        return url

    async def stop(self) -> None:
        """Answer no more, close the links, and give the folder back."""
        if self._runner is not None:
            await self._runner.cleanup()
        if self._watch is not None:
            await self._watch.stop()
        for part in () if self._hosted is None else reversed(self._hosted.parts):
            await part.stop()
        if self._lock is not None:
            self._lock.release()
        self._runner = self._watch = self._hosted = self._lock = None

    async def _start(self) -> str:
        settings = self._settings
        self._lock = await asyncio.to_thread(
            FolderLock, settings.folder, LOCK_WAIT_S, "grid.folder"
        )
        refusals = Refusals(self._now_s)
        limits = NotedLimits(self._limits, refusals)
        self._hosted = hosted = parts_of(settings, limits, refusals, self._now_s, self._log)
        for part in hosted.parts:
            await part.start()
        self._watch = watch = Watch(limits, hosted.parts, self._period_s)
        section = settings.section
        links = links_of(section)
        grid = GridApi(section.site, links, hosted.parts, refusals, watch)
        metrics = GridMetrics(links, refusals, hosted.parts, lambda: bool(watch.away))
        secret = dict(settings.secret_headers).get(HEADER, "")
        routes = [grid, *hosted.routes]
        url = await self._listen(build_application(routes, metrics.exposition, secret))
        watch.start()
        return url

    async def _listen(self, application: web.Application) -> str:
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=_SHUTDOWN_S)
        await self._runner.setup()
        await web.TCPSite(self._runner, self._settings.host, 0).start()
        host, port = self._runner.addresses[0][:2]
        return f"http://{host}:{port}"
