"""The one writer of the ledger's store: what waits at the same time is one transaction.

A transaction that is on disk takes about as long for one change as for many, so changes that arrive
while one is written are written together after it. Changes of many requests have transactions of
their own, so that an admission does not wait for all of them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from steppe.errors import UsageError
from steppe.ledger.store.ledger_store import LedgerStore
from steppe.ledger.store.transaction import Transaction

MOST = 256
"""Most changes in one transaction."""
_Result = TypeVar("_Result")


@dataclass(slots=True)
class _Change:
    """A change that waits; `done` has its result when it is on disk."""

    make: Callable[[Transaction], Any]
    done: asyncio.Future[Any]


class Writer:
    """Writes to a store in a thread of its own; use it on one event loop.

    Changes of one kind, short or long, are in the order of the calls.
    """

    def __init__(self, store: LedgerStore, on_written: Callable[[], None]) -> None:
        """Use a store.

        Args:
            store: The store.
            on_written: Called after each transaction.
        """
        self._store, self._on_written = store, on_written
        self._thread = ThreadPoolExecutor(1, "ledger-writer")
        self._short: deque[_Change] = deque()
        self._long: deque[_Change] = deque()
        self._task: asyncio.Task[None] | None = None
        self._is_open = True

    async def write(
        self, make: Callable[[Transaction], _Result], *, is_long: bool = False
    ) -> _Result:
        """Make a change; return its result when it is on disk.

        Args:
            make: The change. It is made once more, in another transaction, if one beside it fails,
                so it changes nothing else.
            is_long: Whether it is of many requests.

        Raises:
            SteppeError: What the change has raised: nothing of it was written.
            UsageError: The writer is closed, or the store cannot be written.
        """
        if not self._is_open:
            raise UsageError("ledger: asked to write, found the service stopping")
        change = _Change(make, asyncio.get_running_loop().create_future())
        (self._long if is_long else self._short).append(change)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())
        result: _Result = await change.done
        return result

    async def close(self) -> None:
        """Write what waits, and end."""
        self._is_open = False
        if self._task is not None:
            await asyncio.wait([self._task])
        await asyncio.to_thread(self._thread.shutdown)

    async def _run(self) -> None:
        while self._short or self._long:
            if self._short:
                count = min(MOST, len(self._short))
                await self._write([self._short.popleft() for _ in range(count)])
            if self._long:
                await self._write([self._long.popleft()])

    async def _write(self, changes: Sequence[_Change]) -> None:
        """Write changes in one transaction; if that fails, each in its own."""
        loop, makes = asyncio.get_running_loop(), [each.make for each in changes]
        written = loop.run_in_executor(self._thread, self._make, makes)
        await asyncio.wait([written])
        error = written.exception()
        if error is None:
            self._on_written()
            for each, result in zip(changes, written.result(), strict=True):
                if not each.done.done():  # its caller may be gone
                    each.done.set_result(result)
        elif len(changes) > 1:
            for each in changes:
                await self._write([each])
        elif not changes[0].done.done():
            changes[0].done.set_exception(error)

    def _make(self, makes: Sequence[Callable[[Transaction], Any]]) -> list[Any]:
        with self._store.transaction() as transaction:
            return [make(transaction) for make in makes]
