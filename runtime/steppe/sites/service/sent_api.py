"""The door at which gateways note what they sent to other sites, and how it ended."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import orjson
from aiohttp import web

from steppe.errors import UsageError
from steppe.services.api_error import invalid
from steppe.sites.service.note_book import SentBook
from steppe.sites.settlement.sent import Sent

PATH = "/sites/v1/sent"
MOST_NOTES = 1000
"""Most notes of one call."""


def write_sent(notes: Sequence[Sent]) -> bytes:
    """Return the body of a call with at most `MOST_NOTES` notes."""
    return orjson.dumps({"sent": [note.values for note in notes]})


class SentApi:
    """Takes notes into the book; the answer comes when they are on disk.

    A gateway that gets no answer sends them again: a note that comes twice counts once.
    """

    def __init__(self, book: SentBook) -> None:
        """Write into this book."""
        self._book = book
        self.taken = 0
        """Notes so far."""

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Add its route."""
        router.add_post(PATH, self._take)

    async def _take(self, request: web.Request) -> web.Response:
        notes = _notes_of(await request.read())
        new = await asyncio.to_thread(self._book.add, notes)
        self.taken += new
        return web.json_response({"object": "steppe.sites.sent", "new": new})


def _notes_of(body: bytes) -> list[Sent]:
    """Return the notes of a body.

    Raises:
        ApiError: It is none of `write_sent`.
    """
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise invalid(f"asked for JSON, found {error}", "body", "not_json") from error
    items = found.get("sent") if isinstance(found, dict) else None
    if not isinstance(items, list) or len(items) > MOST_NOTES:
        found_ = len(items) if isinstance(items, list) else f"{items!r:.60}"
        raise invalid(f"sent: asked for a list of at most {MOST_NOTES}, found {found_}", "sent")
    try:
        return [Sent.read(item) for item in items]
    except UsageError as error:
        raise invalid(str(error), "sent") from error
