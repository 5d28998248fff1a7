"""Any OpenAI server as the subject of a sweep: tokens are counted by its clients.

Steppe cannot set the batch limit of another server, so the number of clients takes its place: that
many requests are always outstanding. Chunks with tokens are counted as they arrive. The number of
tokens in a chunk is learned from the `usage` of completed requests, so the total is exact for those
and an estimate for requests that still run or failed. The tokens of these count too, as in an
engine that counts its own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Protocol

from steppe.energy.window import EnergyReading
from steppe.load.arrivals import Arrival
from steppe.load.client import ServerTarget
from steppe.load.generators import LoadGenerators
from steppe.load.replay import ReplayOptions, ReplayProgress
from steppe.load.results import RequestResult
from steppe.load.stream import Completed
from steppe.measure.sweep.saturate import Saturation, saturated
from steppe.measure.sweep.subject import SubjectTotals


class JouleMeter(Protocol):
    """Energy of the server's GPUs."""

    def read(self) -> EnergyReading:
        """Return the energy up to the last instant that is known."""
        ...


@dataclass(slots=True)
class TokenCounts:
    """Tokens received by all clients. One thread adds while another reads.

    Attributes:
        chunks: Chunks with tokens.
        completed_chunks: Those of them that belong to requests that completed.
        completed_tokens: Output tokens of those requests, from `usage`.
        prompt_tokens: Their prompt tokens, from `usage`.
        outstanding: Requests outstanding now.
        most_outstanding: Most of them since the last reading.
    """

    chunks: int = 0
    completed_chunks: int = 0
    completed_tokens: int = 0
    prompt_tokens: int = 0
    outstanding: int = 0
    most_outstanding: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def on_chunk(self, count: int = 1) -> None:
        """Count chunks."""
        with self.lock:
            self.chunks += count

    def on_end(self, result: RequestResult) -> None:
        """Take the token counts of a completed request; a failed one reports none."""
        match result.outcome:
            case Completed(gaps_s=gaps, output_tokens=output, prompt_tokens=prompt):
                with self.lock:
                    self.completed_chunks += len(gaps) + 1
                    self.completed_tokens += output
                    self.prompt_tokens += prompt
            case _:
                pass

    def on_progress(self, progress: ReplayProgress) -> None:
        """Take the number of outstanding requests."""
        with self.lock:
            self.outstanding = progress.running
            self.most_outstanding = max(self.most_outstanding, progress.running)

    def take(self) -> tuple[int, int, int]:
        """Return prompt tokens, output tokens, and most outstanding since the last call."""
        with self.lock:
            per_chunk = (
                self.completed_tokens / self.completed_chunks if self.completed_chunks else 1.0
            )
            other_chunks = self.chunks - self.completed_chunks
            most, self.most_outstanding = self.most_outstanding, self.outstanding
            return self.prompt_tokens, self.completed_tokens + round(per_chunk * other_chunks), most


class ClientSubject:
    """A server under load whose GPUs are metered on this host and may have their clocks set."""

    def __init__(
        self,
        target: ServerTarget,
        meter: JouleMeter,
        set_clock: Callable[[int], None],
        options: ReplayOptions,
        generators: LoadGenerators | None = None,
    ) -> None:
        """Prepare; nothing is sent before `saturate`.

        Args:
            target: The server.
            meter: Joules of its GPUs.
            set_clock: Sets the clock limit of all of them, MHz.
            options: How requests are made.
            generators: Processes that send the requests; None for a thread of this one.
        """
        self._generators = generators
        self._target, self._meter, self._set_clock = target, meter, set_clock
        self._options = options
        self._counts = TokenCounts()
        self._clients = 1

    def set_point(self, clock_mhz: int, batch_limit: int) -> None:
        """Set the clock limit and the number of clients of the load."""
        self._clients = batch_limit
        if clock_mhz:
            self._set_clock(clock_mhz)

    def reading(self) -> SubjectTotals:
        """Return totals and state now."""
        energy = self._meter.read()
        prompt, output, most = self._counts.take()
        return SubjectTotals(
            time_s=energy.time_s,
            energy_j=energy.energy_j,
            error_j=energy.error_j,
            quality=energy.quality,
            steps=0,
            prompt_tokens=prompt,
            output_tokens=output,
            running=most,
            waiting=0,
        )

    @contextmanager
    def saturate(
        self, arrivals: Sequence[Arrival], concurrency: int, seed: int
    ) -> Generator[Saturation]:
        """Hold as many requests outstanding inside the block as the batch limit, and no more."""
        self._counts = counts = TokenCounts()
        options = replace(self._options, seed=seed, on_chunk=counts.on_chunk, on_end=counts.on_end)
        clients = min(concurrency, self._clients)
        with saturated(
            [self._target],
            arrivals,
            clients,
            options,
            counts.on_progress,
            generators=self._generators,
        ) as load:
            yield load
