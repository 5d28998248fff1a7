"""`/v1/files`: upload, list, show, read and delete the files of a tenant."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiohttp import web

from steppe.batch.job import JobState, StoredFile, new_file_id
from steppe.batch.service.listing import read_listing
from steppe.batch.service.room import UploadRoom, require_room
from steppe.batch.service.shown import shown_file, shown_list
from steppe.batch.service.upload import read_upload
from steppe.batch.store.job_store import JobStore
from steppe.config import BatchSection
from steppe.services.api_error import ApiError, invalid, not_found
from steppe.services.tenant_header import tenant_of

INPUT, OUTPUT = "batch", "batch_output"
"""Purposes of files: what clients upload, and what jobs write."""
MOST_LISTED = 10_000
_NDJSON = "application/jsonl"


class FilesApi:
    """The routes of files."""

    def __init__(self, store: JobStore, batch: BatchSection, epoch_s: Callable[[], float]) -> None:
        """Create it; `epoch_s` reads the time, s since the Unix epoch."""
        self._store, self._batch, self._epoch_s = store, batch, epoch_s
        self._room = UploadRoom(store, batch.tenant_bytes)

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Add the routes."""
        router.add_post("/v1/files", self.upload)
        router.add_get("/v1/files", self.list_files, allow_head=False)
        router.add_get("/v1/files/{id}", self.show, allow_head=False)
        router.add_get("/v1/files/{id}/content", self.content, allow_head=False)
        router.add_delete("/v1/files/{id}", self.delete)

    async def upload(self, request: web.Request) -> web.Response:
        """Store a file of a form as it arrives."""
        tenant = tenant_of(request)
        await asyncio.to_thread(require_room, self._store, tenant, self._batch.tenant_bytes)
        writer = self._store.write_file(id_ := new_file_id())
        is_stored = False
        try:
            with self._room.upload(tenant, writer) as counting:
                form = await read_upload(request, counting, self._batch.file_bytes)
                if form.purpose != INPUT:
                    asked = f"asked for {INPUT}, the only purpose of this API"
                    raise invalid(f"purpose: {asked}, found {form.purpose!r:.60}", "purpose")
                now_s = self._epoch_s()
                expires_s = now_s + (form.expires_after_s or self._batch.keep_files_s)
                size = await asyncio.to_thread(writer.close)
                file = StoredFile(id_, tenant, INPUT, form.filename, size, now_s, expires_s)
                await asyncio.to_thread(self._store.add_file, file)
                is_stored = True
        finally:
            if not is_stored:
                writer.abort()
        return web.json_response(shown_file(file))

    async def list_files(self, request: web.Request) -> web.Response:
        """Return the files of the tenant."""
        listing = read_listing(request, MOST_LISTED, MOST_LISTED)
        found = await asyncio.to_thread(
            self._store.files,
            tenant_of(request),
            purpose=request.query.get("purpose"),
            after=await self._known(request, listing.after),
            limit=listing.limit + 1,
            newest_first=listing.newest_first,
        )
        return web.json_response(shown_list([shown_file(each) for each in found], listing.limit))

    async def show(self, request: web.Request) -> web.Response:
        """Return what is known of a file."""
        return web.json_response(shown_file(await self._file(request)))

    async def content(self, request: web.Request) -> web.StreamResponse:
        """Return the content of a file."""
        file = await self._file(request)
        path = self._store.file_path(file.id)
        if not await asyncio.to_thread(path.is_file):
            raise not_found("file", file.id)
        answer = web.FileResponse(path, chunk_size=1 << 18)
        answer.content_type = _NDJSON
        answer.headers["Content-Disposition"] = f'attachment; filename="{file.id}.jsonl"'
        return answer

    async def delete(self, request: web.Request) -> web.Response:
        """Delete a file; not the input of a job that is being read."""
        file = await self._file(request)
        reading = await asyncio.to_thread(
            self._store.jobs, file.tenant, states=[JobState.VALIDATING]
        )
        users = [job.id for job in reading if job.input == file.id]
        if users:
            found = f"found it the input of {users[0]}, which is validating"
            raise ApiError(409, "file_in_use", f"asked to delete {file.id}, {found}", "id")
        await asyncio.to_thread(self._store.delete_file, file.id)
        return web.json_response({"id": file.id, "object": "file", "deleted": True})

    async def _file(self, request: web.Request) -> StoredFile:
        id_ = request.match_info["id"]
        file = await asyncio.to_thread(self._store.file, id_)
        if file is None or file.tenant != tenant_of(request):
            raise not_found("file", id_)
        return file

    async def _known(self, request: web.Request, after: str | None) -> str | None:
        """Return the id of a file of this tenant; None for None."""
        if after is None:
            return None
        file = await asyncio.to_thread(self._store.file, after)
        if file is None or file.tenant != tenant_of(request):
            raise invalid(f"after: asked for a file of yours, found {after!r:.80}", "after")
        return after
