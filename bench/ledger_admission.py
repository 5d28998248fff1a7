"""How much latency and CPU time does the ledger's hold add to a request?

The same client sends streamed requests through two gateways, in turns: one without a ledger, and
one that asks the ledger service for a hold before each request. The service has its store on disk
(SQLite, `synchronous=FULL`). The engine waits instead of computing: first token after 20 ms, then
one every 5 ms. Engine, gateways, ledger and client are processes of their own.

A request of a tenant with plenty of credit goes to the replica while the ledger is asked; nothing
of the answer leaves before the ledger has agreed. One of a tenant whose credit is short, or not
known yet, waits for the ledger first: in the third way, each request is of a new tenant.

CPU time is that of gateway, ledger and the HTTP server of the engine together. A real engine takes
more, so the share of a hold in the CPU time of a request is smaller than the one found here.

    python bench/ledger_admission.py --rounds 7 --out bench/results/ledger_admission.json
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from gateway_overhead import EVENT, cpu_s, spread, start_server
from ledger_load import CURRENCY, TARIFF_FILE
from ledger_process import LedgerFolder
from steppe.gateway.driver_news import DriverNews
from steppe.gateway.ledger.link import LedgerLink
from steppe.gateway.server import Gateway, GatewayModel, GatewaySettings, Route
from steppe.ledger.entries import deposited
from steppe.ledger.service.service import LedgerService
from steppe.ledger.store.ledger_store import LedgerStore
from steppe.measure.provenance import source_commit
from targets import at_most

TTFT_S, ITL_S, TOKENS = 0.02, 0.005, 200
"""200 tokens: about the mean of the conversations in the Azure trace of 2023."""
LAST = b'data: {"choices":[],"usage":{"prompt_tokens":64,"completion_tokens":%d}}\n\n' % TOKENS
DONE = b"data: [DONE]\n\n"
BODY = json.dumps(
    {"model": "m", "prompt": "wind " * 64, "max_tokens": TOKENS, "stream": True}
).encode()
WITHOUT, WITH, WAITS = "without a ledger", "with holds", "with holds that are waited for"
CONCURRENCIES = (1, 4, 16)
KEY = "ttft_p50_s"
MOST, PAID = 1_000, 10**12
NEW = [f"new-{number}" for number in range(5_000)]
"""Tenants that each ask once."""


@dataclass(frozen=True, slots=True)
class Level:
    """Latency and CPU time at one concurrency, in one round.

    Attributes:
        ttft_p50_s: Request sent to first event, median, s.
        ttft_p99_s: The same, 99th percentile, s.
        e2e_p50_s: Request sent to its end, median, s.
        cpu_s: CPU time of gateway, ledger and engine for a request, s.
    """

    ttft_p50_s: float
    ttft_p99_s: float
    e2e_p50_s: float
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Way:
    """One way to the engine: its gateway, the tenants, and the processes whose time counts."""

    url: str
    tenants: Iterator[str]
    pids: tuple[int, ...]


async def engine(ready: Connection) -> None:
    """Serve streams at a fixed pace."""

    async def stream(request: web.Request) -> web.StreamResponse:
        await request.read()
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        begin_s = time.monotonic() + TTFT_S
        for token in range(TOKENS):
            await asyncio.sleep(begin_s + token * ITL_S - time.monotonic())
            await response.write(EVENT)
        await response.write(LAST + DONE)
        return response

    application = web.Application()
    application.router.add_post("/{tail:.*}", stream)
    runner = web.AppRunner(application, access_log=None, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    ready.send(f"http://127.0.0.1:{runner.addresses[0][1]}")
    await asyncio.Event().wait()


async def gateway(ready: Connection) -> None:
    """Serve a gateway over the engine, with a ledger if the pipe names one."""
    engine_url, ledger_url = ready.recv()
    link = LedgerLink() if ledger_url else None
    models = (GatewayModel("m", 2.0),)
    server = Gateway(GatewaySettings("127.0.0.1", 0, MOST, 60.0, models, ledger=link))
    url = await server.start()
    server.set_routes((Route("r0", engine_url, MOST),), None)
    server.tell(DriverNews(services={"ledger": ledger_url} if ledger_url else {}))
    ready.send(url)
    while True:
        await asyncio.sleep(1)
        server.drain_finished()


async def ledger(ready: Connection) -> None:
    """Serve a ledger in the folder that the pipe names."""
    folder: LedgerFolder = ready.recv()
    service = LedgerService(folder.settings)
    ready.send(await service.start())
    await asyncio.Event().wait()


@contextlib.contextmanager
def servers(place: Path) -> Iterator[dict[str, Way]]:
    """Start all servers; yields the ways to the engine."""
    tariff = place / "tariff.yaml"
    tariff.write_text(TARIFF_FILE)
    folder = LedgerFolder(place / "ledger", tariff, 0, 3600.0)
    _pay_in(folder.path)
    with contextlib.ExitStack() as stack:
        engine_pid, _, engine_url = start_server(stack, engine)
        ledger_pid, _, ledger_url = start_server(stack, ledger, folder)
        plain_pid, _, plain_url = start_server(stack, gateway, (engine_url, ""))
        pid, _, url = start_server(stack, gateway, (engine_url, ledger_url))
        yield {
            WITHOUT: Way(plain_url, itertools.repeat("lab"), (plain_pid, engine_pid)),
            WITH: Way(url, itertools.repeat("lab"), (pid, ledger_pid, engine_pid)),
            WAITS: Way(url, iter(NEW), (pid, ledger_pid, engine_pid)),
        }


def _pay_in(folder: Path) -> None:
    folder.mkdir(parents=True)
    store = LedgerStore(str(folder / "ledger.db"))
    store.move([deposited(f"paid-{tenant}", tenant, CURRENCY, PAID) for tenant in ("lab", *NEW)], 1)
    store.close()


async def level(
    session: aiohttp.ClientSession, way: Way, *, concurrency: int, seconds: float
) -> Level:
    """Keep so many streams open, each client as many in a row as take so long."""
    ttfts_s, e2es_s = list[float](), list[float]()

    async def client(count: int) -> None:
        for _ in range(count):
            headers = {"X-Steppe-Tenant": next(way.tenants), "Content-Type": "application/json"}
            begin_s = time.perf_counter()
            async with session.post(
                way.url + "/v1/completions", data=BODY, headers=headers
            ) as answer:
                received = await answer.content.readany()
                ttfts_s.append(time.perf_counter() - begin_s)
                received += await answer.read()
                e2es_s.append(time.perf_counter() - begin_s)
            assert answer.status == 200, received
            assert received.endswith(DONE)

    await asyncio.gather(*(client(1) for _ in range(concurrency)))
    ttfts_s.clear()
    e2es_s.clear()
    used_s = sum(map(cpu_s, way.pids))
    count = max(1, round(seconds / (TTFT_S + TOKENS * ITL_S)))
    await asyncio.gather(*(client(count) for _ in range(concurrency)))
    used_s = sum(map(cpu_s, way.pids)) - used_s
    cuts = statistics.quantiles(ttfts_s, n=100)
    e2e_s = statistics.median(e2es_s)
    return Level(cuts[49], cuts[98], e2e_s, used_s / len(ttfts_s))


async def measure(rounds: int, seconds: float) -> list[dict[str, Any]]:
    """Measure all ways in turns; return one row for each way and concurrency."""
    levels: dict[tuple[str, int], list[Level]] = {}
    connector = aiohttp.TCPConnector(limit=0)
    with tempfile.TemporaryDirectory() as place, servers(Path(place)) as ways:
        async with aiohttp.ClientSession(connector=connector) as session:
            for _ in range(rounds):
                for concurrency in CONCURRENCIES:
                    for name, way in ways.items():
                        measured = await level(
                            session, way, concurrency=concurrency, seconds=seconds
                        )
                        levels.setdefault((name, concurrency), []).append(measured)
    return [
        {"way": way, "concurrency": concurrency}
        | {key: spread([asdict(one)[key] for one in runs]) for key in Level.__dataclass_fields__}
        for (way, concurrency), runs in levels.items()
    ]


def added(rows: Sequence[dict[str, Any]], way: str, concurrency: int, key: str) -> float:
    """Return by how much the median of a way is above that without a ledger."""
    found = {(row["way"], row["concurrency"]): row[key]["median"] for row in rows}
    difference: float = found[way, concurrency] - found[WITHOUT, concurrency]
    return difference


def document(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the benchmark's last line."""
    busy = CONCURRENCIES[-1]
    alone_s = next(
        row["cpu_s"]["median"]
        for row in rows
        if (row["way"], row["concurrency"]) == (WITHOUT, busy)
    )
    share = added(rows, WITH, busy, "cpu_s") / alone_s
    latency = [
        at_most(
            f"a hold adds to the TTFT p50, {each} at once", added(rows, WITH, each, KEY), "s", 1e-3
        )
        for each in CONCURRENCIES
    ]
    return {
        "bench": "ledger_admission",
        "commit": source_commit(),
        "hardware": {"machine": platform.machine(), "cpus": os.cpu_count(), "gpu": None},
        "versions": {"python": platform.python_version(), "aiohttp": version("aiohttp")},
        "results": {
            "output_tokens": TOKENS,
            "levels": list(rows),
            "waiting_adds_s": {str(each): added(rows, WAITS, each, KEY) for each in CONCURRENCIES},
            "hold_cpu_s": {str(each): added(rows, WITH, each, "cpu_s") for each in CONCURRENCIES},
        },
        "targets": [
            *latency,
            at_most("CPU time of a hold, of that of its request", share, "share", 0.03),
        ],
    }


def show(rows: Sequence[dict[str, Any]]) -> None:
    """Print the table."""
    print(f"{'way':32} {'c':>3} {'ttft p50 ms':>12} {'p99 ms':>8} {'CPU ms':>8}")
    for row in rows:
        p50, p99, cpu = (row[key]["median"] * 1e3 for key in (KEY, "ttft_p99_s", "cpu_s"))
        print(f"{row['way']:32} {row['concurrency']:3} {p50:12.2f} {p99:8.1f} {cpu:8.2f}")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=4.0, help="per level and way")
    parser.add_argument("--out", type=Path, help="also write the document to this file")
    arguments = parser.parse_args()
    rows = asyncio.run(measure(arguments.rounds, arguments.seconds))
    show(rows)
    made = document(rows)
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(made, indent=1) + "\n")
    print(json.dumps(made))


if __name__ == "__main__":
    main()
