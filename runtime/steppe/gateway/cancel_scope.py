"""A wait that somebody else may end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from steppe.errors import SteppeError

T = TypeVar("T")


class CancelScope:
    """Whoever waits does so in `hold`, or says with `tie` how to end it; whoever knows pulls.

    Lives on one event loop; not safe to use from another thread.

    Attributes:
        why: The error of the first pull; nothing before.
    """

    def __init__(self) -> None:
        self.why: SteppeError | None = None
        self._let_go: Callable[[], None] = lambda: None

    def pull(self, why: SteppeError) -> None:
        """End the wait with this error; only the first pull counts."""
        if self.why is None:
            self.why = why
            self._let_go()

    def tie(self, let_go: Callable[[], None]) -> None:
        """Have a pull call this from now on; costs less than to `hold` each of many short waits."""
        self._let_go = let_go

    async def hold(self, wait: Callable[[], Awaitable[T]]) -> T:
        """Return what `wait` gives; raise what it raises, or the error of a pull."""
        if self.why is not None:
            raise self.why
        now_s = asyncio.get_running_loop().time
        try:
            async with asyncio.timeout(None) as scope:
                self.tie(lambda: scope.reschedule(now_s()))
                return await wait()
        except TimeoutError as error:
            if self.why is None:
                raise
            raise self.why from error
        finally:
            self.tie(lambda: None)
