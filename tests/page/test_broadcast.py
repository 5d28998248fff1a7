"""Viewers of a page: none of them delays another one."""

from __future__ import annotations

import asyncio

import pytest

from steppe.page.broadcast import Broadcast, TooManyViewersError


async def test_every_viewer_gets_the_same_event() -> None:
    broadcast = Broadcast()
    viewers = [broadcast.join() for _ in range(3)]
    event = b"data: 1\n\n"
    broadcast.send(event)
    assert all([await viewer.next() is event for viewer in viewers])


async def test_a_viewer_that_takes_nothing_keeps_the_newest_event_only() -> None:
    broadcast = Broadcast()
    viewer = broadcast.join()
    for number in range(1000):
        broadcast.send(b"%d" % number)
    assert await viewer.next() == b"999"
    waits = asyncio.ensure_future(viewer.next())
    await asyncio.sleep(0)
    assert not waits.done()
    broadcast.send(b"1000")
    assert await waits == b"1000"


async def test_the_end_reaches_a_viewer_that_waits_and_one_that_is_behind() -> None:
    broadcast = Broadcast()
    waiting, behind = broadcast.join(), broadcast.join()
    waits = asyncio.ensure_future(waiting.next())
    await asyncio.sleep(0)
    behind.offer(b"old")
    broadcast.end()
    assert (await waits, await behind.next()) == (None, None)


async def test_there_is_room_for_so_many_viewers_and_none_after_the_end() -> None:
    broadcast = Broadcast(most=1)
    first = broadcast.join()
    with pytest.raises(TooManyViewersError, match="found no room"):
        broadcast.join()
    broadcast.leave(first)
    assert len(broadcast) == 0
    broadcast.end()
    with pytest.raises(TooManyViewersError, match="found the end of the gateway"):
        broadcast.join()
