"""The actor that hosts a service of a run, such as the Batch API."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol


class Service(Protocol):
    """Something of a run that listens on HTTP for the gateway."""

    async def start(self) -> str:
        """Listen; return the URL.

        Raises:
            UsageError: It cannot run as it is configured.
        """
        ...

    async def stop(self) -> None:
        """Stop listening; what is not done goes on after the next start."""
        ...


class ServiceActor:
    """Hosts one service in a process of its own."""

    def __init__(self, make: Callable[[Any], Service], settings: Any) -> None:
        """Make the service, `make(settings)`; `open` starts it."""
        self._service = make(settings)
        self._opening = asyncio.Lock()
        self._url = ""

    async def open(self) -> str:
        """Start the service, once; return its URL.

        Raises:
            UsageError: It cannot run as it is configured.
        """
        async with self._opening:
            if not self._url:
                self._url = await self._service.start()
        return self._url

    async def ping(self) -> None:
        """Return: this actor does not hang."""

    async def close(self) -> None:
        """Stop the service."""
        async with self._opening:
            if self._url:
                await self._service.stop()
