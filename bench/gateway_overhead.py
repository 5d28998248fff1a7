"""How much latency does the gateway add to a request, and how many tokens get through?

The same client sends requests to the same fake engine, directly and through the gateway, in turns.
The engine waits instead of computing: first token after 20 ms, then one every 10 ms, each in its
own event, so every difference is due to the gateway. Engine, gateway and client are processes of
their own; closed loop, one warm-up request per level, the median over the rounds and the spread
between them.

A third way are two gateway processes on one port. With a core for each of the five processes their
tokens per second at saturation would show what the second one is worth. On fewer cores the CPU time
that a token takes in them shows it: two processes that take 1/0.85 of it or less are worth 1.7.

    python bench/gateway_overhead.py --rounds 5 --seconds 2
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.util
import json
import multiprocessing
import os
import platform
import statistics
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from multiprocessing.connection import Connection
from typing import Any

import aiohttp
from aiohttp import web

from gateway_processes import coordinator, shared_gateway
from steppe.gateway.server import Gateway, GatewayModel, GatewaySettings, Route, hold_port
from steppe.measure.provenance import source_commit
from targets import at_least, at_most

TTFT_S, ITL_S, TOKENS = 0.02, 0.01, 32
IDEAL_S = TTFT_S + (TOKENS - 1) * ITL_S
CONCURRENCIES = (1, 16, 64)
DIRECT, ONE, TWO = "direct", "gateway", "two gateways"
EVENT = b'data: {"id":"cmpl-1","choices":[{"index":0,"text":" token","finish_reason":null}]}\n\n'
LAST = b'data: {"choices":[],"usage":{"prompt_tokens":8,"completion_tokens":%d}}\n\n' % TOKENS
WHOLE = b'{"choices":[{"text":"a","finish_reason":"stop"}],"usage":{"prompt_tokens":8}}'


@dataclass(frozen=True, slots=True)
class Level:
    """Latency and throughput at one concurrency, in one round.

    Attributes:
        ttft_p50_s: Request sent to first event, median, s.
        ttft_p99_s: The same, 99th percentile, s.
        output_tps: Tokens received per second.
        cpu_s_per_1000_tokens: CPU time of the gateway per 1000 tokens, s.
    """

    ttft_p50_s: float
    ttft_p99_s: float
    output_tps: float
    cpu_s_per_1000_tokens: float


async def engine(ready: Connection) -> None:
    """Serve streams and whole answers at a fixed pace."""

    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        begin_s = time.monotonic() + TTFT_S
        for token in range(TOKENS):
            await asyncio.sleep(begin_s + token * ITL_S - time.monotonic())
            await response.write(EVENT)
        await response.write(LAST + b"data: [DONE]\n\n")
        return response

    async def answer(request: web.Request) -> web.StreamResponse:
        await request.read()
        if request.path.endswith("/completions"):
            return await stream(request)
        return web.Response(body=WHOLE, content_type="application/json")

    application = web.Application()
    application.router.add_post("/{tail:.*}", answer)
    runner = web.AppRunner(application, access_log=None, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    ready.send(f"http://127.0.0.1:{runner.addresses[0][1]}")
    await asyncio.Event().wait()


async def gateway(ready: Connection) -> None:
    """Serve the gateway over one replica, and forget finished requests each second."""
    server = Gateway(GatewaySettings("127.0.0.1", 0, 1000, 60.0, (GatewayModel("fake", 2.0),)))
    ready.send(await server.start())
    server.set_routes((Route("r0", ready.recv(), 1000),), None)
    ready.send("routed")
    while True:
        await asyncio.sleep(1)
        server.drain_finished()


def run(main: Callable[[Connection], Coroutine[Any, Any, None]], ready: Connection) -> None:
    """Run a server in this process, on uvloop where it is installed, as Ray does."""
    with contextlib.suppress(KeyboardInterrupt), asyncio.Runner(loop_factory=_loop()) as runner:
        runner.run(main(ready))


@dataclass(frozen=True, slots=True)
class Way:
    """One way to the engine: its URL, and the processes of the gateways on it."""

    url: str
    pids: tuple[int, ...] = ()


@contextlib.contextmanager
def servers() -> Iterator[dict[str, Way]]:
    """Start all servers; yields the ways to the engine."""
    with contextlib.ExitStack() as stack:
        _, _, direct_url = start_server(stack, engine)
        pid, ours, gateway_url = start_server(stack, gateway)
        ours.send(direct_url)
        ours.recv()
        held, port = hold_port("127.0.0.1", 0)
        stack.enter_context(held)
        _, _, coordinator_url = start_server(stack, coordinator)
        both = [
            start_server(stack, shared_gateway, (name, port, coordinator_url, direct_url))
            for name in ("0", "1")
        ]
        pids = tuple(each[0] for each in both)
        yield {DIRECT: Way(direct_url), ONE: Way(gateway_url, (pid,)), TWO: Way(both[0][2], pids)}


def start_server(
    stack: contextlib.ExitStack,
    main: Callable[[Connection], Coroutine[Any, Any, None]],
    first: object = None,
) -> tuple[int, Connection, str]:
    """Start a server; return its process id, its pipe and its URL."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=run, args=(main, theirs), daemon=True)
    process.start()
    stack.callback(process.join)
    stack.callback(process.terminate)
    if first is not None:
        ours.send(first)
    return process.pid or 0, ours, ours.recv()


