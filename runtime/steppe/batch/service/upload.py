"""Reads the form of an upload; the file goes to disk as it arrives."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Protocol

from aiohttp import BodyPartReader, web
from aiohttp.http_exceptions import HttpProcessingError

from steppe.services.api_error import ApiError, invalid

LEAST_EXPIRY_S, MOST_EXPIRY_S = 3600, 2_592_000
"""Range of `expires_after[seconds]`, as in OpenAI's API, s."""
CHUNK_BYTES = 1 << 20
FIELD_BYTES = 1000
"""Longest value of another field, bytes."""
MOST_FIELDS = 20
_TORN = (HttpProcessingError, ValueError, AssertionError, RuntimeError)
"""What aiohttp raises for a form that is torn, or none."""


class Writer(Protocol):
    """Gets the content of the file."""

    def write(self, data: bytes) -> None:
        """Add bytes."""
        ...


@dataclass(frozen=True, slots=True)
class UploadForm:
    """The form of an upload, without the content of its file.

    Attributes:
        filename: The client's name of the file.
        purpose: What it is for.
        expires_after_s: When it may be deleted, s after its upload; None if the client does not
            say.
    """

    filename: str
    purpose: str
    expires_after_s: int | None


async def read_upload(request: web.Request, writer: Writer, most_bytes: int) -> UploadForm:
    """Read a form; what its field `file` has goes to the writer.

    Raises:
        ApiError: It is no whole form with a file, a field is out of range, or the file is too
            large.
        DiskFullError: No space is left.
    """
    if request.content_type != "multipart/form-data":
        found = request.content_type
        raise invalid(f"asked for multipart/form-data, found {found!r:.80}", "file")
    try:
        return await _read_parts(request, writer, most_bytes)
    except _TORN as error:
        raise ApiError(400, "invalid_form", "asked for a whole form, found a torn one") from error


async def _read_parts(request: web.Request, writer: Writer, most_bytes: int) -> UploadForm:
    fields, filename, count = dict[str, str](), None, 0
    reader = await request.multipart()
    while (part := await reader.next()) is not None:
        count += 1
        if not isinstance(part, BodyPartReader) or count > MOST_FIELDS:
            raise invalid(f"asked for a flat form of at most {MOST_FIELDS} fields", "file")
        if part.name == "file" and filename is None:
            filename = (part.filename or "file").rpartition("/")[2][:255]
            await _write(part, writer, most_bytes)
        elif part.name == "file":
            raise invalid("file: asked for one file, found several", "file")
        else:
            fields[part.name or ""] = await _value(part)
    if filename is None:
        raise invalid("file: asked for a file, found none in the form", "file")
    return UploadForm(filename, fields.get("purpose", ""), _expiry_s(fields))


async def _write(part: BodyPartReader, writer: Writer, most_bytes: int) -> None:
    written = 0
    while chunk := await part.read_chunk(CHUNK_BYTES):
        written += len(chunk)
        if written > most_bytes:
            message = f"file: asked for at most {most_bytes} bytes, found more"
            raise ApiError(413, "file_too_large", message, "file")
        await asyncio.to_thread(writer.write, bytes(chunk))


async def _value(part: BodyPartReader) -> str:
    value = b""
    while chunk := await part.read_chunk(FIELD_BYTES + 1):
        value += chunk
        if len(value) > FIELD_BYTES:
            name = part.name or ""
            raise invalid(f"{name}: asked for at most {FIELD_BYTES} bytes, found more", name)
    return value.decode(errors="replace")


def _expiry_s(fields: dict[str, str]) -> int | None:
    anchor, seconds = fields.get("expires_after[anchor]"), fields.get("expires_after[seconds]")
    if anchor is None and seconds is None:
        return None
    if anchor != "created_at":
        asked = f"expires_after[anchor]: asked for created_at, found {anchor!r:.60}"
        raise invalid(asked, "expires_after")
    is_number = seconds is not None and seconds.isdecimal() and len(seconds) < 9
    if seconds is None or not is_number or not LEAST_EXPIRY_S <= int(seconds) <= MOST_EXPIRY_S:
        asked = f"asked for {LEAST_EXPIRY_S} to {MOST_EXPIRY_S}"
        raise invalid(f"expires_after[seconds]: {asked}, found {seconds!r:.60}", "expires_after")
    return int(seconds)
