from __future__ import annotations

import asyncio

import pytest

from steppe.errors import ReplicaError
from steppe.gateway.cancel_scope import CancelScope


async def _for_ever() -> None:
    await asyncio.Event().wait()


async def _seven() -> int:
    return 7


async def test_what_is_waited_for_passes_through() -> None:
    assert await CancelScope().hold(_seven) == 7


async def test_a_pull_ends_the_present_wait_and_each_later_one() -> None:
    cord = CancelScope()
    task = asyncio.create_task(cord.hold(_for_ever))
    await asyncio.sleep(0)
    cord.pull(ReplicaError("gone"))
    cord.pull(ReplicaError("gone again"))
    for wait in (task, cord.hold(_seven)):
        with pytest.raises(ReplicaError, match=r"^gone$"):
            await wait


async def test_a_timeout_of_what_is_waited_for_is_no_pull() -> None:
    async def times_out() -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        await CancelScope().hold(times_out)


async def test_a_wait_can_be_cancelled() -> None:
    task = asyncio.create_task(CancelScope().hold(_for_ever))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_pull_calls_once_what_is_tied_to_it() -> None:
    cord, calls = CancelScope(), list[str]()
    cord.tie(lambda: calls.append("first"))
    cord.tie(lambda: calls.append("second"))
    cord.pull(ReplicaError("gone"))
    cord.pull(ReplicaError("gone again"))
    assert calls == ["second"]
    assert str(cord.why) == "gone"
