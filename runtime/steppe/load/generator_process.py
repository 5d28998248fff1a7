"""A process that sends its share of loads.

It ends with the process that started it: the pipe between them closes then, however that one ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection

from steppe.load.generator_messages import (
    Answer,
    Begin,
    Command,
    Ended,
    LoadPrepared,
    Prepare,
    Ready,
    Report,
    Stop,
)
from steppe.load.replay import ReplayProgress, ReplayShare, replay
from steppe.load.results import LoadResult, RequestResult

REPORT_S = 0.02
"""Time between two reports, s: counts of tokens that another process reads are as old."""


def run_generator(connection: Connection[Answer, Command | None]) -> None:
    """Send loads until the pipe closes; the entry of the process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that started this one
    with contextlib.suppress(BrokenPipeError):
        asyncio.run(_Generator(connection).run())


@dataclass(slots=True, eq=False)
class _Load:
    """One load, and what is not reported of it yet."""

    prepare: Prepare
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    progress: ReplayProgress = field(default_factory=ReplayProgress)
    chunks: int = 0
    ended: list[RequestResult] = field(default_factory=list)
    is_reported: bool = True

    def on_progress(self, progress: ReplayProgress) -> None:
        self.progress, self.is_reported = progress, False

    def on_chunk(self, count: int) -> None:
        self.chunks += count
        self.is_reported = False

    def on_end(self, result: RequestResult) -> None:
        self.ended.append(result)
        self.is_reported = False

    def report(self) -> Report:
        """Return what is not reported yet."""
        number, part = self.prepare.load, self.prepare.part
        report = Report(number, part, self.progress, self.chunks, tuple(self.ended))
        self.chunks, self.ended, self.is_reported = 0, [], True
        return report


class _Generator:
    """The loads of this process."""

    def __init__(self, connection: Connection[Answer, Command | None]) -> None:
        self._connection = connection
        self._loads: dict[int, _Load] = {}
        self._tasks: set[asyncio.Task[LoadResult]] = set()
        self._closed = asyncio.Event()

    async def run(self) -> None:
        """Follow commands until the pipe closes, then cancel what runs."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._connection.fileno(), self._follow)
        self._connection.send(Ready())
        while not self._closed.is_set():
            for load in list(self._loads.values()):
                self._report(load)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closed.wait(), REPORT_S)
        loop.remove_reader(self._connection.fileno())
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _follow(self) -> None:
        try:
            command = self._connection.recv()
        except (EOFError, OSError):
            command = None
        match command:
            case Prepare(load=number):
                self._loads[number] = _Load(command)
                self._connection.send(LoadPrepared(number))
            case Begin(number, begin_s):
                load = self._loads[number]
                task = asyncio.create_task(_replayed(load, begin_s))
                self._tasks.add(task)
                task.add_done_callback(lambda task: self._ended(load, task))
            case Stop(number):
                if number in self._loads:
                    self._loads[number].stop.set()
            case None:
                self._closed.set()

    def _ended(self, load: _Load, task: asyncio.Task[LoadResult]) -> None:
        self._tasks.discard(task)
        if task.cancelled():  # the pipe is closed
            return
        number, part = load.prepare.load, load.prepare.part
        del self._loads[number]
        self._report(load)
        match task.exception():
            case None:
                self._connection.send(Ended(number, part, replace(task.result(), requests=())))
            case problem:
                text = f"{type(problem).__name__}: {problem}"
                self._connection.send(Ended(number, part, None, text))

    def _report(self, load: _Load) -> None:
        if not load.is_reported:
            self._connection.send(load.report())


async def _replayed(load: _Load, begin_s: float) -> LoadResult:
    """Send the share of a load."""
    prepare = load.prepare
    options = replace(prepare.options, on_chunk=load.on_chunk, on_end=load.on_end)
    share = ReplayShare(prepare.part, prepare.parts, begin_s)
    return await replay(
        prepare.target, prepare.arrivals, options, load.on_progress, load.stop, share=share
    )
