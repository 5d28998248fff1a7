"""How many tokens/s does a load generator receive, from one thread and from several processes?

A server in a process of its own sends every stream one token a step, as an engine does. It costs
little, so that the client is what is measured: one write a token, no template, no model. Two
questions:

- At more tokens/s than one thread takes (the server holds back what a client does not read): how
  many does it receive, and what do 1,000 tokens cost it in core seconds?
- At a rate that it takes easily: how far is the median and the 99th percentile of the gaps that it
  sees from the step of the server? A client that is too slow reports gaps of its own.

Client and server share the cores of the machine, so with two cores the gain of processes is small;
the core seconds for 1,000 tokens say what one process takes where it has a core of its own. Cases
are interleaved, and each figure is the median of the repeats, with the lowest and the highest.

    nice -n 15 python bench/load_generators.py --repeats 5
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import platform
import resource
import statistics
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

from rich.console import Console
from rich.table import Table

from steppe.load.arrivals import Arrival
from steppe.load.client import ServerTarget
from steppe.load.generators import TOKENS_PER_PROCESS, LoadGenerators
from steppe.load.replay import ReplayOptions
from steppe.measure.provenance import installed_versions, source_commit
from steppe.measure.sweep.saturate import saturated
from targets import at_least, at_most

OUTPUT_TOKENS = 200
WARM_UP_S, WINDOW_S = 1.0, 3.0
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
TOKEN = b'data: {"id":"x","object":"chat.completion.chunk","created":0,"model":"m","choices":[{"index":0,"delta":{"content":" wind"},"logprobs":null,"finish_reason":null}]}\n\n'  # noqa: E501
END = (
    b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"length"}]}\n\n'
    b'data: {"choices":[],"usage":{"prompt_tokens":8,"completion_tokens":%d}}\n\n'
    b"data: [DONE]\n\n" % OUTPUT_TOKENS
)


@dataclass(frozen=True, slots=True)
class Rate:
    """What the server offers.

    Attributes:
        name: Its name.
        streams: Requests outstanding.
        step_s: Time between two tokens of a stream, s.
    """

    name: str
    streams: int
    step_s: float

    @property
    def tps(self) -> float:
        """Tokens/s that it sends."""
        return self.streams / self.step_s


FLOOD = Rate("flood", 400, 0.01)
EASY = Rate("easy", 40, 0.01)
CLIENTS = {"one thread": 0, "one process": 1, "two processes": 2}


class _Stream(asyncio.Protocol):
    """One connection: a token at each step, then the end."""

    def __init__(self, streams: set[_Stream]) -> None:
        self._streams, self.left = streams, OUTPUT_TOKENS
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if self not in self._streams and self.transport is not None:
            self.transport.write(HEAD)
            self._streams.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._streams.discard(self)

    def step(self) -> None:
        assert self.transport is not None
        if self.transport.get_write_buffer_size():  # the client is behind: it gets no more
            return
        self.transport.write(TOKEN)
        self.left -= 1
        if not self.left:
            self.transport.write(END)
            self.transport.close()
            self._streams.discard(self)


def serve(pipe: Connection) -> None:
    """Serve at the pace that the pipe names, until it closes."""
    asyncio.run(_serve(pipe))


async def _serve(pipe: Connection) -> None:
    streams: set[_Stream] = set()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Stream(streams), "127.0.0.1", 0, backlog=1024)
    pipe.send(server.sockets[0].getsockname()[1])
    step_s, due_s = 0.01, loop.time()
    while True:
        if pipe.poll():
            try:
                step_s = pipe.recv()
            except EOFError:
                return
            due_s = loop.time()
        for stream in list(streams):
            stream.step()
        due_s = max(due_s + step_s, loop.time() - step_s)
        await asyncio.sleep(max(0.0, due_s - loop.time()))


@dataclass(slots=True)
class Counted:
    """Chunks that arrived."""

    chunks: int = 0

    def on_chunk(self, count: int) -> None:
        """Count chunks."""
        self.chunks += count


@dataclass(slots=True)
class Samples:
    """Repeats of one case."""

    values: dict[str, list[float]] = field(default_factory=dict)

    def add(self, found: dict[str, float]) -> None:
        """Take one repeat."""
        for name, value in found.items():
            self.values.setdefault(name, []).append(value)

    def row(self) -> dict[str, Any]:
        """Return median and range of each figure."""
        return {
            name: {"median": statistics.median(all_), "low": min(all_), "high": max(all_)}
            for name, all_ in self.values.items()
        }


def measure(
    target: ServerTarget, rate: Rate, generators: LoadGenerators | None
) -> dict[str, float]:
    """Saturate the server and return what the client received, and what that cost it."""
    counted = Counted()
    arrivals = [Arrival(0.0, 8, OUTPUT_TOKENS)] * rate.streams
    options = ReplayOptions(on_chunk=counted.on_chunk)
    with saturated([target], arrivals, rate.streams, options, generators=generators) as load:
        time.sleep(WARM_UP_S)
        begun_s, cores_s, chunks = time.monotonic(), _cores_s(generators), counted.chunks
        time.sleep(WINDOW_S)
        elapsed_s = time.monotonic() - begun_s
        received, used_s = counted.chunks - chunks, _cores_s(generators) - cores_s
    times = load.client_times(load.begun_s)
    found = {
        "tokens_per_s": received / elapsed_s,
        "core_s_per_1000_tokens": 1000 * used_s / max(1, received),
    }
    if times.itl_p50_s is not None and times.itl_p99_s is not None:
        found["gap_p50_over_step"] = times.itl_p50_s / rate.step_s
        found["gap_p99_over_step"] = times.itl_p99_s / rate.step_s
    return found


def _cores_s(generators: LoadGenerators | None) -> float:
    """Return the core seconds of this process and of the load's processes so far."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    total_s = usage.ru_utime + usage.ru_stime
    for pid in generators.pids if generators else ():
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        total_s += (int(fields[11]) + int(fields[12])) / TICKS_PER_S
    return total_s