async def whole_p50_s(session: aiohttp.ClientSession, url: str, count: int = 200) -> float:
    """Return the median time of a whole answer, one request at a time, s."""
    times_s = []
    for _ in range(count):
        begin_s = time.perf_counter()
        async with session.post(url + "/v1/embeddings", data=b"{}") as answer:
            await answer.read()
        times_s.append(time.perf_counter() - begin_s)
    return statistics.median(times_s)


async def level(
    session: aiohttp.ClientSession, way: Way, *, concurrency: int, seconds: float
) -> Level:
    """Keep `concurrency` streams open, each client as many in a row as take `seconds`."""
    ttfts_s: list[float] = []
    tokens = 0

    async def client(count: int) -> None:
        nonlocal tokens
        for _ in range(count):
            begin_s = time.perf_counter()
            async with session.post(way.url + "/v1/completions", data=b"{}") as answer:
                received = await answer.content.readany()
                ttfts_s.append(time.perf_counter() - begin_s)
                received += await answer.read()
            assert received == EVENT * TOKENS + LAST + b"data: [DONE]\n\n"
            tokens += TOKENS

    await client(1)
    ttfts_s.clear()
    tokens, before_s, begin_s = 0, sum(map(cpu_s, way.pids)), time.perf_counter()
    count = max(1, round(seconds / IDEAL_S))
    await asyncio.gather(*(client(count) for _ in range(concurrency)))
    elapsed_s = time.perf_counter() - begin_s
    cuts = statistics.quantiles(ttfts_s, n=100)
    used_s = sum(map(cpu_s, way.pids)) - before_s
    return Level(cuts[49], cuts[98], tokens / elapsed_s, used_s / tokens * 1000)


async def hang_up_s(session: aiohttp.ClientSession, url: str) -> float:
    """Return the time from a client's hang-up until its place is free, s."""
    answer = await session.post(url + "/v1/completions", data=b"{}")
    await answer.content.readany()
    answer.close()
    begin_s = time.perf_counter()
    while True:
        async with session.get(url + "/metrics") as metrics:
            if 'steppe_requests_outstanding{replica="r0"} 0.0' in await metrics.text():
                return time.perf_counter() - begin_s


