from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest
from tests.ledger.service.running import TARIFF, Clock, Running, ServiceFactory

from steppe.config import LedgerSection
from steppe.ledger.service.service import LedgerService
from steppe.ledger.service.settings import LedgerSettings


@pytest.fixture
def tariff_file(tmp_path: Path) -> Path:
    path = tmp_path / "tariff.yaml"
    path.write_text(TARIFF)
    return path


@pytest.fixture
async def open_service(tmp_path: Path, tariff_file: Path) -> AsyncIterator[ServiceFactory]:
    clock = Clock()
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(aiohttp.ClientSession())

        async def open_one(secret: str = "", **section: object) -> Running:
            values = {"site": "hohhot", "tariffs": [tariff_file], **section}
            headers = (("X-Steppe-Run", secret),) if secret else ()
            folder = tmp_path / "ledger"
            settings = LedgerSettings(LedgerSection.model_validate(values), folder, headers)
            service = LedgerService(settings, clock.epoch_ns)
            running = Running(service, client, folder, clock, await service.start())
            stack.push_async_callback(running.stop)
            return running

        yield open_one


@pytest.fixture
async def service(open_service: ServiceFactory) -> Running:
    return await open_service()
