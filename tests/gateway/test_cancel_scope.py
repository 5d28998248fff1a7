from __future__ import annotations

import asyncio

import pytest

from steppe.errors import ReplicaError
from steppe.gateway.cancel_scope import CancelScope


async def _forever() -> None:
    await asyncio.Event().wait()


async def _seven() -> int:
    return 7


async def test_the_result_of_the_wait_is_returned() -> None:
    assert await CancelScope().run(_seven) == 7


async def test_cancel_ends_the_present_wait_and_each_later_one() -> None:
    scope = CancelScope()
    task = asyncio.create_task(scope.run(_forever))
    await asyncio.sleep(0)
    scope.cancel(ReplicaError("gone"))
    scope.cancel(ReplicaError("gone again"))
    for wait in (task, scope.run(_seven)):
        with pytest.raises(ReplicaError, match=r"^gone$"):
            await wait


async def test_a_timeout_of_the_wait_itself_is_raised_as_it_is() -> None:
    async def times_out() -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        await CancelScope().run(times_out)


async def test_cancelling_the_waiting_task_ends_the_wait() -> None:
    task = asyncio.create_task(CancelScope().run(_forever))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_cancel_calls_the_last_callback_once() -> None:
    scope, calls = CancelScope(), list[str]()
    scope.on_cancel(lambda: calls.append("first"))
    scope.on_cancel(lambda: calls.append("second"))
    scope.cancel(ReplicaError("gone"))
    scope.cancel(ReplicaError("gone again"))
    assert calls == ["second"]
    assert str(scope.error) == "gone"
