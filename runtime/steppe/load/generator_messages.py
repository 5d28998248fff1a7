"""What a load test and its generator processes send each other."""

from __future__ import annotations

from dataclasses import dataclass

from steppe.load.arrivals import Arrival
from steppe.load.client import ServerTarget
from steppe.load.replay import ReplayOptions, ReplayProgress
from steppe.load.results import LoadResult, RequestResult


@dataclass(frozen=True, slots=True)
class Prepare:
    """Take a load; the answer is `LoadPrepared`.

    Attributes:
        load: Number of the load.
        target: The server.
        arrivals: All arrivals; the process sends its share.
        options: How requests are made, without callbacks.
        part: The share.
        parts: How many processes share the load.
    """

    load: int
    target: ServerTarget
    arrivals: tuple[Arrival, ...]
    options: ReplayOptions
    part: int
    parts: int


@dataclass(frozen=True, slots=True)
class Begin:
    """Send the requests of a load.

    Attributes:
        load: Its number.
        begin_s: When it begins, s of the monotonic clock.
    """

    load: int
    begin_s: float


@dataclass(frozen=True, slots=True)
class Stop:
    """Cancel what is outstanding of a load, and end it."""

    load: int


@dataclass(frozen=True, slots=True)
class Ready:
    """The process has started."""


@dataclass(frozen=True, slots=True)
class LoadPrepared:
    """A load can begin."""

    load: int


@dataclass(frozen=True, slots=True)
class Report:
    """What happened since the last report.

    Attributes:
        load: Number of the load.
        part: The share of the process.
        progress: Its progress.
        chunks: Chunks with tokens that arrived.
        ended: Results of requests that ended.
    """

    load: int
    part: int
    progress: ReplayProgress
    chunks: int
    ended: tuple[RequestResult, ...]


@dataclass(frozen=True, slots=True)
class Ended:
    """The share of a load has ended; its last report came before.

    Attributes:
        load: Number of the load.
        part: The share.
        result: The result, without requests.
        error: Why it failed; empty if it did not.
    """

    load: int
    part: int
    result: LoadResult | None
    error: str = ""


Command = Prepare | Begin | Stop
Answer = Ready | LoadPrepared | Report | Ended
