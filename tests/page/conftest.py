from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from tests.page.browser import Tab, open_browser

from steppe.gateway.server import Gateway, GatewayModel, GatewaySettings

OpenTab = Callable[..., Awaitable[Tab]]
OpenGateway = Callable[..., Awaitable[tuple[Gateway, str]]]


@pytest.fixture
async def open_gateway() -> AsyncIterator[OpenGateway]:
    """Opens a gateway without replicas; returns it and its URL."""
    async with AsyncExitStack() as stack:

        async def open_one(**settings: Any) -> tuple[Gateway, str]:
            models = (GatewayModel("m", ttft_s=2.0),)
            given = {"port": 0, "stop_timeout_s": 0.1, **settings}
            gateway = Gateway(
                GatewaySettings("127.0.0.1", given.pop("port"), 10, 30.0, models, **given)
            )
            url = await gateway.start()
            stack.push_async_callback(gateway.stop)
            return gateway, url

        yield open_one


@pytest.fixture
async def open_tab() -> AsyncIterator[OpenTab]:
    """Opens a URL in a browser window of a width and a colour scheme."""
    async with open_browser() as browser:

        async def open_one(url: str, *, width: int = 1280, dark: bool = False) -> Tab:
            page = await browser.new_page(
                viewport={"width": width, "height": 900},
                color_scheme="dark" if dark else "light",
                locale="en-GB",
            )
            tab = Tab(page)
            await tab.open(url)
            return tab

        yield open_one
