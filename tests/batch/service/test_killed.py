"""A batch service whose process is killed in the middle of a job."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from tests.batch.service.running import form

pytestmark = pytest.mark.slow  # each start imports the service

ROWS, KILLED_AT = 240, (40, 90, 150)
SERVICE = """
import asyncio, sys
from pathlib import Path
from steppe.batch.service.service import BatchService
from steppe.batch.service.settings import BatchSettings
from steppe.config import BatchSection

async def main():
    settings = BatchSettings(BatchSection(folder=Path(sys.argv[1])), sys.argv[2])
    print(await BatchService(settings).start(), flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@dataclass
class Gateway:
    """Answers some rows at a time, up to as many as the test allows; counts what it answered."""

    url: str = ""
    answered: Counter[str] = field(default_factory=Counter)
    allowed: int = 0
    runner: web.AppRunner | None = None

    async def start(self) -> None:
        application = web.Application()
        application.router.add_post("/v1/completions", self.answer)
        self.runner = web.AppRunner(application, shutdown_timeout=0.1, handler_cancellation=True)
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self.runner.addresses[0][1]}"

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.json()
        while self.answered.total() >= self.allowed:
            await asyncio.sleep(0.002)
        self.answered[body["prompt"]] += 1
        usage = {"prompt_tokens": 1, "completion_tokens": 2}
        choices = [{"index": 0, "text": body["prompt"], "finish_reason": "stop"}]
        return web.json_response({"model": "m", "choices": choices, "usage": usage})


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    started = Gateway()
    await started.start()
    yield started
    assert started.runner is not None
    await started.runner.cleanup()


async def start(folder: Path, gateway: Gateway) -> tuple[asyncio.subprocess.Process, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SERVICE, str(folder), gateway.url, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    return process, (await process.stdout.readline()).decode().strip()


async def kill(process: asyncio.subprocess.Process) -> None:
    process.kill()
    await process.wait()


async def batch_of(client: aiohttp.ClientSession, url: str, id_: str) -> dict[str, Any]:
    async with client.get(f"{url}/v1/batches/{id_}") as answer:
        found: dict[str, Any] = await answer.json()
        return found


def line(number: int) -> bytes:
    body = {"model": "m", "prompt": f"id-{number}"}
    found = {"custom_id": f"id-{number}", "method": "POST", "url": "/v1/completions", "body": body}
    return json.dumps(found).encode() + b"\n"


async def test_a_killed_service_loses_no_row_and_has_none_twice(
    gateway: Gateway, tmp_path: Path
) -> None:
    async with aiohttp.ClientSession() as client:
        process, url = await start(tmp_path, gateway)
        data = form(b"".join(map(line, range(ROWS))))
        async with client.post(f"{url}/v1/files", data=data) as answer:
            file = await answer.json()
        wanted = {"endpoint": "/v1/completions", "completion_window": "24h"}
        job = {"input_file_id": file["id"], **wanted}
        async with client.post(f"{url}/v1/batches", json=job) as answer:
            id_ = (await answer.json())["id"]
        for gateway.allowed in KILLED_AT:
            async with asyncio.timeout(60):
                while gateway.answered.total() < gateway.allowed:
                    await asyncio.sleep(0.002)
            await kill(process)
            process, url = await start(tmp_path, gateway)
        gateway.allowed = 10 * ROWS
        async with asyncio.timeout(60):
            while (found := await batch_of(client, url, id_))["status"] != "completed":
                await asyncio.sleep(0.02)
        async with client.get(f"{url}/v1/files/{found['output_file_id']}/content") as answer:
            output = [json.loads(each) for each in (await answer.text()).splitlines()]
        await kill(process)
    assert found["request_counts"] == {"total": ROWS, "completed": ROWS, "failed": 0}
    assert sorted(each["custom_id"] for each in output) == sorted(f"id-{n}" for n in range(ROWS))
    # What was answered and not yet on disk at a kill is computed again, and nothing else is.
    assert gateway.answered.total() <= ROWS + len(KILLED_AT) * 128
    assert max(gateway.answered.values()) <= 1 + len(KILLED_AT)
