"""A cancellation waits for the thread."""

from __future__ import annotations

import asyncio
import threading

import pytest

from steppe.services.threads import in_thread


async def test_the_result_and_the_error_of_a_call_are_its_own() -> None:
    assert await in_thread(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await in_thread(divmod, 7, 0)


@pytest.mark.parametrize("fails", [False, True])
async def test_a_cancelled_call_has_ended(fails: bool) -> None:
    begun, release, ended = threading.Event(), threading.Event(), threading.Event()

    def call() -> None:
        begun.set()
        release.wait(30)
        ended.set()
        if fails:
            raise OSError

    task = asyncio.create_task(in_thread(call))
    await asyncio.to_thread(begun.wait, 30)
    task.cancel()
    asyncio.get_running_loop().call_later(0.02, release.set)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()
