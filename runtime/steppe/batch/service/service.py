"""The batch service of a run: OpenAI's Batch API over a store of jobs."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from aiohttp import web

from steppe.batch.service.batches_api import BatchesApi
from steppe.batch.service.files_api import FilesApi
from steppe.batch.service.job_run import JobRun
from steppe.batch.service.metrics import BatchMetrics
from steppe.batch.service.report_api import ReportApi
from steppe.batch.service.retention import delete_leftovers, delete_old
from steppe.batch.service.scheduler import RETRY_S, JobScheduler
from steppe.batch.service.settings import BatchSettings
from steppe.batch.store.job_store import JobStore
from steppe.engine.run_secret import HEADER
from steppe.errors import SteppeError, StoreBusyError
from steppe.services.application import build_application
from steppe.services.folder_lock import FolderLock

FILES = "files"
"""Folder of the contents of files, in that of the service."""
LOCK_WAIT_S = 15.0
"""Longest wait for the folder, s: the process of an earlier service may be ending."""
LEASE_S = 60.0
"""How long the store stays with a service that does not renew its lease, s."""
RENEW_S = 10.0
"""Time between two renewals of the lease, s."""
LONG_CALLS = 2
"""Inputs that are read, files that are made and reports at one time; each takes seconds."""
CLEAN_S = 600.0
"""Time between two looks for what is old enough to be deleted, s."""
_SHUTDOWN_S = 2.0

_log = logging.getLogger(__name__)


class BatchService:
    """Answers the calls of the gateway, and runs the jobs.

    Start and stop it on one event loop.
    """

    def __init__(
        self,
        settings: BatchSettings,
        epoch_s: Callable[[], float] = time.time,
        *,
        retry_s: float = RETRY_S,
        renew_s: float = RENEW_S,
    ) -> None:
        """Prepare; nothing happens before `start`.

        Args:
            settings: How it is set up.
            epoch_s: Reads the time, s since the Unix epoch.
            retry_s: A job that could not go on is tried again after this time, s.
            renew_s: Time between two renewals of the lease of the store, s.
        """
        self._settings, self._epoch_s = settings, epoch_s
        self._retry_s, self._renew_s = retry_s, renew_s
        self._lock: FolderLock | None = None
        self._store: JobStore | None = None
        self._scheduler: JobScheduler | None = None
        self._cleaning: asyncio.Task[None] | None = None
        self._renewing: asyncio.Task[None] | None = None
        self._runner: web.AppRunner | None = None
        self._threads: ThreadPoolExecutor | None = None

    async def start(self) -> str:
        """Listen and go on with the jobs that have not ended; return the URL.

        Raises:
            UsageError: Another run uses the folder or the store, or one of them cannot be used.
        """
        is_started = False
        try:
            url = await self._start()
            is_started = True
        finally:
            if not is_started:
                await self.stop()
        return url

    async def _start(self) -> str:
        settings, folder = self._settings, self._settings.batch.folder
        self._lock = await asyncio.to_thread(FolderLock, folder, LOCK_WAIT_S, "batch.folder")
        store = await asyncio.to_thread(JobStore, settings.store, folder / FILES)
        self._store = store
        await asyncio.to_thread(store.lease_store, self._lock.owner, self._epoch_s(), LEASE_S)
        self._renewing = asyncio.create_task(self._renew(store, self._lock.owner))
        await asyncio.to_thread(delete_leftovers, store, folder / FILES)
        self._threads = threads = ThreadPoolExecutor(LONG_CALLS, "batch-long")
        metrics, epoch_s = BatchMetrics(), self._epoch_s
        self._scheduler = scheduler = JobScheduler(
            store,
            lambda id_: JobRun(store, id_, settings, metrics, threads=threads, epoch_s=epoch_s),
            settings.batch.running_jobs,
            epoch_s,
            retry_s=self._retry_s,
        )
        parts = (
            FilesApi(store, settings.batch, epoch_s),
            BatchesApi(store, settings.batch, epoch_s, scheduler.wake, scheduler.waits_for),
            ReportApi(store, folder, threads, epoch_s),
        )
        secret = dict(settings.secret_headers).get(HEADER, "")
        application = build_application(parts, lambda: metrics.read(store), secret)
        url = await self._listen(application)
        await scheduler.start()
        self._cleaning = asyncio.create_task(self._clean(store))
        return url

    async def stop(self) -> None:
        """Stop listening and running; what is not done goes on after the next start."""
        await self._stop_work()
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.wait([self._renewing])
        if self._threads is not None:
            await asyncio.to_thread(self._threads.shutdown)
        if self._store is not None:
            if self._lock is not None:
                await asyncio.to_thread(_end_lease, self._store, self._lock.owner)
            await asyncio.to_thread(self._store.close)
        if self._lock is not None:
            self._lock.release()
        self._renewing = self._threads = self._store = self._lock = None

    async def _stop_work(self) -> None:
        """Answer no more calls and run no more jobs."""
        if self._runner is not None:
            await self._runner.cleanup()
        if self._cleaning is not None:
            self._cleaning.cancel()
            await asyncio.wait([self._cleaning])
        if self._scheduler is not None:
            await self._scheduler.stop()
        self._runner = self._cleaning = self._scheduler = None

    async def _listen(self, application: web.Application) -> str:
        self._runner = web.AppRunner(
            application,
            handler_cancellation=True,  # an upload that breaks off is removed at once
            access_log=None,
            shutdown_timeout=_SHUTDOWN_S,
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, self._settings.host, 0).start()
        host, port = self._runner.addresses[0][:2]
        return f"http://{host}:{port}"

    async def _renew(self, store: JobStore, owner: str) -> None:
        """Keep the store; stop the work if another service has got it meanwhile."""
        while True:
            await asyncio.sleep(self._renew_s)
            try:
                await asyncio.to_thread(store.lease_store, owner, self._epoch_s(), LEASE_S)
            except StoreBusyError as error:
                _log.error("the batch service stops: %s", error)
                await self._stop_work()
                return
            except SteppeError as error:  # the store does not answer now
                _log.warning("lease of the batch store: %s", error)

    async def _clean(self, store: JobStore) -> None:
        while True:
            try:
                await asyncio.to_thread(delete_old, store, self._settings.batch, self._epoch_s())
            except (SteppeError, OSError) as error:
                _log.warning("old batch files: %s", error)
            await asyncio.sleep(CLEAN_S)


def _end_lease(store: JobStore, owner: str) -> None:
    try:
        store.end_store_lease(owner)
    except SteppeError as error:  # it ends by itself
        _log.warning("lease of the batch store: %s", error)
