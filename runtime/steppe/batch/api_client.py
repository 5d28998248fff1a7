"""Asks a gateway over HTTP: its models, and its Batch API."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import orjson

from steppe.disk import disk_errors
from steppe.errors import UsageError

_CONNECT_S = 10.0
_ANSWER_S = 600.0
"""Longest time without a byte, s: a gateway checks a large file before it answers."""
_CHUNK = 1 << 20

Json = dict[str, Any]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ApiClient:
    """A gateway, or another server with OpenAI's API.

    Every call opens a connection of its own, and raises UsageError if the server cannot be reached
    or refuses what was asked.

    Attributes:
        url: Its address, with or without `/v1`.
        headers: Headers of every call, such as a key.
    """

    url: str
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    def models(self) -> tuple[str, ...]:
        """Return the names of the models that it serves."""
        found = self.ask("GET", "models")
        try:
            return tuple(str(card["id"]) for card in found["data"])
        except (KeyError, TypeError) as error:
            raise UsageError(f"{self.url}: asked for the models, found no list") from error

    def upload(self, path: Path, name: str) -> Json:
        """Upload a file of batch lines under a name, and return its file object."""

        async def send(session: aiohttp.ClientSession) -> Json:
            with disk_errors(path), path.open("rb") as content:
                form = aiohttp.FormData()
                form.add_field("purpose", "batch")
                form.add_field("file", content, filename=name, content_type="application/jsonl")
                async with session.post(self._address("files"), data=form) as response:
                    return await _object(response, f"upload {name}")

        return self._run(send)

    def create_batch(
        self, file_id: str, endpoint: str, window: str, metadata: Mapping[str, str]
    ) -> Json:
        """Make a batch of an uploaded file, and return it.

        Args:
            file_id: The file.
            endpoint: Path of the API, such as `/v1/chat/completions`.
            window: Its completion window, such as `24h`.
            metadata: Pairs of the client's own.
        """
        body = {
            "input_file_id": file_id,
            "endpoint": endpoint,
            "completion_window": window,
            "metadata": dict(metadata),
        }
        return self.ask("POST", "batches", body)

    def batch(self, id_: str) -> Json:
        """Return a batch."""
        return self.ask("GET", f"batches/{id_}")

    def cancel(self, id_: str) -> Json:
        """Cancel a batch, and return it."""
        return self.ask("POST", f"batches/{id_}/cancel")

    def report(self, id_: str) -> Json:
        """Return the report of a batch."""
        return self.ask("GET", f"/steppe/v1/batches/{id_}/report")

    def download(self, file_id: str, path: Path) -> None:
        """Write the content of a file to a new file."""

        async def fetch(session: aiohttp.ClientSession) -> None:
            address = self._address(f"files/{file_id}/content")
            async with session.get(address) as response:
                if response.status != 200:
                    await _object(response, f"download {file_id}")
                with disk_errors(path), path.open("xb") as file:
                    async for chunk in response.content.iter_chunked(_CHUNK):
                        file.write(chunk)

        self._run(fetch)

    def ask(self, method: str, path: str, body: Json | None = None) -> Json:
        """Make any call, and return the JSON object that answers it.

        Args:
            method: Such as `GET`.
            path: Below `/v1`, or whole where it begins with a slash.
            body: A JSON object; None for no body.
        """

        async def ask(session: aiohttp.ClientSession) -> Json:
            async with session.request(method, self._address(path), json=body) as response:
                return await _object(response, f"{method} {path}")

        return self._run(ask)

    def _address(self, path: str) -> str:
        base = self.url.rstrip("/").removesuffix("/v1")
        return base + path if path.startswith("/") else f"{base}/v1/{path}"

    def _run(self, call: Callable[[aiohttp.ClientSession], Awaitable[T]]) -> T:
        async def run() -> T:
            timeout = aiohttp.ClientTimeout(
                total=None, sock_connect=_CONNECT_S, sock_read=_ANSWER_S
            )
            async with aiohttp.ClientSession(
                headers=dict(self.headers), timeout=timeout
            ) as session:
                return await call(session)

        try:
            return asyncio.run(run())
        except (TimeoutError, aiohttp.ClientError, ValueError) as error:
            message = f"{self.url}: asked for a server, found: {_reason(error)}"
            raise UsageError(message) from error


async def _object(response: aiohttp.ClientResponse, asked: str) -> Json:
    text = await response.read()
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        found = None
    if response.status >= 400 or not isinstance(found, dict):
        error = found.get("error") if isinstance(found, dict) else None
        message = error.get("message") if isinstance(error, dict) else None
        shown = message or text[:200].decode(errors="replace") or "no body"
        raise UsageError(f"asked for {asked}, found status {response.status}: {shown}")
    return found


def _reason(error: Exception) -> str:
    match error:
        case aiohttp.ClientConnectorError(os_error=OSError(strerror=str(reason))):
            return reason
        case aiohttp.InvalidURL() | aiohttp.NonHttpUrlClientError():
            return "no address such as http://127.0.0.1:8000"
        case TimeoutError():
            return "no answer in time"
        case _:
            return str(error) or type(error).__name__
