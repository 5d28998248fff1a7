from __future__ import annotations

import asyncio
from concurrent.futures import CancelledError

import pytest

from steppe.load.loop_thread import LoopThread


async def double(number: int) -> int:
    await asyncio.sleep(0)
    return 2 * number


async def wait_for_ever() -> None:
    await asyncio.Event().wait()


def test_it_runs_what_is_called_and_what_is_begun() -> None:
    with LoopThread("test") as loop:
        begun = loop.begin(double(2))
        assert (loop.call(double(1)), begun.result()) == (2, 4)


def test_what_still_runs_at_its_end_is_cancelled() -> None:
    with LoopThread("test") as loop:
        begun = loop.begin(wait_for_ever())
    with pytest.raises(CancelledError):
        begun.result(timeout=0)


def test_an_error_reaches_the_caller() -> None:
    async def fail() -> None:
        raise ValueError("asked for one, found two")

    with LoopThread("test") as loop, pytest.raises(ValueError, match="found two"):
        loop.call(fail())
