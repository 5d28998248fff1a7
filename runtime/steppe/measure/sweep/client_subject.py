"""Any OpenAI server as the subject of a sweep: tokens are counted by its clients.

A foreign server has no batch limit that we could set, so the number of clients takes its place:
so many requests are outstanding, always. Chunks with tokens are counted as they come; how many
tokens a chunk holds is learned from the `usage` of the requests that completed, so the total is
exact for those and an estimate for the few that still run or failed: the server made their tokens
too, and an engine that counts for itself counts them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Protocol

from steppe.energy.window import EnergyReading
from steppe.load.arrivals import Arrival
from steppe.load.client import Target
from steppe.load.replay import ReplayOptions, ReplayProgress
from steppe.load.results import RequestResult
from steppe.load.stream import Completed
from steppe.measure.sweep.saturate import Saturation, saturated


class JouleMeter(Protocol):
    """Energy of the server's GPUs."""

    def read(self) -> EnergyReading:
        """Return the energy up to the last instant that is known."""
        ...


@dataclass(frozen=True, slots=True)
class ClientReading:
    """What clients and meter say at one instant; see `SubjectTotals`."""

    time_s: float
    energy_j: float
    error_j: float
    quality: str
    steps: int
    prompt_tokens: int
    output_tokens: int
    running: int
    waiting: int


@dataclass(slots=True)
class TokenTally:
    """Tokens that came, counted over all clients. One thread adds while another reads.

    Attributes:
        chunks: Chunks with tokens.
        completed_chunks: Those of them that belong to requests that completed.
        completed_tokens: Output tokens of those requests, from `usage`.
        prompt_tokens: Their prompt tokens, from `usage`.
        outstanding: Requests outstanding now.
        most: Most of them since the last reading.
    """

    chunks: int = 0
    completed_chunks: int = 0
    completed_tokens: int = 0
    prompt_tokens: int = 0
    outstanding: int = 0
    most: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def on_chunk(self) -> None:
        """Count a chunk."""
        with self.lock:
            self.chunks += 1

    def on_end(self, result: RequestResult) -> None:
        """Take what a request says that completed; one that failed says nothing of its tokens."""
        match result.outcome:
            case Completed(gaps_s=gaps, output_tokens=output, prompt_tokens=prompt):
                with self.lock:
                    self.completed_chunks += len(gaps) + 1
                    self.completed_tokens += output
                    self.prompt_tokens += prompt
            case _:
                pass

    def on_progress(self, progress: ReplayProgress) -> None:
        """Take how many requests are outstanding."""
        with self.lock:
            self.outstanding = progress.running
            self.most = max(self.most, progress.running)

    def take(self) -> tuple[int, int, int]:
        """Return prompt tokens, output tokens, and most outstanding since the last call."""
        with self.lock:
            each = self.completed_tokens / self.completed_chunks if self.completed_chunks else 1.0
            others = self.chunks - self.completed_chunks
            most, self.most = self.most, self.outstanding
            return self.prompt_tokens, self.completed_tokens + round(each * others), most


class ClientSubject:
    """A server under load, with clocks that may be set and GPUs that are metered here."""

    def __init__(
        self,
        target: Target,
        meter: JouleMeter,
        set_clock: Callable[[int], None],
        options: ReplayOptions,
    ) -> None:
        """Prepare; nothing is sent before `saturate`.

        Args:
            target: The server.
            meter: Joules of its GPUs.
            set_clock: Sets the clock limit of all of them, MHz.
            options: How requests are made.
        """
        self._target, self._meter, self._set_clock = target, meter, set_clock
        self._options = options
        self._tally = TokenTally()
        self._clients = 1

    def set_point(self, clock_mhz: int, batch_limit: int) -> None:
        """Set the clock, and how many clients the load will have."""
        self._clients = batch_limit
        if clock_mhz:
            self._set_clock(clock_mhz)

    def reading(self) -> ClientReading:
        """Return totals and state now."""
        energy = self._meter.read()
        prompt, output, most = self._tally.take()
        return ClientReading(
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
        """Hold the batch limit's number of requests outstanding inside the block, and no more."""
        self._tally = tally = TokenTally()
        options = replace(self._options, seed=seed, on_chunk=tally.on_chunk, on_end=tally.on_end)
        clients = min(concurrency, self._clients)
        with saturated([self._target], arrivals, clients, options, tally.on_progress) as load:
            yield load
