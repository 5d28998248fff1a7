"""Processes that share loads between them, because one sends only so many requests.

A client spends 30 to 45 microseconds of one core on each token that it receives, and a Python
process uses one core. `bench/load_generators.py` measures it.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess

from steppe.errors import LoadError
from steppe.load.arrivals import Arrival
from steppe.load.client import ServerTarget
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
from steppe.load.generator_process import run_generator
from steppe.load.replay import ReplayOptions, ReplayProgress, ignore
from steppe.load.shared_load import SharedLoad

TOKENS_PER_PROCESS = 5000.0
"""Output tokens/s that one process receives with most of its core to spare, so that the times that
it takes are those of the server."""
SEQUENCE_TPS = 100.0
"""Output tokens/s of one sequence where nothing better is known: 10 ms a token."""
START_S = 60.0
"""Longest wait for processes to start and to take a load, s."""
LEAD_S = 0.02
"""Time between the command to begin and the begin, s."""
_JOIN_S = 5.0


def process_count(expected_tps: float, cores: int | None = None) -> int:
    """Return how many processes a load needs: one for every few thousand tokens/s.

    At most half of the cores, because the servers may run on the same host.

    Args:
        expected_tps: Output tokens/s that the servers may send.
        cores: Cores of this process; those that it may use if None.
    """
    cores = len(os.sched_getaffinity(0)) if cores is None else cores
    wanted = -(-expected_tps // TOKENS_PER_PROCESS)
    return int(max(1, min(wanted, cores // 2)))


class LoadGenerators:
    """Processes that send requests; started once, for any number of loads."""

    def __init__(self, count: int) -> None:
        """Start the processes.

        Args:
            count: How many.

        Raises:
            LoadError: One does not start.
        """
        context = multiprocessing.get_context("spawn")
        self._lock, self._sending = threading.Lock(), threading.Lock()
        self._loads: dict[int, SharedLoad] = {}
        self._numbers = itertools.count()
        self._processes: list[SpawnProcess] = []
        self._pipes: list[Connection[Command | None, Answer]] = []
        self._readers: list[threading.Thread] = []
        for number in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(
                target=run_generator, args=(theirs,), daemon=True, name=f"load-{number}"
            )
            process.start()
            theirs.close()
            self._processes.append(process)
            self._pipes.append(ours)
        try:
            self._await_ready()
        except LoadError:
            self.close()
            raise
        for pipe in self._pipes:
            reader = threading.Thread(target=self._read, args=(pipe,), daemon=True, name="load")
            reader.start()
            self._readers.append(reader)

    @property
    def count(self) -> int:
        """Number of processes."""
        return len(self._processes)

    @property
    def pids(self) -> tuple[int, ...]:
        """The processes."""
        return tuple(process.pid or 0 for process in self._processes)

    def begin(
        self,
        target: ServerTarget,
        arrivals: Sequence[Arrival],
        options: ReplayOptions,
        on_progress: Callable[[ReplayProgress], None] = ignore,
    ) -> SharedLoad:
        """Begin a load that all processes share; returns when it has begun.

        Args:
            target: The server.
            arrivals: The arrivals.
            options: How requests are made. Its callbacks, and `on_progress`, run in a thread of
                this process, one at a time.
            on_progress: Takes the progress of all shares together.

        Raises:
            LoadError: A process has ended.
        """
        number, parts = next(self._numbers), self.count
        load = SharedLoad(number, parts, options, on_progress, self._stop)
        with self._lock:
            self._loads[number] = load
        connections = -(-options.max_connections // parts)
        bare = replace(
            options, max_connections=connections, on_begin=ignore, on_chunk=ignore, on_end=ignore
        )
        for part, pipe in enumerate(self._pipes):
            self._send(pipe, Prepare(number, target, tuple(arrivals), bare, part, parts))
        load.wait_prepared(START_S)
        begin_s = time.monotonic() + LEAD_S
        for pipe in self._pipes:
            self._send(pipe, Begin(number, begin_s))
        time.sleep(max(0.0, begin_s - time.monotonic()))
        options.on_begin()
        return load

    def close(self) -> None:
        """End the processes; loads that run are cancelled."""
        for pipe in self._pipes:
            with suppress(OSError):
                pipe.send(None)
        for process in self._processes:
            process.join(_JOIN_S)
            if process.is_alive():
                process.kill()
                process.join()
        for reader in self._readers:
            reader.join(_JOIN_S)
        for pipe in self._pipes:
            pipe.close()

    def _stop(self, number: int) -> None:
        for pipe in self._pipes:
            with suppress(LoadError):  # the process has ended, and so has its share
                self._send(pipe, Stop(number))

    def _send(self, pipe: Connection[Command | None, Answer], command: Command) -> None:
        try:
            with self._sending:  # not the lock that readers need: a full pipe must not stop both
                pipe.send(command)
        except OSError as error:
            raise LoadError(f"asked a load generator to go on, found it ended: {error}") from error

    def _await_ready(self) -> None:
        until_s = time.monotonic() + START_S
        for pipe in self._pipes:
            is_ready = False
            with suppress(EOFError, OSError):
                is_ready = (
                    pipe.poll(max(0.0, until_s - time.monotonic())) and pipe.recv() == Ready()
                )
            if not is_ready:
                raise LoadError(f"asked for a load generator within {START_S:g} s, found none")

    def _read(self, pipe: Connection[Command | None, Answer]) -> None:
        """Pass on what a process answers, until it ends."""
        while True:
            try:
                answer = pipe.recv()
            except (EOFError, OSError):
                break
            match answer:
                case LoadPrepared(number) | Report(load=number) | Ended(load=number):
                    with self._lock:
                        load = self._loads.get(number)
                    if load is not None and load.take(answer):
                        with self._lock:
                            del self._loads[number]
        with self._lock:
            lost = list(self._loads.values())
            self._loads.clear()
        for load in lost:
            load.stop()
            load.fail("a load generator ended before its load")


class GeneratorsOnDemand:
    """Processes for loads of an expected size, started when the first load begins."""

    def __init__(self, expected_tps: float) -> None:
        """Prepare; nothing starts.

        Args:
            expected_tps: Output tokens/s of the loads.
        """
        self._count = process_count(expected_tps)
        self._started: LoadGenerators | None = None

    def started(self) -> LoadGenerators | None:
        """Return the processes; None if one thread is enough.

        Raises:
            LoadError: One does not start.
        """
        if self._started is None and self._count > 1:
            self._started = LoadGenerators(self._count)
        return self._started

    def close(self) -> None:
        """End the processes, if they were started."""
        if self._started is not None:
            self._started.close()


@contextmanager
def load_generators(expected_tps: float) -> Generator[LoadGenerators | None]:
    """Yield the processes for a load of so many output tokens/s; None if one thread is enough.

    Raises:
        LoadError: One does not start.
    """
    generators = GeneratorsOnDemand(expected_tps)
    try:
        yield generators.started()
    finally:
        generators.close()
