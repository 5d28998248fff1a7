"""Keep servers saturated, from a thread or from processes, while something else measures them."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable, Coroutine, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np

from steppe.load.arrivals import Arrival
from steppe.load.client import ServerTarget
from steppe.load.generators import LoadGenerators
from steppe.load.replay import ClosedLoop, ReplayOptions, ReplayProgress, ignore, replay
from steppe.load.results import LoadResult, RequestResult
from steppe.load.shared_load import SharedLoad
from steppe.load.stream import Completed
from steppe.measure.sweep.result import ClientTimes

JOIN_S = 30.0
FEWEST = 3
"""Below so many requests a percentile means nothing."""
_DEFAULTS = ReplayOptions()


@dataclass(slots=True)
class Saturation:
    """A saturating load; its results exist once its block has ended.

    Attributes:
        begun_s: When it began, s of the monotonic clock.
        results: Results of the clients, one for each server.
    """

    begun_s: float = field(default_factory=time.monotonic)
    results: list[LoadResult] = field(default_factory=list)

    def client_times(self, since_s: float) -> ClientTimes:
        """Return latencies of requests sent after `since_s` of the monotonic clock."""
        after_s = since_s - self.begun_s
        requests = [r for result in self.results for r in result.requests]
        ended = [r for r in requests if isinstance(r.outcome, Completed) and r.sent_s >= after_s]
        if len(ended) < FEWEST:
            return ClientTimes(requests=len(ended))
        return _times_of(ended)


def _times_of(ended: Sequence[RequestResult]) -> ClientTimes:
    gaps = [np.asarray(r.outcome.gaps_s) for r in ended if isinstance(r.outcome, Completed)]
    gaps_s = np.concatenate(gaps)
    ttft_s = float(np.median([r.ttft_s for r in ended if r.ttft_s is not None]))
    if not gaps_s.size:
        return ClientTimes(len(ended), ttft_s)
    p50, p95, p99 = (float(value) for value in np.percentile(gaps_s, (50, 95, 99)))
    return ClientTimes(len(ended), ttft_s, p50, p95, p99)


@contextmanager
def saturated(
    targets: Sequence[ServerTarget],
    arrivals: Sequence[Arrival],
    concurrency: int,
    options: ReplayOptions = _DEFAULTS,
    on_progress: Callable[[ReplayProgress], None] = ignore,
    *,
    generators: LoadGenerators | None = None,
) -> Generator[Saturation]:
    """Hold `concurrency` requests outstanding at every target inside the block.

    Args:
        targets: The servers.
        arrivals: Lengths of the requests, used again and again; their times are ignored.
        concurrency: Requests outstanding at each server.
        options: How requests are made; the pacing is always a closed loop.
        on_progress: Takes the progress of each replay, in the thread of the load.
        generators: Processes that send the requests; None for a thread of this one.

    Raises:
        LoadError: A process failed.
    """
    options = replace(options, pacing=ClosedLoop(concurrency, math.inf))
    if generators is None:
        with _saturated_by_thread(targets, arrivals, options, on_progress) as load:
            yield load
        return
    load = Saturation()
    running: list[SharedLoad] = []
    try:
        for target in targets:
            running.append(generators.begin(target, arrivals, options, on_progress))
        load.begun_s = time.monotonic()
        yield load
    finally:
        for each in running:
            each.stop()
        ended = [each.wait(JOIN_S) for each in running]
        load.results += [result for result in ended if result is not None]


@contextmanager
def _saturated_by_thread(
    targets: Sequence[ServerTarget],
    arrivals: Sequence[Arrival],
    options: ReplayOptions,
    on_progress: Callable[[ReplayProgress], None],
) -> Generator[Saturation]:
    loop, stop, load = asyncio.new_event_loop(), asyncio.Event(), Saturation()

    async def run() -> None:
        replays = (replay(target, arrivals, options, on_progress, stop) for target in targets)
        load.results += await asyncio.gather(*replays)

    thread = threading.Thread(target=lambda: _run_loop(loop, run), daemon=True, name="saturate")
    try:
        thread.start()
        yield load
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(timeout=JOIN_S)
        if not thread.is_alive():
            loop.close()


def _run_loop(
    loop: asyncio.AbstractEventLoop, run: Callable[[], Coroutine[None, None, None]]
) -> None:
    asyncio.set_event_loop(loop)
    loop.run_until_complete(run())
