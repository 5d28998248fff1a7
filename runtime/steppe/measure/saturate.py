"""Keep servers saturated from a thread while something else measures them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager

from steppe.load.arrivals import Arrival
from steppe.load.client import Target
from steppe.load.replay import ClosedLoop, ReplayOptions, replay

JOIN_S = 30.0
REQUESTS = 100_000
"""Most requests that one server gets: more than any sweep needs."""


@contextmanager
def saturated(
    targets: Sequence[Target], arrivals: Sequence[Arrival], concurrency: int
) -> Generator[None]:
    """Hold `concurrency` requests outstanding at every target inside the block.

    Args:
        targets: The servers.
        arrivals: Lengths of the requests, used in turn and over again; times do not matter.
        concurrency: Requests outstanding at each server; more than its batch limit.
    """
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()
    options = ReplayOptions(pacing=ClosedLoop(concurrency))
    endless = tuple(arrivals) * max(1, REQUESTS // max(1, len(arrivals)))

    async def run() -> None:
        await asyncio.gather(*(replay(t, endless, options, stop=stop) for t in targets))

    def work() -> None:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(run())

    thread = threading.Thread(target=work, daemon=True, name="saturate")
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(timeout=JOIN_S)
        if not thread.is_alive():
            loop.close()
