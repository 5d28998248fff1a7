from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Future

import pytest
from tests.fixtures.batch_gateway import FakeGateway


@pytest.fixture
def gateway() -> Iterator[FakeGateway]:
    """A fake gateway in a thread of its own: what is tested has its own event loop."""
    loop, opened, stop = asyncio.new_event_loop(), Future[FakeGateway](), asyncio.Event()

    async def serve() -> None:
        async with FakeGateway().running() as running:
            opened.set_result(running)
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    yield opened.result(30.0)
    loop.call_soon_threadsafe(stop.set)
    thread.join(30.0)
    loop.close()
