"""What does a request at another site pay for the way through that site's door?

The same streams are asked for at a gateway and, through the door of its site (mutual TLS, token,
checks), at the same gateway; the two take turns. Each event carries the time at which it was sent,
so its delay is known at the client. The gateway sends events as an engine does: 200 bytes, every
20 ms. Gateway, door and client are three processes of one host, so the way has no length: what is
shown is the work alone. The CPU time is that of the process of the door.

    python bench/sites_forward.py
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import platform
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from rich.console import Console
from rich.table import Table

from steppe.ledger.signing import PrivateKey
from steppe.measure.provenance import source_commit
from steppe.sites.peer import HOP
from steppe.sites.service.forward import ForwardDoor, LocalGateway
from steppe.sites.trust.certificates import issue, new_authority, write_credential
from steppe.sites.trust.tls import SiteTls, TlsFiles
from steppe.sites.trust.token import HEADER, Token, sign_token
from steppe.sites.view import PoolView, SiteView
from targets import at_most

HOST, HOME, TARGET, CHAT = "127.0.0.1", "home", "target", "/v1/chat/completions"
KEY = PrivateKey(HOME, b"\1" * 32)
EVENT_BYTES, EVERY_S, SPREAD_S = 200, 0.02, 0.5
BODY = b'{"model":"m","messages":[{"role":"user","content":"Hi"}],"max_tokens":100,"stream":true}'
FIRST_MS, EVENT_MS, CPU_S = 5.0, 1.0, 0.5
VIEW = SiteView(
    TARGET, 1, 0.0, 1e3, 5e2, 5e2, 4e2, 0.0, (), (300_000,), (500.0,), "CNY", "r",
    frozenset({"public"}), {"m": PoolView("m", "r", 1e4, 0, 0.2, 0.02, 3e5)},
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Streamed:
    """One stream at the client.

    Attributes:
        first_s: Request sent until its first event, s.
        delays_s: Delay of each event, from the gateway to the client, s.
    """

    first_s: float
    delays_s: tuple[float, ...]


async def listen(add_routes: Callable[[web.UrlDispatcher], object], tls: SiteTls | None) -> int:
    """Listen; return the port."""
    application = web.Application()
    add_routes(application.router)
    runner = web.AppRunner(application, access_log=None, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, HOST, 0, ssl_context=tls.server if tls else None).start()
    port: int = runner.addresses[0][1]
    return port


async def serve_gateway(pipe: Connection, events: int) -> None:
    """Answer each call with a stream, as a gateway does."""

    async def answer(request: web.Request) -> web.StreamResponse:
        await request.read()
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for _ in range(events):
            now = b"data: %d " % time.monotonic_ns()
            await response.write(now.ljust(EVENT_BYTES - 2, b"x") + b"\n\n")
            await asyncio.sleep(EVERY_S)
        return response

    pipe.send(await listen(lambda router: router.add_post(CHAT, answer), None))
    await answer_cpu(pipe)


async def serve_door(pipe: Connection, folder: Path, gateway: str) -> None:
    """Answer the calls of the home site."""
    door = ForwardDoor(
        TARGET, {HOME: [KEY.public]}, LocalGateway(gateway, (("X-Steppe-Run", "s"),)), lambda: VIEW
    )
    await door.start()
    pipe.send(await listen(door.add_routes, tls_of(folder, TARGET)))
    await answer_cpu(pipe)
    await door.stop()


async def answer_cpu(pipe: Connection) -> None:
    """Answer each question with the CPU time of this process, s, until the end of the pipe."""
    while await asyncio.to_thread(pipe.recv):
        pipe.send(time.process_time())


def run(serve: Callable[..., Coroutine[Any, Any, None]], *rest: Any) -> None:
    """Run a server until the benchmark ends."""
    asyncio.run(serve(*rest))


def tls_of(folder: Path, site: str) -> SiteTls:
    """Return the TLS of a site of a folder."""
    path = folder / f"{site}.pem"
    return SiteTls(TlsFiles(path, path, folder / "authority.pem"))


def write_certificates(folder: Path) -> None:
    """Write an authority and the certificates of both sites."""
    authority = new_authority("bench", time.time())
    (folder / "authority.pem").write_bytes(authority.certificate)
    for site in (HOME, TARGET):
        write_credential(folder / f"{site}.pem", issue(authority, site, time.time()))


def start(serve: Any, *rest: Any) -> tuple[Any, int]:
    """Start a server in a process of its own; return its pipe and its port."""
    here, there = multiprocessing.Pipe()
    context = multiprocessing.get_context("spawn")
    context.Process(target=run, args=(serve, there, *rest), daemon=True).start()
    return here, here.recv()


class Client:
    """Asks for streams, at the gateway or through the door."""

    def __init__(self, gateway: str, door: str, tls: SiteTls) -> None:
        """Keep its parts."""
        self._urls, self._tls = {"gateway": gateway, "door": door}, tls

    async def ask(self, session: aiohttp.ClientSession, way: str) -> Streamed:
        """Return one stream."""
        headers = {"Content-Type": "application/json"}
        if way == "door":
            now_s, request = int(time.time()), f"{uuid.uuid4().hex}.1"
            token = Token(HOME, TARGET, "t", request, 10**9, now_s, now_s + 60)
            headers |= {HOP: "1", HEADER: sign_token(token, KEY)}
        began_s, first_s, delays = time.monotonic(), 0.0, []
        async with session.post(
            self._urls[way] + CHAT,
            data=BODY,
            headers=headers,
            ssl=self._tls.client,
            server_hostname=TARGET if way == "door" else None,
        ) as answer:
            assert answer.status == 200, await answer.text()
            async for line in answer.content:
                if line.startswith(b"data:"):
                    first_s = first_s or time.monotonic() - began_s
                    delays.append(time.monotonic_ns() / 1e9 - int(line.split()[1]) / 1e9)
        return Streamed(first_s, tuple(delays))

    async def ask_many(self, way: str, streams: int) -> list[Streamed]:
        """Return streams that run at the same time, over connections that are open already.

        They begin one after the other, half a second from the first to the last.
        """
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as session:

            async def one(number: int) -> Streamed:
                await asyncio.sleep(SPREAD_S * number / streams)
                return await self.ask(session, way)

            await asyncio.gather(*map(one, range(streams)))
            return await asyncio.gather(*map(one, range(streams)))


def measure(streams: int, events: int, repeats: int) -> dict[str, Any]:
    """Return the figures of both ways."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_certificates(folder)
        gateway_pipe, gateway_port = start(serve_gateway, events)
        gateway = f"http://{HOST}:{gateway_port}"
        pipe, door_port = start(serve_door, folder, gateway)
        client = Client(gateway, f"https://{HOST}:{door_port}", tls_of(folder, HOME))
        found: dict[str, list[Streamed]] = {"gateway": [], "door": []}
        cpu_s = []
        for _ in range(repeats):
            for way in found:
                before_s = ask_cpu(pipe)
                found[way] += asyncio.run(client.ask_many(way, streams))
                if way == "door":
                    cpu_s.append((ask_cpu(pipe) - before_s) / (2 * streams * events))
        for each in (pipe, gateway_pipe):
            each.send(False)
    return {
        "streams": streams,
        **{way: figures(streamed) for way, streamed in found.items()},
        "cpu_s_per_1000_events": 1e3 * statistics.median(cpu_s),
        "repeats": repeats,
    }


