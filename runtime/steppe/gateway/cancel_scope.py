"""A wait that another task may end with an error."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from steppe.errors import SteppeError

T = TypeVar("T")


class CancelScope:
    """Ends a wait when another task calls `cancel`.

    The waiting task awaits inside `run`, or registers with `on_cancel` how its wait is ended. Use
    it on one event loop; it is not safe from other threads.

    Attributes:
        error: The error of the first `cancel`; None before.
    """

    def __init__(self) -> None:
        self.error: SteppeError | None = None
        self._end_wait: Callable[[], None] = lambda: None

    def cancel(self, error: SteppeError) -> None:
        """End the wait with this error; only the first call counts."""
        if self.error is None:
            self.error = error
            self._end_wait()

    def on_cancel(self, end_wait: Callable[[], None]) -> None:
        """Set what `cancel` calls; cheaper than `run` for each of many short waits."""
        self._end_wait = end_wait

    async def run(self, wait: Callable[[], Awaitable[T]]) -> T:
        """Return the result of `wait`; raise its error, or that of `cancel`."""
        if self.error is not None:
            raise self.error
        now_s = asyncio.get_running_loop().time
        try:
            async with asyncio.timeout(None) as timeout:
                self.on_cancel(lambda: timeout.reschedule(now_s()))
                return await wait()
        except TimeoutError as error:
            if self.error is None:
                raise
            raise self.error from error
        finally:
            self.on_cancel(lambda: None)