async def measure(rounds: int, seconds: float) -> dict[str, Any]:
    """Measure all ways in turns; return medians over the rounds."""
    wholes: dict[str, list[float]] = {DIRECT: [], ONE: [], TWO: []}
    levels: dict[tuple[str, int], list[Level]] = {}
    hang_ups_s = []
    with servers() as ways:
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as session:
            for _ in range(rounds):
                for name, way in ways.items():
                    wholes[name].append(await whole_p50_s(session, way.url))
                for concurrency in CONCURRENCIES:
                    for name, way in ways.items():
                        measured = await level(
                            session, way, concurrency=concurrency, seconds=seconds
                        )
                        levels.setdefault((name, concurrency), []).append(measured)
                hang_ups_s.append(await hang_up_s(session, ways[ONE].url))
    return {
        "whole_p50_s": {way: spread(times_s) for way, times_s in wholes.items()},
        "levels": [
            {"way": way, "concurrency": c}
            | {k: spread([asdict(one)[k] for one in runs]) for k in KEYS}
            for (way, c), runs in levels.items()
        ],
        "hang_up_s": spread(hang_ups_s),
        "worth_of_two": worth_of_two(
            levels[ONE, CONCURRENCIES[-1]], levels[TWO, CONCURRENCIES[-1]]
        ),
    }


def worth_of_two(one: list[Level], two: list[Level]) -> float:
    """Return the tokens of two busy processes, each on a core, over those of one."""
    cost = [statistics.median(run.cpu_s_per_1000_tokens for run in runs) for runs in (one, two)]
    return 2 * cost[0] / cost[1]


KEYS = tuple(Level.__dataclass_fields__)


def show(results: dict[str, Any]) -> None:
    """Print the table."""
    whole = results["whole_p50_s"]
    both = ", ".join(f"{way} {whole[way]['median'] * 1e3:.2f} ms" for way in whole)
    print(f"whole answer, p50 at concurrency 1: {both}")
    print(f"hang-up frees the place after {results['hang_up_s']['max'] * 1e3:.1f} ms at most")
    print(f"two processes are worth {results['worth_of_two']:.2f} of one, by their CPU time")
    print(f"{'way':12} {'c':>3} {'ttft p50 ms':>12} {'p99 ms':>8} {'tokens/s':>9} {'of ideal':>9}")
    for row in results["levels"]:
        ideal_tps = row["concurrency"] * TOKENS / IDEAL_S
        p50, p99, tps = (row[key]["median"] for key in KEYS[:3])
        share = tps / ideal_tps
        print(
            f"{row['way']:12} {row['concurrency']:3} {p50 * 1e3:12.1f} {p99 * 1e3:8.1f} "
            f"{tps:9.0f} {share:9.2f}"
        )


def document(results: dict[str, Any]) -> dict[str, Any]:
    """Return the benchmark's last line."""
    hang_up = results["hang_up_s"]["max"]
    return {
        "bench": "gateway_overhead",
        "commit": source_commit(),
        "hardware": {"machine": platform.machine(), "cpus": os.cpu_count(), "gpu": None},
        "versions": {"python": platform.python_version(), "aiohttp": version("aiohttp")},
        "results": results,
        "targets": [
            at_most("a client that hangs up frees its place", hang_up, "s", 1.0),
            at_least("two processes by their CPU time", results["worth_of_two"], "times one", 1.7),
        ],
    }


def spread(values: list[float]) -> dict[str, float]:
    """Return median, least and largest of some values."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def cpu_s(pid: int) -> float:
    """Return the CPU time that a process has taken, s."""
    clock = (~pid << 3) | 2  # what clock_getcpuclockid(3) returns: finer than /proc/PID/stat
    return time.clock_gettime(clock)


def _loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    if importlib.util.find_spec("uvloop") is None:
        return None
    import uvloop

    return uvloop.new_event_loop


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="per level and way")
    arguments = parser.parse_args()
    with asyncio.Runner(loop_factory=_loop()) as runner_:
        outcome = runner_.run(measure(arguments.rounds, arguments.seconds))
    show(outcome)
    print(json.dumps(document(outcome)))
