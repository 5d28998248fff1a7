from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest
from tests.batch.service.running import Running, ServiceFactory

from steppe.batch.service.service import BatchService
from steppe.batch.service.settings import BatchSettings
from steppe.config import BatchSection


@pytest.fixture
async def open_service(tmp_path: Path) -> AsyncIterator[ServiceFactory]:
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(aiohttp.ClientSession())

        async def open_one(
            gateway_url: str = "http://127.0.0.1:9", secret: str = "", **section: object
        ) -> Running:
            batch = BatchSection.model_validate({"folder": tmp_path / "batch", **section})
            headers = (("X-Steppe-Run", secret),) if secret else ()
            service = BatchService(BatchSettings(batch, gateway_url, headers))
            running = Running(service, client, batch.folder, await service.start())
            stack.push_async_callback(running.stop)
            return running

        yield open_one


@pytest.fixture
async def service(open_service: ServiceFactory) -> Running:
    return await open_service()