@contextmanager
def clients(counts: Sequence[int]) -> Generator[dict[int, LoadGenerators | None]]:
    """Start the processes of each case."""
    started = {count: LoadGenerators(count) if count else None for count in counts}
    try:
        yield started
    finally:
        for generators in started.values():
            with nullcontext() if generators is None else _closing(generators):
                pass


@contextmanager
def _closing(generators: LoadGenerators) -> Generator[None]:
    try:
        yield
    finally:
        generators.close()


def run(repeats: int) -> list[dict[str, Any]]:
    """Measure all cases, interleaved."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    server = context.Process(target=serve, args=(theirs,), daemon=True)
    server.start()
    theirs.close()
    target = ServerTarget(f"http://127.0.0.1:{ours.recv()}", "m")
    cases = [(rate, name) for rate in (FLOOD, EASY) for name in CLIENTS]
    samples = {(rate.name, name): Samples() for rate, name in cases}
    console = Console(stderr=True)
    try:
        with clients(sorted(CLIENTS.values())) as started:
            for number in range(repeats):
                for rate, name in cases:
                    ours.send(rate.step_s)
                    found = measure(target, rate, started[CLIENTS[name]])
                    samples[rate.name, name].add(found)
                left_s = (repeats - number - 1) * len(cases) * (WARM_UP_S + WINDOW_S + 0.5)
                console.print(f"{number + 1}/{repeats}, {left_s:.0f} s left", highlight=False)
    finally:
        ours.close()
        server.terminate()
        server.join()
    return [
        {"rate": rate.name, "offered_tps": rate.tps, "client": name}
        | samples[rate.name, name].row()
        for rate, name in cases
    ]


def show(rows: Sequence[dict[str, Any]]) -> None:
    """Print a table."""
    table = Table("offered", "client", "tokens/s", "core s / 1000", "gap p50", "gap p99", box=None)
    for row in rows:
        cells = [
            f"{row[name]['median']:,.3g}" if name in row else "-"
            for name in ("core_s_per_1000_tokens", "gap_p50_over_step", "gap_p99_over_step")
        ]
        rate = row["tokens_per_s"]
        spread = f"{rate['median']:,.0f} ({rate['low']:,.0f} to {rate['high']:,.0f})"
        table.add_row(f"{row['offered_tps']:,.0f}", row["client"], spread, *cells)
    Console().print(table)


def main() -> None:
    """Measure, print a table, and then one JSON document."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    rows = run(parser.parse_args().repeats)
    show(rows)
    by = {(row["rate"], row["client"]): row for row in rows}
    flood = {name: by["flood", name] for name in CLIENTS}
    gain = (
        flood["two processes"]["tokens_per_s"]["median"]
        / flood["one thread"]["tokens_per_s"]["median"]
    )
    cost = by["easy", "one process"]["core_s_per_1000_tokens"]["median"]
    easy = by["easy", "two processes"]["gap_p50_over_step"]["median"]
    document = {
        "bench": "load_generators",
        "commit": source_commit(),
        "hardware": f"{os.cpu_count()} cores shared with the server, {platform.machine()}, load "
        f"{os.getloadavg()[0]:.0f}",
        "versions": installed_versions(),
        "results": rows,
        "targets": [
            at_least("tokens/s of two processes over one thread", gain, "times", 1.0),
            at_most(
                "core of a process at its share", cost * TOKENS_PER_PROCESS / 1000, "cores", 0.5
            ),
            at_most("median gap over the step, easy", easy, "times", 1.05),
        ],
    }
    print(json.dumps(document))


if __name__ == "__main__":
    main()
