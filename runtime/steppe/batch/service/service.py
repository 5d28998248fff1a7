"""The batch service of a run: OpenAI's Batch API over a store of jobs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from aiohttp import web

from steppe.batch.service.application import build_application
from steppe.batch.service.batches_api import BatchesApi
from steppe.batch.service.files_api import FilesApi
from steppe.batch.service.folder_lock import FolderLock
from steppe.batch.service.metrics import BatchMetrics
from steppe.batch.service.settings import BatchSettings
from steppe.batch.store.job_store import JobStore
from steppe.engine.run_secret import HEADER

LOCK_WAIT_S = 15.0
"""Longest wait for the folder, s: the process of an earlier service may be ending."""
_SHUTDOWN_S = 2.0


class BatchService:
    """Answers the calls of the gateway, and runs the jobs.

    Start and stop it on one event loop.
    """

    def __init__(self, settings: BatchSettings, epoch_s: Callable[[], float] = time.time) -> None:
        """Prepare; nothing happens before `start`.

        Args:
            settings: How it is set up.
            epoch_s: Reads the time, s since the Unix epoch.
        """
        self._settings, self._epoch_s = settings, epoch_s
        self._lock: FolderLock | None = None
        self._store: JobStore | None = None
        self._runner: web.AppRunner | None = None

    async def start(self) -> str:
        """Listen and go on with the jobs that have not ended; return the URL.

        Raises:
            UsageError: Another run uses the folder, or it or the store cannot be used.
        """
        settings = self._settings
        folder = settings.batch.folder
        self._lock = await asyncio.to_thread(FolderLock, folder, LOCK_WAIT_S)
        self._store = await asyncio.to_thread(JobStore, settings.store, folder / "files")
        metrics = BatchMetrics()
        parts = (
            FilesApi(self._store, settings.batch, self._epoch_s),
            BatchesApi(self._store, settings.batch, self._epoch_s, lambda: None),
        )
        secret = dict(settings.secret_headers).get(HEADER, "")
        application = build_application(self._store, metrics, parts, secret)
        self._runner = web.AppRunner(
            application,
            handler_cancellation=True,  # an upload that breaks off is removed at once
            access_log=None,
            shutdown_timeout=_SHUTDOWN_S,
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, settings.host, 0).start()
        host, port = self._runner.addresses[0][:2]
        return f"http://{host}:{port}"

    async def stop(self) -> None:
        """Stop listening and running; what is not done goes on after the next start."""
        if self._runner is not None:
            await self._runner.cleanup()
        if self._store is not None:
            await asyncio.to_thread(self._store.close)
        if self._lock is not None:
            self._lock.release()
