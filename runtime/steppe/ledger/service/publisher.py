"""Brings the entries of the store to the log, and signs its head at most once a second."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from steppe.errors import SteppeError
from steppe.ledger.log.log import Log
from steppe.ledger.store.ledger_store import LedgerStore

PERIOD_S = 1.0
"""Least time between two heads, s."""
MOST = 16_384
"""Most entries that are added at once."""

_log = logging.getLogger(__name__)


class Publisher:
    """Adds to the log in a thread of its own, while the store goes on taking entries."""

    def __init__(
        self,
        store: LedgerStore,
        log: Log,
        on_head: Callable[[str], None],
        period_s: float = PERIOD_S,
    ) -> None:
        """Prepare.

        Args:
            store: Where the entries are.
            log: The log; no one else writes it.
            on_head: Called on the loop with each head that is published; it returns at once.
            period_s: Least time between two heads, s.
        """
        self._store, self._log, self._period_s = store, log, period_s
        self._on_head = on_head
        self._thread = ThreadPoolExecutor(1, "ledger-log")
        self._grown = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None
        self._problem = ""

    @property
    def size(self) -> int:
        """Entries that are in the log."""
        return self._log.head.size

    def wake(self) -> None:
        """Note that there are new entries."""
        self._grown.set()

    def start(self) -> None:
        """Publish from now on; what an earlier process left is first."""
        self._grown.set()
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Publish what is left, and end."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None
            await self._publish()
        await asyncio.to_thread(self._thread.shutdown)

    async def _run(self) -> None:
        while True:
            await self._grown.wait()
            self._grown.clear()
            if not await self._publish():
                self._grown.set()  # the disk may have space again
            await asyncio.sleep(self._period_s)

    async def _publish(self) -> bool:
        """Publish what is new; return whether all of it is in the log."""
        try:
            published = self._loop.run_in_executor(self._thread, self.publish)
            note = await asyncio.shield(published)
        except (SteppeError, OSError) as error:
            if str(error) != self._problem:
                _log.error("the log is not published: %s", error)
            self._problem = str(error)
            return False
        self._problem = ""
        if note:
            self._on_head(note)
        return True

    def publish(self) -> str:
        """Add what the log does not have yet; return the new signed head, or nothing without one.

        Raises:
            DiskFullError: No space is left.
            UsageError: A file cannot be written, or the store cannot be read.
        """
        note = ""
        while entries := self._store.entries(self._log.head.size, MOST):
            note = self._log.add(entries).whole
        return note
