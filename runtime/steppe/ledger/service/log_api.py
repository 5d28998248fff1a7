"""`/steppe/v1/log`: the files of the log as they are (`c2sp.org/tlog-tiles`), and its key."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

from aiohttp import web

from steppe.errors import UsageError
from steppe.ledger.log.log import LogReader
from steppe.services.api_error import not_found

_TILE = re.compile(
    r"(?P<row>entries|\d{1,2})/(?P<number>(x\d{3}/)*\d{3})(\.p/(?P<width>[1-9]\d{0,2}))?"
)
_FOR_EVER = "public, max-age=31536000, immutable"


class LogApi:
    """Serves files that anybody may read."""

    def __init__(self, folder: Path, log: LogReader, key: str) -> None:
        """Use a log.

        Args:
            folder: Its folder.
            log: The log.
            key: Its public keys, a line each.
        """
        self._folder, self._log, self._key = folder, log, key

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Add the routes."""
        router.add_get("/steppe/v1/log/key", self.show_key)
        router.add_get("/steppe/v1/log/checkpoint", self.show_checkpoint)
        router.add_get("/steppe/v1/log/tile/{tile:.+}", self.show_tile)

    async def show_key(self, _request: web.Request) -> web.Response:
        """Answer the keys that sign the log."""
        return web.Response(text=self._key, content_type="text/plain")

    async def show_checkpoint(self, _request: web.Request) -> web.StreamResponse:
        """Answer the last signed head, with the cosignatures that it has."""
        note = await asyncio.to_thread(self._log.note)
        if not note:
            raise not_found("checkpoint", "of the log: it has no entry yet")
        headers = {"Content-Type": "text/plain; charset=utf-8", "Cache-Control": "no-cache"}
        return web.Response(body=note.encode(), headers=headers)

    async def show_tile(self, request: web.Request) -> web.StreamResponse:
        """Answer a tile: it never changes again, so it may be kept.

        A partial tile is there for everybody who has an older head, although its file is gone.
        """
        name = request.match_info["tile"]
        path, found = self._folder / "tile" / name, _TILE.fullmatch(name)
        if found is None:
            raise not_found("tile", name)
        headers = {"Content-Type": "application/octet-stream", "Cache-Control": _FOR_EVER}
        if await asyncio.to_thread(path.is_file):
            return web.FileResponse(path, headers=headers)
        if found["width"] is None:
            raise not_found("tile", name)
        number, width = int(re.sub(r"[x/]", "", found["number"])), int(found["width"])
        try:
            tile = await asyncio.to_thread(self._log.tile, found["row"], number, width)
        except UsageError as error:
            raise not_found("tile", name) from error
        return web.Response(body=tile, headers=headers)
