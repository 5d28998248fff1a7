"""Group commit: results that end close together are written to the store in one transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from steppe.batch.row import RowResult

WAIT_S = 0.1
"""Longest time that a result waits for others, s."""
MOST = 500
"""Results of one transaction."""


class GroupCommit:
    """Writes results soon, many at a time; each is on disk when its transaction has ended."""

    def __init__(
        self,
        write: Callable[[Sequence[RowResult]], Awaitable[None]],
        wait_s: float = WAIT_S,
        most: int = MOST,
    ) -> None:
        """Begin without results.

        Args:
            write: Writes results in one transaction.
            wait_s: Longest time that a result waits for others, s.
            most: Results of one transaction.
        """
        self._write, self._wait_s, self._most = write, wait_s, most
        self._results: list[RowResult] = []
        self._some, self._many = asyncio.Event(), asyncio.Event()
        self._writing = asyncio.Lock()

    @property
    def waiting(self) -> int:
        """Results that are not written yet."""
        return len(self._results)

    def add(self, result: RowResult) -> None:
        """Write a result soon."""
        self._results.append(result)
        self._some.set()
        if len(self._results) >= self._most:
            self._many.set()

    async def run(self) -> None:
        """Write results until cancelled; an error of `write` ends it."""
        while True:
            await self._some.wait()
            if len(self._results) < self._most:
                try:
                    async with asyncio.timeout(self._wait_s):
                        await self._many.wait()
                except TimeoutError:
                    pass
            await self.flush()

    async def flush(self) -> None:
        """Write all results that are here."""
        async with self._writing:
            while self._results:
                group = self._results[: self._most]
                await self._write(group)
                del self._results[: len(group)]
            self._some.clear()
            self._many.clear()