def ask_cpu(pipe: Connection) -> float:
    """Return the CPU time of a server, s."""
    pipe.send(True)
    found: float = pipe.recv()
    return found


def figures(streamed: list[Streamed]) -> dict[str, float]:
    """Return the figures of some streams, ms."""
    first = sorted(1e3 * each.first_s for each in streamed)
    events = sorted(1e3 * delay for each in streamed for delay in each.delays_s[1:])
    return {
        "first_p50_ms": statistics.median(first),
        "first_p95_ms": first[int(0.95 * len(first))],
        "event_p50_ms": statistics.median(events),
        "event_p95_ms": events[int(0.95 * len(events))],
    }


def show(rows: list[dict[str, Any]]) -> None:
    """Print the table for people."""
    table = Table(title="The way through the door of a site")
    for heading in ("streams", "way", "first event", "p95", "each event", "p95", "CPU/1,000"):
        table.add_column(heading)
    for one in rows:
        for way in ("gateway", "door"):
            times = [f"{value:.2f} ms" for value in one[way].values()]
            cpu = f"{one['cpu_s_per_1000_events']:.3f} s" if way == "door" else ""
            table.add_row(str(one["streams"]), way, *times, cpu)
    Console(width=100).print(table)


def main() -> None:
    """Measure, print a table, and then one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--streams", default="1,20", help="Streams at one time.")
    parser.add_argument("--events", type=int, default=100, help="Events of a stream.")
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    counts = [int(each) for each in given.streams.split(",")]
    rows = [measure(count, given.events, given.repeats) for count in counts]
    show(rows)
    added = {
        key: max(row["door"][key] - row["gateway"][key] for row in rows)
        for key in ("first_p50_ms", "event_p50_ms")
    }
    worst_cpu_s = max(row["cpu_s_per_1000_events"] for row in rows)
    document = {
        "bench": "sites_forward",
        "commit": source_commit(),
        "hardware": f"{os.cpu_count()} cores, {platform.machine()}",
        "versions": {name: version(name) for name in ("aiohttp",)},
        "results": rows,
        "targets": [
            at_most("added to the first event", added["first_p50_ms"], "ms", FIRST_MS),
            at_most("added to each event", added["event_p50_ms"], "ms", EVENT_MS),
            at_most("CPU time of the door for 1,000 events", worst_cpu_s, "s", CPU_S),
        ],
    }
    print(json.dumps(document))


if __name__ == "__main__":
    main()
