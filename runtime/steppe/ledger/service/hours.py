"""Closes hours when they are due, gives old holds back, and lets tokens run out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from steppe.errors import SteppeError
from steppe.ledger.service.metrics import LedgerMetrics
from steppe.ledger.service.writer import Writer
from steppe.ledger.store.closing import Closed, PreparedHour, close, due, prepare
from steppe.ledger.store.ledger_store import LedgerStore
from steppe.ledger.store.packages import expire, run_out
from steppe.ledger.store.transaction import Transaction

PERIOD_S = 5.0
"""Time between two looks, s."""
MOST_HOLDS = 1_000
"""Most old holds that are given back in one transaction."""

_log = logging.getLogger(__name__)


class Hours:
    """Looks every few seconds; what an earlier process left undone is done at once."""

    def __init__(
        self,
        store: LedgerStore,
        writer: Writer,
        metrics: LedgerMetrics,
        now_us: Callable[[], int],
        period_s: float = PERIOD_S,
    ) -> None:
        """Prepare.

        Args:
            store: The store.
            writer: Its writer.
            metrics: The metrics.
            now_us: Reads the time, us since the Unix epoch.
            period_s: Time between two looks, s.
        """
        self._store, self._writer, self._metrics = store, writer, metrics
        self._now_us, self._period_s = now_us, period_s
        self._task: asyncio.Task[None] | None = None
        self._problem = ""

    def start(self) -> None:
        """Look from now on."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None

    async def look(self) -> int:
        """Close what is due, the oldest first, and give old holds back; return how many closed.

        Raises:
            SteppeError: A book does not add up, or the store cannot be written.
        """
        expired = MOST_HOLDS
        while expired == MOST_HOLDS:
            expired = await self._writer.write(self._expire)
            self._metrics.count_expired(expired)
        if over := await asyncio.to_thread(self._run_out):
            await self._writer.write(lambda books: expire(books, over, self._now_us()))
        count = 0
        while found := await asyncio.to_thread(self._due):
            for each in found:
                self._metrics.count_closed(await self._close(*each))
                count += 1
        return count

    def _run_out(self) -> list[tuple[str, str]]:
        with self._store.reading() as connection:
            return run_out(connection, self._now_us())

    def _due(self) -> list[tuple[str, str, int]]:
        with self._store.reading() as connection:
            return due(connection, self._now_us())

    async def _close(self, site: str, boundary: str, hour: int) -> Closed:
        now_us = self._now_us()
        prepared = await asyncio.to_thread(self._prepare, site, boundary, hour, now_us)

        def change(books: Transaction) -> Closed:
            return close(books, site, boundary, hour, now_us, prepared=prepared)

        return await self._writer.write(change, is_long=True)

    def _prepare(self, site: str, boundary: str, hour: int, now_us: int) -> PreparedHour:
        with self._store.reading() as connection:
            return prepare(connection, site, boundary, hour, now_us)

    def _expire(self, transaction: Transaction) -> int:
        return transaction.give_back_expired(self._now_us(), MOST_HOLDS)

    async def _run(self) -> None:
        while True:
            try:
                await self.look()
                self._problem = ""
            except (SteppeError, OSError) as error:
                if str(error) != self._problem:
                    _log.error("the hours of the ledger: %s", error)
                self._problem = str(error)
            await asyncio.sleep(self._period_s)
