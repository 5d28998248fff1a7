"""`/v1/batches`: create, list, show and cancel the jobs of a tenant."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from aiohttp import web

from steppe.batch.job import OPEN, Job, JobState, new_file_id, new_job_id
from steppe.batch.service.create import NewBatch, read_new_batch
from steppe.batch.service.expiry import planned_end_epoch_s
from steppe.batch.service.files_api import INPUT
from steppe.batch.service.listing import read_listing
from steppe.batch.service.room import require_room
from steppe.batch.service.shown import shown_job, shown_list
from steppe.batch.store.job_store import JobStore
from steppe.config import BatchSection
from steppe.services.api_error import ApiError, invalid, not_found
from steppe.services.tenant_header import tenant_of

USUAL_LISTED, MOST_LISTED = 20, 100
_CANCELLABLE = (JobState.VALIDATING, JobState.IN_PROGRESS, JobState.FINALIZING)


class BatchesApi:
    """The routes of batches."""

    def __init__(
        self,
        store: JobStore,
        batch: BatchSection,
        epoch_s: Callable[[], float],
        on_change: Callable[[], None],
        waits_for: Callable[[str], str],
    ) -> None:
        """Create it.

        Args:
            store: The jobs.
            batch: Their limits.
            epoch_s: Reads the time, s since the Unix epoch.
            on_change: Called when there is a new job, or one is to be cancelled.
            waits_for: Returns why no row of a job is at the gateway, by its id; or an empty text.
        """
        self._store, self._batch = store, batch
        self._epoch_s, self._on_change = epoch_s, on_change
        self._waits_for = waits_for
        self._creating = asyncio.Lock()

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Add the routes."""
        router.add_post("/v1/batches", self.create)
        router.add_get("/v1/batches", self.list_jobs, allow_head=False)
        router.add_get("/v1/batches/{id}", self.show, allow_head=False)
        router.add_post("/v1/batches/{id}/cancel", self.cancel)

    async def create(self, request: web.Request) -> web.Response:
        """Make a job of an uploaded file."""
        tenant, new = tenant_of(request), read_new_batch(await request.read(), self._batch)
        async with self._creating:  # so that the number of open jobs is exact
            job = await asyncio.to_thread(self._add, tenant, new)
        self._on_change()
        return web.json_response(await self._shown(job))

    async def list_jobs(self, request: web.Request) -> web.Response:
        """Return the jobs of the tenant, the newest first."""
        tenant, listing = tenant_of(request), read_listing(request, USUAL_LISTED, MOST_LISTED)
        if listing.after is not None:
            await self._job_of(tenant, listing.after)
        found = await asyncio.to_thread(
            self._store.jobs, tenant, after=listing.after, limit=listing.limit + 1
        )
        entries = [await self._shown(job) for job in found]
        return web.json_response(shown_list(entries, listing.limit))

    async def show(self, request: web.Request) -> web.Response:
        """Return a job."""
        job = await self._job_of(tenant_of(request), request.match_info["id"])
        return web.json_response(await self._shown(job))

    async def cancel(self, request: web.Request) -> web.Response:
        """Let no more rows of a job begin; what is finished by then is in its files."""
        job = await self._job_of(tenant_of(request), request.match_info["id"])
        is_changed = await asyncio.to_thread(
            self._store.change_state, job.id, JobState.CANCELLING, self._epoch_s(), _CANCELLABLE
        )
        changed = await self._job_of(job.tenant, job.id)
        if not is_changed and changed.state is not JobState.CANCELLING:
            message = f"asked to cancel {job.id}, found it {changed.state}"
            raise ApiError(409, "invalid_state", message, "id")
        self._on_change()
        return web.json_response(await self._shown(changed))

    async def _job_of(self, tenant: str, id_: str) -> Job:
        job = await asyncio.to_thread(self._store.job, id_)
        if job is None or job.tenant != tenant:
            raise not_found("batch", id_)
        return job

    async def _shown(self, job: Job) -> dict[str, Any]:
        return await asyncio.to_thread(self._read_shown, job)

    def _read_shown(self, job: Job) -> dict[str, Any]:
        counts, totals = self._store.counts(job.id), self._store.totals(job.id)
        return shown_job(job, counts, totals, self._waits_for(job.id))

    def _add(self, tenant: str, new: NewBatch) -> Job:
        file = self._store.file(new.input)
        if file is None or file.tenant != tenant:
            message = f"input_file_id: asked for a file of yours, found {new.input!r:.80}"
            raise invalid(message, "input_file_id", "file_not_found")
        if file.purpose != INPUT:
            message = f"input_file_id: asked for a file of purpose {INPUT}, found {file.purpose}"
            raise invalid(message, "input_file_id")
        require_room(self._store, tenant, self._batch.tenant_bytes)
        is_open = self._store.jobs(tenant, states=OPEN, limit=self._batch.jobs_per_tenant)
        if len(is_open) >= self._batch.jobs_per_tenant:
            message = f"{tenant}: asked for at most {len(is_open)} open batches, found as many"
            raise ApiError(429, "too_many_batches", message)
        job = _job(tenant, new, self._epoch_s())
        self._store.add_job(job)
        return job


def _job(tenant: str, new: NewBatch, now_s: float) -> Job:
    return Job(
        id=new_job_id(),
        tenant=tenant,
        model="",
        endpoint=new.endpoint,
        when=new.when,
        created_epoch_s=now_s,
        completion_window_s=new.window_s,
        deadline_epoch_s=planned_end_epoch_s(now_s, new.window_s),
        input=new.input,
        metadata=new.metadata,
        settings={
            "window": new.window,
            "output_expires_s": new.output_expires_s,
            "output_id": new_file_id(),
            "error_id": new_file_id(),
        },
        entered={JobState.VALIDATING: now_s},
    )
