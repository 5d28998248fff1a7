"""A batch service in this process, and the client of its tests."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import aiohttp

from steppe.batch.service.service import BatchService

CHAT = "/v1/chat/completions"


@dataclass
class Running:
    """A service that listens, and a client of one tenant or another."""

    service: BatchService
    client: aiohttp.ClientSession
    folder: Path
    url: str
    is_stopped: bool = False

    async def stop(self) -> None:
        if not self.is_stopped:
            self.is_stopped = True
            await self.service.stop()

    async def call(
        self, method: str, path: str, tenant: str = "a", **more: Any
    ) -> tuple[int, dict[str, Any]]:
        headers = {"x-steppe-tenant": tenant, **more.pop("headers", {})}
        url = self.url + path
        async with self.client.request(method, url, headers=headers, **more) as answer:
            return answer.status, await answer.json()

    async def upload(self, content: bytes, tenant: str = "a", **fields: str) -> dict[str, Any]:
        status, file = await self.call("POST", "/v1/files", tenant, data=form(content, **fields))
        assert status == 200, file
        return file

    async def create(self, input_file_id: str, tenant: str = "a", **more: Any) -> dict[str, Any]:
        wanted = {"input_file_id": input_file_id, "endpoint": CHAT, "completion_window": "24h"}
        status, job = await self.call("POST", "/v1/batches", tenant, json={**wanted, **more})
        assert status == 200, job
        return job


class ServiceFactory(Protocol):
    async def __call__(
        self, gateway_url: str = "http://127.0.0.1:9", secret: str = "", **section: object
    ) -> Running: ...


def form(content: bytes, **fields: str) -> aiohttp.FormData:
    """Return the form of an upload, of purpose `batch` unless the fields say otherwise."""
    data = aiohttp.FormData()
    for name, value in {"purpose": "batch", **fields}.items():
        data.add_field(name, value)
    data.add_field("file", content, filename="in.jsonl")
    return data


def lines(count: int, **body: object) -> bytes:
    """Return a file of so many requests, with ids `row-0`, `row-1`, ..."""
    messages = [{"role": "user", "content": "Hello"}]
    made = [
        {
            "custom_id": f"id-{n}",
            "method": "POST",
            "url": CHAT,
            "body": {"model": "m", "messages": messages, **body},
        }
        for n in range(count)
    ]
    return b"".join(json.dumps(line).encode() + b"\n" for line in made)


def error_of(answer: dict[str, Any]) -> tuple[str, str]:
    """Return code and parameter of an error."""
    return answer["error"]["code"], answer["error"]["param"]
